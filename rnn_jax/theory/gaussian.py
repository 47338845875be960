r"""Means over Gaussian variables, whose derivatives are again means over Gaussian variables.

.. math::
    \frac{\partial}{\partial q} \langle f(m + \sqrt q z) \rangle
        = \tfrac12 \langle f''(m + \sqrt q z) \rangle, \qquad
    \frac{\partial}{\partial c} \langle f(u) f(v) \rangle = \langle f'(u) f'(v) \rangle, \qquad
    \frac{\partial}{\partial q} \langle f(u) f(v) \rangle = \langle f''(u) f(v) \rangle

with z ~ N(0, 1), and u, v of variance q and covariance c (the heat equation; Price 1958). So q = 0
and c = q, where √q and √(q − c) have no derivative, are regular points, the limits from above.

**A jump or a kink at zero**, as of a step or a rectifier, adds to these derivatives: where f jumps
by J at 0, f' has a J δ(u) that automatic differentiation does not see, and ⟨δ(u)⟩ is the density of
u at 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.theory.arguments import Elementwise, check_elementwise, numbers, where_known, within
from rnn_jax.theory.quadrature import ONE, PAIR, Rule, nodes, standard_deviation, weighted
from rnn_jax.types import Array


def gaussian_mean(f: Elementwise, q: Any, mean: Any = 0.0) -> Array:
    """Return ⟨f(m + √q z)⟩, z ~ N(0, 1), for variances `q [...]` and means `mean [...]`: `[...]`.

    The error is below 1e-12 of the largest |f| within nine standard deviations, for any q, where
    f is smooth on the scale of its distance from 0, as tanh, the logistic function, their
    logarithms and rectifiers are. For √q beyond 1e8 the scale of f must also be about 1. Kinks and
    steep places elsewhere cost accuracy. What lies beyond nine standard deviations, a mass of
    2e-19, is left out: f must not grow faster than a power.

    Args:
      f: elementwise function.
      q: variances, at least 0.
      mean: means, m, of the shape of q or one that broadcasts with it.

    Raises:
      ValueError: a negative q, outside `jit` (inside, the mean is NaN); no numbers; an f that is no
        function of an array.
    """
    q, mean = numbers(q=q, mean=mean)
    check_elementwise("f", f, q.dtype)
    return mean_over(ONE, f, within("q", q, least=0), within("mean", mean, infinite=True))


def gaussian_pair_mean(f: Elementwise, q: Any, c: Any) -> Array:
    """Return ⟨f(u) f(v)⟩ for u, v of variance `q [...]` and covariance `c [...]`: `[...]`.

    For f as in `gaussian_mean` the error is below 1e-11 of the largest f² while 1 − |c| / q is
    above 1e-8, and measured below 1e-10 beyond. Its scale must be about 1 for √q beyond 1e4.

    Args:
      f: elementwise function.
      q: variances, at least 0.
      c: covariances, |c| ≤ q.

    Raises:
      ValueError: as for `gaussian_mean`; |c| > q, outside `jit`.
    """
    q, c = numbers(q=q, c=c)
    check_elementwise("f", f, q.dtype)
    q = within("q", q, least=0)
    rounding = 1 + 8 * jnp.finfo(q.dtype).eps
    known = (jnp.abs(c) <= rounding * q) | jnp.isnan(c) | jnp.isnan(q)
    c = where_known("c", c, known, "covariances of at most q in size")
    return pair_mean_over(PAIR, f, f, q, c)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def mean_over(rule: Rule, f: Elementwise, q: Array, mean: Array | None) -> Array:
    """Return ⟨f(m + √q z)⟩ by `rule`, m = 0 where `mean` is None."""
    u, weight = nodes(rule, q, mean)
    return weighted(weight, f(u))


@mean_over.defjvp
def _(rule: Any, f: Callable[..., Any], at: Any, tangents: Any):
    # By the heat equation, ∂⟨f⟩/∂q = ½ ⟨f''⟩, rather than through the nodes u = m + √q z, whose
    # derivative ⟨f' z⟩ / (2 √q) is 0/0 at q = 0 and loses digits near it.
    (q, mean), (dq, dmean) = at, tangents
    df = derivative(f)
    jump, kink = _jump(f, q.dtype), _jump(df, q.dtype)
    by_q = mean_over(rule, derivative(df), q, mean)
    by_mean = 0 if mean is None else mean_over(rule, df, q, mean)
    if jump or kink:
        m = jnp.zeros_like(q) if mean is None else mean
        at_zero = _density(m, q)
        by_q += (kink - jump * m / jnp.where(q > 0, q, 1)) * at_zero  # ⟨δ'(u)⟩ = −p'(0)
        by_mean += jump * at_zero
    moved = 0.5 * by_q * dq + (0 if mean is None else by_mean * dmean)
    return mean_over(rule, f, q, mean), moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def pair_mean_over(rule: Rule, f: Elementwise, g: Elementwise, q: Array, c: Array) -> Array:
    """Return ⟨f(u) g(v)⟩ by `rule`: given u, v has mean (c / q) u and variance q − c² / q."""
    u, weight = nodes(rule, q, None)
    # At c = q, v is u. `nodes` puts v beside its mean u, not on it: that distance must be far below
    # the least u, or the signs of u and v would differ there.
    v, v_weight = nodes(rule, _left(q, c)[..., None], _slope(q, c)[..., None] * u, least=1e-9)
    return weighted(weight, f(u) * weighted(v_weight, g(v)))


@pair_mean_over.defjvp
def _(rule: Any, f: Callable[..., Any], g: Any, at: Any, tangents: Any):
    (q, c), (dq, dc) = at, tangents
    df, dg = derivative(f), derivative(g)
    by_c = pair_mean_over(rule, df, dg, q, c) + _steps_by_c(rule, f, g, q, c)
    by_q = _by_one_variance(rule, f, g, q, c) + _by_one_variance(rule, g, f, q, c)
    return pair_mean_over(rule, f, g, q, c), 0.5 * by_q * dq + by_c * dc


def _by_one_variance(rule: Any, f: Callable[..., Any], g: Any, q: Array, c: Array):
    """Return ⟨f''(u) g(v)⟩ with what the jumps of f and f' at zero add: ⟨δ g⟩ and ⟨δ' g⟩."""
    # A kink K of f at 0 gives K δ(u) g(v): the density of u at 0 times the mean of g given u = 0,
    # where v has mean 0 and variance `left`. A jump J gives J δ'(u) g(v), by parts −J δ(u) d/du of
    # that mean: v moves by (c/q) du, and a jump of g itself adds its density at 0.
    df = derivative(f)
    jump, kink = _jump(f, q.dtype), _jump(df, q.dtype)
    total = pair_mean_over(rule, derivative(df), g, q, c)
    if jump or kink:
        left, zero = _left(q, c), jnp.zeros_like(q)
        at_zero = _density(zero, q)
        total += kink * at_zero * mean_over(ONE, g, left, None)
        if jump:
            slope_of_g = mean_over(ONE, derivative(g), left, None)
            slope_of_g += _jump(g, q.dtype) * _density(zero, left)
            total -= jump * at_zero * _slope(q, c) * slope_of_g
    return total


def _steps_by_c(rule: Any, f: Callable[..., Any], g: Any, q: Array, c: Array):
    """Return what the jumps of f and g at zero add to ⟨f'(u) g'(v)⟩."""
    left, zero = _left(q, c), jnp.zeros_like(q)
    f_jump, g_jump = _jump(f, q.dtype), _jump(g, q.dtype)
    total = zero
    for jump, other in ((f_jump, g), (g_jump, f)):
        if jump:
            total += jump * _density(zero, q) * mean_over(ONE, derivative(other), left, None)
    if f_jump and g_jump:
        total += f_jump * g_jump * _density(zero, q) * _density(zero, left)
    return total


def _left(q: Array, c: Array):
    """Return the variance of v given u, q − c²/q, in factors that do not cancel."""
    return jnp.maximum((q - c) * ((q + c) / jnp.where(q > 0, q, 1)), 0)


def _slope(q: Array, c: Array):
    """Return the mean of v over u, c / q; 1 for q = 0, where u and v are the same number."""
    return jnp.where(q > 0, c / jnp.where(q > 0, q, 1), 1)


def _density(mean: Any, q: Array):
    """Return the density of N(m, q) at zero."""
    s = standard_deviation(q)
    return jnp.exp(-0.5 * jnp.square(mean / s)) / (np.sqrt(2 * np.pi).astype(q.dtype) * s)


def _jump(f: Elementwise, dtype: Any) -> float:
    """Return f(0+) − f(0−), known while tracing; 0 for a function that is continuous."""
    # Evaluated on the two smallest normal numbers, between which a continuous f differs by about
    # its slope times tiny; up to √tiny nothing is called a jump.
    tiny = float(jnp.finfo(dtype).tiny)
    with jax.ensure_compile_time_eval():
        above, below = np.asarray(f(jnp.asarray([tiny, -tiny], dtype)), np.float64)
    return float(above - below) if not abs(above - below) < tiny**0.5 else 0.0


def derivative(f: Elementwise) -> Elementwise:
    """Return f', elementwise."""
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1]
