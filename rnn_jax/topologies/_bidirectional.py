"""Bidirectional networks, whose outputs depend on the past and on the future."""

from __future__ import annotations

import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.strategies import Strategy
from rnn_jax.unrolling.unroll import unroll


def bidirectional(
    cells: tuple[Cell, Cell],
    params: tuple[Params, Params],
    xs: Array,
    initial_states: tuple[State | None, State | None] = (None, None),
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    strategy: Strategy | str = "auto",
) -> tuple[tuple[State, State], Array]:
    """Run one cell from the first step to the last, and another from the last to the first.

    Args:
      cells, params, initial_states: pairs, forward and backward.
      xs, lengths, resets, strategy: as for `unroll`. The backward cell starts at each example's
        own last step.

    Returns:
      Both final states, and `ys [T, *batch, O_forward + O_backward]`, each of which depends on the
      inputs of all steps.

    Reference: Schuster and Paliwal, Bidirectional recurrent neural networks (1997).
    """
    for name, pair in (("cells", cells), ("params", params), ("initial_states", initial_states)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            remedy = "Pass one for each direction."
            raise invalid(name, pair, "a pair, forward and backward", remedy)
    runs = [
        unroll(
            cell,
            p,
            xs,
            start,
            lengths=lengths,
            resets=resets,
            reverse=reverse,
            strategy=strategy,
        )
        for cell, p, start, reverse in zip(
            cells, params, initial_states, (False, True), strict=True
        )
    ]
    (forward, forward_ys), (backward, backward_ys) = runs
    return (forward, backward), jnp.concatenate([forward_ys, backward_ys], axis=-1)
