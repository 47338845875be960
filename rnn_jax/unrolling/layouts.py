"""How the examples of a batch lie in memory while a structured cell goes through time.

On the CPU a product is fast where both factors are row-major, and it copies its right factor into
panels each time. With examples as rows, e Wᵀ, that is the matrix: nothing beside a batch of large
rows, but as much as the product itself once the matrix no longer fits the cache. With examples as
columns, W e, it is the batch.

Each layout says which of W and Wᵀ a step reads on its way forward and which one its derivative
reads, and writes the derivatives so that their transposes, backpropagation, are row-major products
too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.linalg import row_major_transpose
from rnn_jax.types import Array


class Rows:
    """`[*lead, N, F]`: N examples of F features; matrices are read as Wᵀ `[E, G]`."""

    features = -1

    @staticmethod
    def factors(W: Array) -> tuple[Array, Array]:
        """What `product` and what `tangent` take of `W [G, E]`."""
        return row_major_transpose(W), W

    @staticmethod
    def product(forward: Array, e: Array) -> Array:
        """W e of each example."""
        return e @ forward

    @staticmethod
    def tangent(backward: Array, e: Array) -> Array:
        """The same, with Wᵀ ā as a row-major product when it is transposed in e."""
        return jax.lax.dot_general(e, backward, (((1,), (1,)), ((), ())))

    @staticmethod
    def products(forward: Array, e: Array) -> Array:
        """`product` over a leading axis of time."""
        return (_flat(e) @ forward).reshape(*e.shape[:-1], forward.shape[1])

    @staticmethod
    def matrix_tangents(d_forward: Array, e: Array) -> Array:
        """The same, with the gradient of W as a row-major product when it is transposed in W."""
        by_example = (((0,), (0,)), ((), ()))
        d_a = jax.lax.dot_general(row_major_transpose(_flat(e)), d_forward, by_example)
        return d_a.reshape(*e.shape[:-1], d_forward.shape[1])

    @staticmethod
    def over(function: Callable[..., Any], *fixed: Any) -> Callable[..., Any]:
        """A function of `fixed` arguments and others of one example, over all examples."""
        return functools.partial(function, *fixed)

    @staticmethod
    def of_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
        """Leaves `[*lead, *batch, ...]` in this layout."""
        return jax.tree.map(lambda leaf: _merged(leaf, len(batch), lead), tree)

    @staticmethod
    def to_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
        """The inverse of `of_batch`."""
        return jax.tree.map(lambda leaf: _split(leaf, batch, lead), tree)


class Columns:
    """`[*lead, F, N]`: N examples of F features; matrices are read as W `[G, E]`."""

    features = -2

    @staticmethod
    def factors(W: Array) -> tuple[Array, Array]:
        """See `Rows`."""
        return W, row_major_transpose(W)

    @staticmethod
    def product(forward: Array, e: Array) -> Array:
        """See `Rows`."""
        return forward @ e

    @staticmethod
    def tangent(backward: Array, e: Array) -> Array:
        """See `Rows`."""
        return jax.lax.dot_general(backward, e, (((0,), (0,)), ((), ())))

    @staticmethod
    def products(forward: Array, e: Array) -> Array:
        """See `Rows`."""
        T, E, N = e.shape
        return _by_time(forward @ jnp.swapaxes(e, 0, 1).reshape(E, T * N), T, N)

    @staticmethod
    def matrix_tangents(d_forward: Array, e: Array) -> Array:
        """See `Rows`."""
        rows = jax.lax.optimization_barrier(jnp.swapaxes(e, 1, 2))
        by_feature = (((1,), (1,)), ((), ()))
        return _by_time(jax.lax.dot_general(d_forward, _flat(rows), by_feature), len(e), e.shape[2])

    @staticmethod
    def over(function: Callable[..., Any], *fixed: Any) -> Callable[..., Any]:
        """See `Rows`."""
        return jax.vmap(functools.partial(function, *fixed), in_axes=-1, out_axes=-1)

    @staticmethod
    def of_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
        """See `Rows`."""
        columns = lambda leaf: jnp.moveaxis(_merged(leaf, len(batch), lead), lead, -1)
        return jax.tree.map(columns, tree)

    @staticmethod
    def to_batch(tree: Any, batch: tuple[int, ...], *, lead: int = 0) -> Any:
        """See `Rows`."""
        return jax.tree.map(lambda leaf: _split(jnp.moveaxis(leaf, -1, lead), batch, lead), tree)


Layout = type[Rows] | type[Columns]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def products(layout: Layout, forward: Array, e: Array) -> Array:
    """W e over time and examples, from what `factors` gives for W."""
    return layout.products(forward, e)


@functools.partial(products.defjvp, symbolic_zeros=True)
def _products_jvp(layout, primals, tangents):
    (forward, e), (d_forward, d_e) = primals, tangents
    a = products(layout, forward, e)
    d_a = jnp.zeros_like(a)
    if not isinstance(d_forward, jax.custom_derivatives.SymbolicZero):
        d_a = d_a + layout.matrix_tangents(d_forward, e)
    if not isinstance(d_e, jax.custom_derivatives.SymbolicZero):
        d_a = d_a + products(layout, forward, d_e)
    return a, d_a


def _flat(e: Array) -> Array:
    return e.reshape(math.prod(e.shape[:-1]), e.shape[-1])


def _by_time(columns: Array, T: int, N: int) -> Array:
    """`[T, G, N]` from `[G, T N]`."""
    return jnp.swapaxes(columns.reshape(len(columns), T, N), 0, 1)


def _merged(leaf: Array, axes: int, lead: int) -> Array:
    shape = leaf.shape
    return leaf.reshape(*shape[:lead], math.prod(shape[lead : lead + axes]), *shape[lead + axes :])


def _split(leaf: Array, batch: tuple[int, ...], lead: int) -> Array:
    return leaf.reshape(*leaf.shape[:lead], *batch, *leaf.shape[lead + 1 :])
