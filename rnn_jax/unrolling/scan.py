"""One `lax.scan` of the cell's own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from rnn_jax.cell import Cell
from rnn_jax.lengths import Marks, batch_of, input_dtype
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Params, State


@dataclass(frozen=True)
class Scan:
    """One `lax.scan` of the cell's own step, differentiated by JAX as it stands."""

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, marks: Any, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        final, (_, ys) = scan_steps(cell, params, xs, start, marks, reverse)
        return final, ys


def scan_steps(
    cell: Cell, params: Params, xs: Any, start: State, marks: Marks, reverse: bool
) -> tuple[State, tuple[State, Any]]:
    """Return (final state, (states after each step, ys))."""
    read = as_read(params, input_dtype(xs))
    wide, rounded = for_sums(params, like=read)
    initial, initial_rounded = for_sums(state_afresh(cell, read, xs, marks))
    at_padding = marks.at_padding(start, initial_rounded(initial), reverse=reverse)
    step = with_wide_sums(cell.step)

    def body(state: State, at: Any):
        x, marks = at
        before = marks.state_before(state, initial_rounded(initial))
        after, y = step(rounded(wide), marks.state_evaluated(before, at_padding), x)
        after = marks.state_after(after, before)
        return after, (after, y)

    return jax.lax.scan(body, start, (xs, marks), reverse=reverse)


def state_afresh(cell: Cell, params: Params, xs: Any, marks: Marks) -> State:
    """Return what the marked steps start from; nothing where none are marked."""
    if marks.fresh is None:
        return ()
    return with_wide_sums(lambda params: cell.initial_state(params, batch_of(xs)))(params)
