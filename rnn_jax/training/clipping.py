"""The global norm of a gradient of any size, and the gradient scaled down to a norm."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, Params, at_least_float32


class GlobalNorm(NamedTuple):
    """‖g‖₂ over all leaves as `scaled / scale`, scalars of float32 or, of float64 leaves, float64.

    Attributes:
      scaled: ‖scale · g‖₂, in range for every finite g; inf or NaN for any other.
      scale: a power of two; 1 unless the squares of g leave the range of the dtype.
    """

    scaled: Array
    scale: Array

    @property
    def value(self) -> Array:
        """Return ‖g‖₂; inf where it is beyond the largest number of the dtype."""
        return self.scaled / self.scale

    @property
    def is_finite(self) -> Array:
        """Return whether every number of g is finite."""
        return jnp.isfinite(self.scaled)


def global_norm(grads: Params) -> GlobalNorm:
    """Return the norm over all leaves, for normal numbers of any size; zero for no leaves.

    The squares are summed as they are. Only where the sum is not finite, or so small that squares
    may have underflowed, are they summed again, scaled by a power of two into the middle of the
    range (Blue 1978, ACM TOMS 4(1)): the usual gradient is read once.
    """
    parts = [part for leaf in jax.tree.leaves(grads) for part in _real_parts(leaf)]
    dtype = jnp.float32
    for part in parts:
        dtype = jnp.promote_types(dtype, part.dtype)
    # All in the widest: a power of two that suits float64 is 0 or inf in float32.
    parts = [part.astype(dtype) for part in parts]
    maxexp = int(jnp.finfo(dtype).maxexp)

    def sum_of_squares(parts: list[Array]) -> Array:
        zero = jnp.zeros((), dtype)
        return sum((jnp.square(part).sum() for part in parts), zero)

    def sum_of_scaled_squares(scale: Array) -> Array:
        scaled = [part * scale for part in parts]
        # Of a gradient that is constant, such as zeros, XLA squares number and scale one by one
        # where it may, and the square of the scale is out of range.
        return sum_of_squares(jax.lax.optimization_barrier(scaled))

    power = lambda exponent: jnp.asarray(2.0**exponent, dtype)
    one = power(0)
    total = sum_of_squares(parts)
    # Written so that NaN counts as large. 2^(5/8 maxexp) brings the smallest normal number's square
    # into range, 2^(-3/4 maxexp) those of the largest.
    is_large, is_small = ~jnp.isfinite(total), total < power(-maxexp // 2)
    scale = jnp.where(is_large, power(-3 * maxexp // 4), one)
    scale = jnp.where(is_small, power(5 * maxexp // 8), scale)
    total = jax.lax.cond(is_large | is_small, sum_of_scaled_squares, lambda _: total, scale)
    return GlobalNorm(jnp.sqrt(total), scale)


def scale_down(grads: Params, norm: GlobalNorm, clip_norm: Array) -> Params:
    """Return `clip_norm · g / ‖g‖`, in the dtypes of g, where ‖g‖ is finite; zeros for zeros.

    No product on the way leaves the range: not even where ‖g‖ does.
    """
    length = jnp.where(norm.scaled > 0, norm.scaled, jnp.ones_like(norm.scaled))

    def scaled_down(leaf: Array) -> Array:
        # In this order: |g · scale| ≤ length, so that the quotient is at most 1. The factor
        # clip_norm / ‖g‖ by itself would be 0 where ‖g‖ overflows.
        wide = _widened(leaf)
        wide = wide.astype(jnp.promote_types(wide.dtype, length.dtype))
        return (wide * norm.scale / length * clip_norm.astype(length.dtype)).astype(leaf.dtype)

    return jax.tree.map(scaled_down, grads)


def _widened(leaf: Array) -> Array:
    return leaf if jnp.iscomplexobj(leaf) else at_least_float32(leaf)


def _real_parts(leaf: Array) -> list[Array]:
    wide = _widened(leaf)
    return [wide.real, wide.imag] if jnp.iscomplexobj(wide) else [wide]
