"""Batches in parts, one after another: a gradient of more than memory holds at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from rnn_jax.errors import invalid
from rnn_jax.types import Array, Params, State, at_least_float32


def accumulate(function: Callable[..., Any], parts: int, batch_spec: Any) -> Callable[..., Any]:
    """Return a function of `(params, carried, batch)` that goes through the batch in parts.

    Args:
      function: `(params, carried, batch) -> (averaged, by_stream, by_step)`, as `share` has it:
        what is averaged is the mean over parts, the others stand side by side.
      parts: number of parts, of equal size.
      batch_spec: which axis of each array of a batch is cut: the one that a `PartitionSpec` names,
        none where it names none.

    Raises:
      ValueError: a batch that cannot be cut into so many equal parts, or along several axes.
    """
    if parts == 1:
        return function

    def in_parts(params: Params, carried: State, batch: Any):
        cut = lambda spec, tree: jax.tree.map(lambda leaf: _cut(leaf, spec, parts), tree)
        is_spec = lambda node: isinstance(node, PartitionSpec)
        cut_batch = jax.tree.map(cut, batch_spec, batch, is_leaf=is_spec)
        inputs = (cut(PartitionSpec("batch"), carried), cut_batch)
        first = jax.tree.map(lambda leaf: leaf[0], inputs)
        one, _, _ = jax.eval_shape(function, params, *first)
        zeros = jax.tree.map(lambda a: at_least_float32(jnp.zeros(a.shape, a.dtype)), one)

        def add(sums: Any, part: Any):
            averaged, by_stream, by_step = function(params, *part)
            sums = jax.tree.map(lambda total, a: total + a.astype(total.dtype), sums, averaged)
            return sums, (by_stream, by_step)

        sums, (by_stream, by_step) = jax.lax.scan(add, zeros, inputs)
        mean = lambda total, like: (total / parts).astype(like.dtype)
        return (
            jax.tree.map(mean, sums, one),
            jax.tree.map(lambda leaf: _joined(leaf, 0), by_stream),
            jax.tree.map(lambda leaf: _joined(leaf, 1), by_step),
        )

    return in_parts


def _cut(leaf: Any, spec: PartitionSpec, parts: int) -> Array:
    """Return the parts of a leaf along a new first axis; the whole of it for each if not cut."""
    leaf = jnp.asarray(leaf)
    axes = [axis for axis, name in enumerate(spec) if name is not None]
    if not axes:
        return jnp.broadcast_to(leaf, (parts, *leaf.shape))
    if len(axes) > 1:
        raise invalid("batch_spec", spec, "one axis of each array at most", "Name one of them.")
    (axis,) = axes
    size = leaf.shape[axis] if axis < leaf.ndim else 0
    if size == 0 or size % parts:
        remedy = "Choose a divisor of the batch size, or say by batch_spec which axis it is."
        got = f"{parts}, for an array {list(leaf.shape)} cut along axis {axis}"
        raise invalid("accumulate", got, "a number of equal parts", remedy)
    shape = (*leaf.shape[:axis], parts, size // parts, *leaf.shape[axis + 1 :])
    return jnp.moveaxis(leaf.reshape(shape), axis, 0)


def _joined(leaf: Array, axis: int) -> Array:
    """Return `[parts, ...]` with the parts side by side along `axis` of each."""
    leaf = jnp.moveaxis(leaf, 0, axis)
    return leaf.reshape(*leaf.shape[:axis], -1, *leaf.shape[axis + 2 :])
