"""Products of a matrix and the last axis of an array."""

from __future__ import annotations

import math

import jax

from rnn_jax.errors import check_array
from rnn_jax.types import Array


def matvec(W: Array, x: Array) -> Array:
    """Return W x over the leading axes of x: `[O, I], [*batch, I] -> [*batch, O]`."""
    W = check_array("W", W, ("O", "I"), kind="inexact")
    x = check_array("x", x, ("*batch", W.shape[1]), kind="inexact")
    return jax.lax.dot_general(x, W, (((x.ndim - 1,), (1,)), ((), ())))


def times(transposed: Array, x: Array) -> Array:
    """Return W x from Wᵀ, for many leading axes: `[I, O], [*lead, I] -> [*lead, O]`."""
    transposed = check_array("transposed", transposed, ("I", "O"), kind="inexact")
    x = check_array("x", x, ("*lead", len(transposed)), kind="inexact")
    # Over one leading axis: XLA's dot, and the one that its gradient becomes, are slower over two.
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim > 2 else x
    return (rows @ transposed).reshape(*x.shape[:-1], transposed.shape[1])


def row_major_transpose(W: Array) -> Array:
    """Return Wᵀ `[n, m]` of `W [m, n]`, stored row by row."""
    W = check_array("W", W, ("m", "n"), kind="inexact")
    # Without the barrier XLA fuses the transpose into the product that reads it, which then runs on
    # a column-major factor: slower on the CPU.
    return jax.lax.optimization_barrier(W.T)
