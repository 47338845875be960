r"""Nodes and weights for means over a Gaussian variable of any variance.

An activation changes on a scale of its own about zero, the Gaussian on the scale of √q about its
mean, and the one may be a million times the other: the nodes of Gauss and Hermite, on the scale of
the Gaussian, would all miss the slope of φ. The line within nine standard deviations is cut into
panels instead, evenly for the Gaussian and geometrically towards zero. So every panel is short on
the scale of its distance from zero and on that of the Gaussian, and a rule of Gauss and Legendre in
each converges at a rate that does not depend on q. Zero is an end of panels, never a node: kinks
and jumps there cost nothing.

The number of panels is fixed, and for a large √q the last cut is still far from where φ changes. A
few more are then put where |u| is about 1. Between these and the others a panel is exact if φ is a
polynomial there up to what is exponentially small, as the tails of tanh, the logistic function, its
logarithm and rectifiers are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

REACH = 9.0
"""Standard deviations within which nodes lie; the mass beyond is 2e-19."""


class Rule(NamedTuple):
    """A composite quadrature rule.

    Attributes:
      order: nodes of a panel.
      even: number of panels of equal length.
      levels: number of geometric cuts on each side of zero.
      ratio: the distance from zero of one cut over that of the next.
      least: |u| of the lowest cut where √q is large.
      lower: number of cuts on each side from there up; their panels are empty where √q is small.
    """

    order: int
    even: int
    levels: int
    ratio: float
    least: float
    lower: int


ONE = Rule(order=12, even=12, levels=20, ratio=3, least=1 / 8, lower=6)
PAIR = Rule(order=10, even=10, levels=12, ratio=3, least=1.0, lower=4)
# Rules with other cuts and other nodes: what two of them agree on is no accident of where the nodes
# are, so that their difference stands for the error.
OTHER_ONE = Rule(order=13, even=11, levels=21, ratio=2.8, least=1 / 9, lower=6)
OTHER_PAIR = Rule(order=9, even=11, levels=13, ratio=2.8, least=0.9, lower=4)


def nodes(
    rule: Rule, q: Array, mean: Array | None = None, *, least: float = 1.0
) -> tuple[Array, Array]:
    """Return u = m + √q z and weights, each `[..., n]`, for N(m, q); m = 0 where `mean` is None.

    At q = 0 the nodes lie on both sides of m, closer than f can resolve, so that a mean is the
    limit from above. `least` shrinks their distance there. NaN where q or m is.
    """
    s = standard_deviation(q, least)[..., None]
    # Cuts are no part of the mean, and neither of its derivative: with z fixed, u = m + √q z moves
    # with m and √q, and that is all of it.
    fixed = jax.lax.stop_gradient(s)
    if mean is None:
        z, weight = _about_zero(rule, fixed)
        return s * z, weight
    m = mean[..., None]
    z, weight = _panels(rule, _cuts(rule, jax.lax.stop_gradient(m), fixed))
    return m + s * z, weight


def weighted(weight: Array, values: Array) -> Array:
    """Return Σ weight · values over the nodes."""
    # An empty panel has its nodes where f may be infinite, and 0 · ∞ would be NaN.
    return jnp.sum(jnp.where(weight == 0, 0, weight * values), -1)


def standard_deviation(q: Array, least: float = 1.0) -> Array:
    """Return √q, or the least s for which nodes stand on both sides of zero."""
    # s = tiny^⅔ is a normal number, so that f sees the sign of u at its kink or jump, while s² is
    # flushed to zero, so that ⟨u²⟩ at q = 0 is 0 exactly.
    return jnp.maximum(jnp.sqrt(q), least * float(jnp.finfo(q.dtype).tiny) ** (2 / 3))


def _about_zero(rule: Any, s: Any):
    """Return z and weights `[..., n]` for m = 0: constants, computed once, unless s is large."""
    # Cuts depend on s only where the lowest of them, `least` / s, is below the last geometric one.
    # XLA folds the constants; the other branch costs exponentials for each q.
    large = lambda s: _panels(rule, _cuts_about_zero(rule, s))
    constants = large(jnp.ones(1, s.dtype))
    small = lambda s: tuple(jnp.broadcast_to(x, (*s.shape[:-1], *x.shape)) for x in constants)
    is_large = s > float(rule.least / (REACH * _part(rule)[-1]))
    return jax.lax.cond(jnp.any(is_large), large, small, s)


def _panels(rule: Any, cuts: Any):
    """Return z and weights `[..., n]`, with panels between these cuts, sorted."""
    dtype = cuts.dtype
    cuts = cuts[..., None]
    middle, half = (cuts[..., 1:, :] + cuts[..., :-1, :]) / 2, jnp.diff(cuts, axis=-2) / 2
    x, w = (part.astype(dtype) for part in np.polynomial.legendre.leggauss(rule.order))
    z = middle + half * x
    # Divided by its own sum below, the density needs no √(2π), the mean of a constant is exact, and
    # the mass beyond REACH is shared out.
    weight = half * w * jnp.exp(-z * z / 2)
    flat = lambda values: values.reshape(*values.shape[:-2], values.shape[-2] * rule.order)
    z, weight = flat(z), flat(weight)
    return z, weight / weight.sum(-1, keepdims=True)


def _cuts(rule: Any, m: Any, s: Any):
    """Return cuts of the line of z, with m + s z = 0 at one of them, for m and s `[..., 1]`."""
    # A cut outside of ±REACH is clipped to its end and makes an empty panel: the number of panels
    # is static. −m/s itself may overflow; beyond 1e3 standard deviations zero is out of reach.
    dtype = s.dtype
    zero = jnp.clip(-m / s, -1e3, 1e3)
    even = jnp.asarray(np.linspace(-REACH, REACH, rule.even + 1), dtype)
    even = jnp.broadcast_to(even, (*zero.shape[:-1], *even.shape))
    graded = (jnp.abs(zero) + REACH) * _part(rule).astype(dtype)
    graded = jnp.concatenate([graded, _lower(rule, s, graded[..., -1:])], -1)
    cuts = jnp.concatenate([even, zero, zero + graded, zero - graded], -1)
    return jnp.sort(jnp.clip(cuts, -REACH, REACH), -1)


def _cuts_about_zero(rule: Any, s: Any):
    """Return the cuts for m = 0, whose order is known, so that none are sorted."""
    even = np.linspace(0, REACH, rule.even // 2 + 1)
    if rule.even % 2:
        even = np.linspace(REACH / rule.even, REACH, rule.even // 2 + 1)
    upper = np.unique([*even[even > 0], *(REACH * _part(rule))]).astype(s.dtype)
    lower = _lower(rule, s, upper[:1])
    right = jnp.concatenate([lower, jnp.broadcast_to(upper, (*s.shape[:-1], len(upper)))], -1)
    return jnp.concatenate([-right[..., ::-1], jnp.zeros_like(s), right], -1)


def _part(rule: Any):
    return float(rule.ratio) ** -np.arange(1, rule.levels + 1)


def _lower(rule: Any, s: Any, upper: Any):
    """Return distances of the lower cuts from zero in standard deviations, none above `upper`."""
    u = (rule.least * float(rule.ratio) ** np.arange(rule.lower)).astype(s.dtype)
    return jnp.minimum(u / s, upper)
