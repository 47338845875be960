r"""Nodes and weights for means over a Gaussian variable, whatever its variance.

An activation changes on a scale of its own about zero, the Gaussian on the scale of √q about its
mean, and the one may be a million times the other. The line within nine standard deviations is
therefore cut into panels, evenly for the Gaussian and, towards zero, each panel a fixed part of
the one before. So every panel is short on the scale of its distance from zero, and also on that of
the Gaussian, and a rule of Gauss and Legendre in each converges at a rate that does not depend on
q. Zero is an end of panels, never a node: kinks and jumps there cost nothing.

The panels are counted, and for a large √q the last of them would still be far from where φ changes.
There the lowest stay where |u| is about 1, and the others are stretched to meet the Gaussian. What
lies between are tails: exact if they are polynomials up to what is exponentially small, as those of
tanh, the logistic function, its logarithm and the rectifier are.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

REACH = 9.0  # standard deviations; the mass beyond is 2e-19


class Rule(NamedTuple):
    """Panels, and what stands in each.

    Attributes:
      order: nodes in a panel.
      even: panels of the same length.
      levels: cuts on each side of zero.
      ratio: the distance from zero of one cut over that of the next.
    """

    order: int
    even: int
    levels: int
    ratio: float
    least: float
    lower: int


ONE = Rule(order=12, even=12, levels=20, ratio=3, least=1 / 64, lower=8)
PAIR = Rule(order=10, even=10, levels=12, ratio=3, least=1 / 8, lower=6)
# Others, to see how far the first are right.
OTHER_ONE = Rule(order=13, even=11, levels=21, ratio=2.8, least=1 / 50, lower=8)
OTHER_PAIR = Rule(order=9, even=11, levels=13, ratio=2.8, least=1 / 7, lower=6)


def nodes(
    rule: Rule, q: Array, mean: Array | None = None, *, least: float = 1.0
) -> tuple[Array, Array]:
    """Return u = m + √q z and weights, each `[..., n]`, for N(m, q); m = 0 where `mean` is None.

    At q = 0 the nodes lie closer to m than anything that f could resolve, on both sides of it: a
    mean is then the limit from above. `least` shrinks the distance between them there. NaN where q
    or m is.
    """
    s = standard_deviation(q, least)[..., None]
    # Where the cuts stand is no part of the value, nor of its derivative.
    fixed = jax.lax.stop_gradient(s)
    if mean is None:
        z, weight = _about_zero(rule, fixed)
        return s * z, weight
    m = mean[..., None]
    z, weight = _panels(rule, _cuts(rule, jax.lax.stop_gradient(m), fixed))
    return m + s * z, weight


def weighted(weight: Array, values: Array) -> Array:
    """Return Σ weight · values over the nodes; where a panel is empty its values don't matter."""
    return jnp.sum(jnp.where(weight == 0, 0, weight * values), -1)


def standard_deviation(q: Array, least: float = 1.0) -> Array:
    """Return √q, at least so much that nodes stand on both sides of zero, their squares at zero."""
    return jnp.maximum(jnp.sqrt(q), least * float(jnp.finfo(q.dtype).tiny) ** (2 / 3))


def _about_zero(rule, s):
    """z and weights `[..., n]` for m = 0: constants, computed once, unless cuts are stretched."""
    stretched = lambda s: _panels(rule, _cuts_about_zero(rule, s))
    unstretched = stretched(jnp.ones(1, s.dtype))
    plain = lambda s: tuple(jnp.broadcast_to(x, (*s.shape[:-1], *x.shape)) for x in unstretched)
    return jax.lax.cond(jnp.any(_reached(rule, REACH * s) > 1), stretched, plain, s)


def _panels(rule, cuts):
    """z and weights `[..., n]`, with panels between these cuts, sorted."""
    dtype = cuts.dtype
    cuts = cuts[..., None]
    middle, half = (cuts[..., 1:, :] + cuts[..., :-1, :]) / 2, jnp.diff(cuts, axis=-2) / 2
    x, w = (part.astype(dtype) for part in np.polynomial.legendre.leggauss(rule.order))
    z = middle + half * x
    weight = half * w * jnp.exp(-z * z / 2)
    flat = lambda values: values.reshape(*values.shape[:-2], values.shape[-2] * rule.order)
    z, weight = flat(z), flat(weight)
    return z, weight / weight.sum(-1, keepdims=True)


def _cuts(rule, m, s):
    """Cuts of the line of z, where m + s z is zero at one of them, m and s `[..., 1]`."""
    dtype = s.dtype
    zero = jnp.clip(-m / s, -1e3, 1e3)  # beyond 1e3 standard deviations it is out of sight
    even = jnp.broadcast_to(_even(rule).astype(dtype), (*zero.shape[:-1], rule.even + 1))
    level = np.arange(1, rule.levels + 1)
    extent = jnp.abs(zero) + REACH
    part = (float(rule.ratio) ** -level).astype(dtype)
    graded = extent * part * _stretch(rule, level, extent * s)
    cuts = jnp.concatenate([even, zero, zero + graded, zero - graded], -1)
    return jnp.sort(jnp.clip(cuts, -REACH, REACH), -1)


def _cuts_about_zero(rule, s):
    """The same for m = 0, where the order of the cuts is known: stretching leaves it as it is."""
    level = np.arange(1, rule.levels + 1)
    graded = REACH * float(rule.ratio) ** -level
    even = _even(rule)
    cuts = np.concatenate([even, [0.0] * (0 not in even), graded, -graded])
    of_level = np.concatenate([np.zeros(len(cuts) - 2 * rule.levels, int), level, level])
    order = np.argsort(cuts)
    return cuts[order].astype(s.dtype) * _stretch(rule, of_level[order], REACH * s)


def _stretch(rule, level, extent):
    """Factors for the cuts of these levels, so that the last, of `extent` |u|, come to `least`."""
    # The first stay among the even cuts, the last keep their ratio, those between take it all.
    first = int(np.log(rule.even / 2) / np.log(rule.ratio)) + 1
    between = rule.levels - rule.lower - first
    share = np.clip(level - first, 0, between) / between
    return jnp.maximum(_reached(rule, extent), 1) ** -share.astype(extent.dtype)


def _reached(rule, extent):
    """|u| of the lowest cut before any is stretched, over what it shall be at most."""
    return extent * (float(rule.ratio) ** -rule.levels / rule.least)


def _even(rule):
    return np.linspace(-REACH, REACH, rule.even + 1)
