"""The laboratory is written for one example; batch axes are mapped over it here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.trajectory import trajectory


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


def _over_one_axis(function, out_axis, name):
    def mapped(initial_state, *time_major):
        in_axes = (0, *[1] * len(time_major))
        return jax.vmap(function, in_axes, out_axis, axis_name=name)(initial_state, *time_major)

    return mapped


def flat_step(cell: Cell, params: Params, state: State):
    """The step as a map of flat states, `(h [S], x) -> (h [S], y)`; `state` gives the layout."""
    _, unravel = ravel_pytree(state)

    def step(h: Array, x: Array) -> tuple[Array, Array]:
        after, y = cell.step(params, unravel(h), x)
        return ravel_pytree(after)[0], y

    return step


def flat_trajectory(cell: Cell, params: Params, xs: Array, start: State) -> Array:
    """`[T+1, S]`: the trajectory of one example in flat states."""
    states = trajectory(cell, params, xs, start)
    return jax.vmap(lambda state: ravel_pytree(state)[0])(states)
