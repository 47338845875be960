r"""Nodes and weights for means over a Gaussian variable, whatever its variance.

An activation changes on a scale of its own about zero, the Gaussian on the scale of √q about its
mean, and the one may be a million times the other. The line within nine standard deviations is
therefore cut into panels, evenly for the Gaussian and, towards zero, each panel a fixed part of
the one before. So every panel is short on the scale of its distance from zero, and also on that of
the Gaussian, and a rule of Gauss and Legendre in each converges at a rate that does not depend on
q. Zero is an end of panels, never a node: kinks and jumps there cost nothing.
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


ONE = Rule(order=12, even=12, levels=20, ratio=3)
PAIR = Rule(order=10, even=10, levels=12, ratio=3)
# Others, to see how far the first are right.
OTHER_ONE = Rule(order=13, even=11, levels=21, ratio=2.8)
OTHER_PAIR = Rule(order=9, even=11, levels=13, ratio=2.8)


def nodes(
    rule: Rule, q: Array, mean: Array | None = None, *, least: float = 1.0
) -> tuple[Array, Array]:
    """Return u = m + √q z and weights, each `[..., n]`, for N(m, q); m = 0 where `mean` is None.

    At q = 0 the nodes lie closer to m than anything that f could resolve, on both sides of it: a
    mean is then the limit from above. `least` shrinks the distance between them there. NaN where q
    or m is.
    """
    s = standard_deviation(q, least)[..., None]
    if mean is None:
        z, weight = (jnp.asarray(x, q.dtype) for x in _panels(rule, np.zeros(1), np))
        return s * z, weight
    m = mean[..., None]
    # Beyond 1e3 standard deviations zero is out of sight. Where the cuts stand is no part of the
    # value, nor of its derivative.
    zero = jax.lax.stop_gradient(jnp.clip(-m / s, -1e3, 1e3))
    z, weight = _panels(rule, zero, jnp)
    return m + s * z, weight


def weighted(weight: Array, values: Array) -> Array:
    """Return Σ weight · values over the nodes; where a panel is empty its values don't matter."""
    return jnp.sum(jnp.where(weight == 0, 0, weight * values), -1)


def standard_deviation(q: Array, least: float = 1.0) -> Array:
    """Return √q, at least so much that nodes stand on both sides of zero, their squares at zero."""
    return jnp.maximum(jnp.sqrt(q), least * float(jnp.finfo(q.dtype).tiny) ** (2 / 3))


def _panels(rule, zero, xp):
    """z and weights `[..., n]`, panels cut about `zero [..., 1]`, with `xp` NumPy or jax.numpy."""
    dtype = zero.dtype
    even = np.linspace(-REACH, REACH, rule.even + 1).astype(dtype)
    part = (float(rule.ratio) ** -np.arange(1, rule.levels + 1)).astype(dtype)
    graded = (xp.abs(zero) + REACH) * part
    even = xp.broadcast_to(even, (*zero.shape[:-1], len(even)))
    cuts = xp.concatenate([even, zero, zero + graded, zero - graded], -1)
    cuts = xp.sort(xp.clip(cuts, -REACH, REACH), -1)[..., None]
    middle, half = (cuts[..., 1:, :] + cuts[..., :-1, :]) / 2, xp.diff(cuts, axis=-2) / 2
    x, w = (part.astype(dtype) for part in np.polynomial.legendre.leggauss(rule.order))
    z = middle + half * x
    weight = half * w * xp.exp(-z * z / 2)
    count = (cuts.shape[-2] - 1) * rule.order
    flat = lambda values: values.reshape(*zero.shape[:-1], count)
    z, weight = flat(z), flat(weight)
    return z, weight / weight.sum(-1, keepdims=True)
