"""Fixed points of maps of one number, and whether they were found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

ITERATIONS = 128
TOLERANCE = {4: 1e-3, 8: 1e-6}
"""How far off, by the bytes of a float, what is called converged may be."""

Map = Callable[[Array], Array]


def fixed_point(
    function: Map, again: Map, *, start: Array, limits: tuple[Array, Array], scale: Array
) -> tuple[Array, Array]:
    """Return x = F(x) within `limits`, elementwise, by Newton's method; and whether it is right.

    Where F rises by 1 or more a step x ← F(x) is taken instead, so that an unstable fixed point is
    left behind. Right means that the error is at most `TOLERANCE` of x or of `scale`, and that F
    rises by less than 1. An x whose F(x) is off by r is off by r / (1 − F'), so that the error is
    computed from what is left of the equation, its rounding included, both for F as it was solved
    and for F computed otherwise.

    Args:
      function: F.
      again: F by another quadrature.
      start: where Newton's method begins.
      limits: lowest and highest x.
      scale: errors are compared with this where it is larger than |x|.
    """

    def newton(residual: Any, start: Array):
        def step(carry: Any):
            x, _, n = carry
            r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
            x_next = x - jnp.where(slope < 0, r / jnp.where(slope < 0, slope, -1), -r)
            x_next = jnp.clip(x_next, *limits)
            return x_next, jnp.abs(x_next - x), n + 1

        def moving(carry: Any):
            x, moved, n = carry
            size = jnp.maximum(jnp.abs(x), jax.lax.stop_gradient(scale))
            return jnp.any(moved > 2 * jnp.finfo(x.dtype).eps * size) & (n < ITERATIONS)

        return jax.lax.while_loop(moving, step, (start, start + jnp.inf, 0))[0]

    residual = lambda x: function(x) - x
    solve_tangent = lambda g, y: y / g(jnp.ones_like(y))
    x = jax.lax.custom_root(residual, start, newton, solve_tangent)
    right = _right(residual, again, *map(jax.lax.stop_gradient, (x, scale)))
    return x, jax.lax.stop_gradient(right)


def resolved(x: Array, again: Array, whole: Array, *, zero: Array) -> Array:
    """Return whether x is right to `TOLERANCE` of `whole`: so close that another quadrature is.

    Two that find nothing agree, and need not be right: nothing, or what has underflowed, is x only
    where it is known to be `zero`.

    Args:
      x, again: by the two quadratures.
      whole: x itself, or the same with every value that is averaged taken as positive.
      zero: whether x is zero for certain.
    """
    close = jnp.abs(x - again) <= TOLERANCE[x.dtype.itemsize] * whole
    return jax.lax.stop_gradient(zero | (close & (whole >= jnp.finfo(x.dtype).tiny)))


def _right(residual: Map, again: Map, x: Array, scale: Array) -> Array:
    r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
    size = jnp.maximum(jnp.abs(x), scale)
    left = jnp.maximum(jnp.abs(r), jnp.abs(again(x) - x)) + 8 * jnp.finfo(x.dtype).eps * size
    tolerance = TOLERANCE[x.dtype.itemsize]
    return (slope < -tolerance / 100) & (left <= -slope * tolerance * size) & jnp.isfinite(x)
