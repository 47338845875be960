"""Fixed points of scalar maps by Newton's method, with a check of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

ITERATIONS = 128
TOLERANCE = {4: 1e-3, 8: 1e-6}
"""Relative error up to which a result is called converged, by the bytes of a float."""

Map = Callable[[Array], Array]


def fixed_point(
    function: Map, again: Map, *, start: Array, limits: tuple[Array, Array], scale: Array
) -> tuple[Array, Array]:
    """Return x = F(x) within `limits`, elementwise, by Newton's method; and whether it is right.

    Right means that the error is at most `TOLERANCE` of x or of `scale`, and that x is stable,
    F' < 1.

    Args:
      function: F.
      again: F by another quadrature.
      start: initial x.
      limits: lowest and highest x.
      scale: errors are relative to this where it is larger than |x|.
    """

    def newton(residual: Any, start: Array):
        def step(carry: Any):
            x, _, n = carry
            # Where F' ≥ 1 Newton's step would go towards an unstable fixed point, or without bound:
            # a step x ← F(x) is taken instead, which leads away from it.
            r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
            x_next = x - jnp.where(slope < 0, r / jnp.where(slope < 0, slope, -1), -r)
            x_next = jnp.clip(x_next, *limits)
            return x_next, jnp.abs(x_next - x), n + 1

        def moving(carry: Any):
            x, moved, n = carry
            size = jnp.maximum(jnp.abs(x), jax.lax.stop_gradient(scale))
            return jnp.any(moved > 2 * jnp.finfo(x.dtype).eps * size) & (n < ITERATIONS)

        return jax.lax.while_loop(moving, step, (start, start + jnp.inf, 0))[0]

    # custom_root gives derivatives by the implicit function theorem, whatever path was taken to x.
    residual = lambda x: function(x) - x
    solve_tangent = lambda g, y: y / g(jnp.ones_like(y))
    x = jax.lax.custom_root(residual, start, newton, solve_tangent)
    right = _right(residual, again, *map(jax.lax.stop_gradient, (x, scale)))
    return x, jax.lax.stop_gradient(right)


def resolved(x: Array, again: Array, whole: Array, *, zero: Array) -> Array:
    """Return whether two quadratures agree on x to `TOLERANCE` of `whole`.

    Args:
      x, again: the same mean by two quadratures.
      whole: x itself, or the mean of absolute values.
      zero: whether x is known to be zero.
    """
    # Two quadratures that both miss a narrow peak agree on zero, and both are wrong; so are two
    # that underflow. A zero is trusted only where it is known.
    close = jnp.abs(x - again) <= TOLERANCE[x.dtype.itemsize] * whole
    return jax.lax.stop_gradient(zero | (close & (whole >= jnp.finfo(x.dtype).tiny)))


def _right(residual: Map, again: Map, x: Array, scale: Array) -> Array:
    # An x whose equation is off by r is off by r / (1 − F'). r is what F or its other quadrature
    # leaves, and the rounding of F: near a bifurcation, F' → 1, any r is too large. The least
    # 1 − F' that is trusted is TOLERANCE / 100, since F' has an error of its own.
    r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
    size = jnp.maximum(jnp.abs(x), scale)
    left = jnp.maximum(jnp.abs(r), jnp.abs(again(x) - x)) + 8 * jnp.finfo(x.dtype).eps * size
    tolerance = TOLERANCE[x.dtype.itemsize]
    return (slope < -tolerance / 100) & (left <= -slope * tolerance * size) & jnp.isfinite(x)
