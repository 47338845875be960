"""A function of one example, mapped over batch axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from rnn_jax.types import State


def over_batch(
    one_example: Callable[..., Any],
    batch_ndim: int,
    *,
    out_axis: int | None,
    axis_names: Sequence[str] = (),
):
    """Map `one_example(initial_state, *time_major)` over `batch_ndim` batch axes.

    The state comes as `[*batch, ...]`, every other argument as `[T, *batch, ...]`; the batch axes
    of the results stand at `out_axis`, or are gone with None: `one_example` has then reduced over
    all `axis_names`, one for each batch axis.
    """
    mapped = one_example
    names: Sequence[str | None] = axis_names or [None] * batch_ndim
    for name in names:
        mapped = _over_one_axis(mapped, out_axis, name)
    return mapped


def _over_one_axis(function: Callable[..., Any], out_axis: Any, name: str | None):
    def mapped(initial_state: State | None, *time_major: Any):
        in_axes = (0, *[1] * len(time_major))
        return jax.vmap(function, in_axes, out_axis, axis_name=name)(initial_state, *time_major)

    return mapped
