"""Functions of one example, mapped over batch axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from rnn_jax.types import Array, State


def over_batch(
    one_example: Callable[..., Any],
    batch_ndim: int,
    *,
    out_axis: int | None,
    axis_names: Sequence[str] = (),
):
    """Map `one_example(initial_state, *time_major)` over `batch_ndim` batch axes.

    The state is `[*batch, ...]`, every other argument `[T, *batch, ...]`; results have their batch
    axes at `out_axis`, or none for None: `one_example` has then reduced over all `axis_names`, one
    for each batch axis.
    """
    names: Sequence[str | None] = axis_names or [None] * batch_ndim
    for name in names:
        one_example = _over_one_axis(one_example, out_axis, name)
    return one_example


def _over_one_axis(function: Callable[..., Any], out_axis: Any, name: str | None):
    def mapped(initial_state: State | None, *time_major: Any):
        in_axes = (0, *[1] * len(time_major))
        return jax.vmap(function, in_axes, out_axis, axis_name=name)(initial_state, *time_major)

    return mapped


def vmap_in_groups(function: Callable, arrays: Array, size: int):
    """Map a function of one example over the leading axis, several at once while small.

    `size` is the number of entries that one example works on at a time.
    """
    # 2^16 entries, 256 KiB in float32, fit into a core's cache; one small example after the other
    # would pay for dispatch, all at once for memory.
    n = len(arrays)
    most = max(1, min(n, 2**16 // size))
    at_once = next(m for m in range(most, 0, -1) if n % m == 0)
    if at_once == 1:  # XLA on the CPU takes twice as long for batches of one matrix
        return jax.lax.map(function, arrays)
    groups = arrays.reshape(n // at_once, at_once, *arrays.shape[1:])
    results = jax.lax.map(jax.vmap(function), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(n, *leaf.shape[2:]), results)
