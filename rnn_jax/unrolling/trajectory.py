"""States of a whole sequence, the initial one first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_flag
from rnn_jax.lengths import StepMasks
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.arguments import checked, checked_masks
from rnn_jax.unrolling.scan import scan_steps
from rnn_jax.unrolling.sharding import over_examples


def trajectory(
    cell: Cell,
    params: Params,
    xs: Any,
    initial_state: State | None = None,
    *,
    lengths: Array | Sequence[int] | None = None,
    resets: Array | None = None,
    reverse: bool = False,
) -> State:
    """Return every state on the way: leaves `[T+1, *batch, ...]`, the initial state first.

    Arguments and errors are those of `unroll`. With `reverse`, index n is still the state after n
    steps, the first of them being the one at xs[T-1].
    """
    reverse = check_flag("reverse", reverse)
    xs, start = checked(cell, params, xs, initial_state)
    masks = checked_masks(xs, lengths, resets, reverse)
    return states_along(cell, params, xs, start, masks, reverse)


@compiled("cell", "reverse")
def states_along(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    masks: StepMasks = StepMasks(),
    reverse: bool = False,
) -> State:
    """Return what `trajectory` does, of arguments that have been checked."""

    def run(params: Params, xs: Any, start: State, masks: Any):
        xs = masks.fill(xs, reverse=reverse)
        final, (states, _) = scan_steps(cell, params, xs, start, masks, reverse)
        if reverse:
            states = jax.tree.map(lambda leaf: leaf[::-1], states)
        in_front = lambda first, rest: jnp.concatenate([first[None], rest])
        return final, jax.tree.map(in_front, start, states)

    return over_examples(run, xs, params, start)(params, xs, start, masks)[1]
