"""Floats as mantissa and exponent, m 2^e: exact splitting and scaling."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.errors import check_array, check_axes, check_dtype
from rnn_jax.types import Array

ZERO = -(2**28)
"""The exponent of a zero: below that of any product, and no sum of four overflows an int32."""


def exponents(x: Array) -> Array:
    """Return int32 e with |x| in [½, 1) · 2^e, elementwise; ZERO where x is zero or subnormal."""
    # Read from the bits, as `power_of_two` writes them: XLA's exp2 of an integer is off by some ε,
    # and its ldexp is not vectorized. It flushes subnormals to zero, so that they count as zeros.
    integers, shift, bias = _format(x.dtype)
    bits = jax.lax.bitcast_convert_type(jnp.abs(x), integers)
    e = jax.lax.shift_right_logical(bits, integers(shift)).astype(jnp.int32)
    return jnp.where(e == 0, ZERO, e - (bias - 1))


def invertible_exponents(x: Array) -> Array:
    """Return `exponents`, at most the largest e of which 2^-e is not flushed.

    |x| is in [½, 1) · 2^e, and below 4 · 2^e in the last two powers of two of the dtype.
    """
    return jnp.minimum(exponents(x), jnp.finfo(x.dtype).maxexp - 2)


def power_of_two(e: Array, dtype: jnp.dtype) -> Array:
    """Return 2^e for int32 e, elementwise: 0 below the dtype's range, its largest power above."""
    integers, shift, bias = _format(dtype)
    biased = jnp.clip(e, -bias, bias) + bias
    bits = jax.lax.shift_left(biased.astype(integers), integers(shift))
    return jax.lax.bitcast_convert_type(bits, dtype)


def _format(dtype: Any) -> tuple[type, int, int]:
    """Return the integer of the float's size, the bits of its mantissa, and its exponent's bias."""
    info = jnp.finfo(dtype)
    integers = {16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}[info.bits]
    return integers, info.nmant, int(info.maxexp) - 1


def split_exponent(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return m and int32 e of x = m · 2^e, exactly, the largest |m| over `axes` in [½, 1).

    e = 0 where x is zero or not finite.
    """
    x = check_array("x", x, ("*axes",))
    axes = check_axes("axes", axes, x)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
    _, e = jnp.frexp(largest)
    e = jnp.where(jnp.isfinite(largest) & (largest > 0), e, 0).astype(jnp.int32)
    return _times_power_of_two(x, -e), jnp.squeeze(e, axes)


def column_exponents(M: Array) -> Array:
    """Return int32 e `[..., K]`, 2^e just above the largest |M| of each column of `[..., S, K]`."""
    e = exponents(jnp.abs(M).max(-2, initial=0))
    return jnp.where(e == ZERO, 0, e)


def scale_columns(M: Array, e: Array) -> Array:
    """Return `M [..., S, K]`, its columns times 2^e, `e [..., K]`."""
    return _times_power_of_two(M, e[..., None, :])


def _times_power_of_two(x: Array, e: Array) -> Array:
    # Two powers of two, since one alone may be out of range: a float32 near 2^128 asks for 2^-128,
    # which XLA flushes to zero. jnp.ldexp(x, e) on all of x takes seven times as long.
    half, one = e // 2, jnp.ones((), x.dtype)
    return x * jnp.ldexp(one, half) * jnp.ldexp(one, e - half)


def log_power_of_two(e: Array, dtype: jnp.dtype) -> Array:
    """Return ln 2^e of integers `e`."""
    e = check_array("e", e, ("*axes",), kind="integer")
    dtype = check_dtype("dtype", dtype)
    return e.astype(dtype) * jnp.log(jnp.asarray(2, dtype))
