"""Products of a chunk's examples `[*lead, N, F]` and W, row-major in every derivative.

On the CPU a product is fast where both of its factors are row-major. A step multiplies by Wᵀ on its
way forward, and its derivative by W; both are laid out beforehand. The derivatives are written so
that their transposes, backpropagation, are row-major products too.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.linalg import row_major_transpose
from rnn_jax.types import Array


@jax.custom_jvp
def products(W_T: Array, e: Array) -> Array:
    """Return W e `[T, N, G]` of `W_T [E, G]` and `e [T, N, E]`."""
    return (_flat(e) @ W_T).reshape(*e.shape[:-1], W_T.shape[1])


@functools.partial(products.defjvp, symbolic_zeros=True)
def _products_jvp(primals: Any, tangents: Any):
    (W_T, e), (d_W_T, d_e) = primals, tangents
    a = products(W_T, e)
    d_a = jnp.zeros_like(a)
    if not isinstance(d_W_T, jax.custom_derivatives.SymbolicZero):
        d_a = d_a + matrix_tangents(d_W_T, e)
    if not isinstance(d_e, jax.custom_derivatives.SymbolicZero):
        d_a = d_a + products(W_T, d_e)
    return a, d_a


def matrix_tangents(d_W_T: Array, e: Array) -> Array:
    """Return Ẇ e `[T, N, G]`; its transpose, the gradient of W, is one row-major product."""
    by_example = (((0,), (0,)), ((), ()))
    d_a = jax.lax.dot_general(row_major_transpose(_flat(e)), d_W_T, by_example)
    return d_a.reshape(*e.shape[:-1], d_W_T.shape[1])


def state_tangent(W: Array, d_e: Array) -> Array:
    """Return W ė `[N, G]` of `d_e [N, E]`; its transpose, Wᵀ ā, is a row-major product."""
    return jax.lax.dot_general(d_e, W, (((1,), (1,)), ((), ())))


def merge_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
    """Return leaves `[*lead, N, ...]` of `[*lead, *batch, ...]`."""

    def merged(leaf: Any):
        before, after = leaf.shape[:lead], leaf.shape[lead + len(batch) :]
        return leaf.reshape(*before, math.prod(batch), *after)

    return jax.tree.map(merged, tree)


def split_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
    """Return leaves `[*lead, *batch, ...]` of `[*lead, N, ...]`."""
    split = lambda leaf: leaf.reshape(*leaf.shape[:lead], *batch, *leaf.shape[lead + 1 :])
    return jax.tree.map(split, tree)


def _flat(e: Array) -> Array:
    return e.reshape(math.prod(e.shape[:-1]), e.shape[-1])
