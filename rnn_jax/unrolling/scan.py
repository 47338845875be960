"""One `lax.scan` of the cell's own step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from rnn_jax.cell import Cell
from rnn_jax.lengths import StepMasks, batch_of, input_dtype
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.perturbed import Perturbations, perturbed


@dataclass(frozen=True)
class Scan:
    """One `lax.scan` of the cell's own step, differentiated by JAX as it stands."""

    def run(
        self, cell: Cell, params: Params, xs: Any, start: State, masks: StepMasks, reverse: bool
    ) -> tuple[State, Array]:
        """Return (final state, ys)."""
        final, (_, ys) = scan_steps(cell, params, xs, start, masks, reverse)
        return final, ys


def scan_steps(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    masks: StepMasks,
    reverse: bool,
    perturbations: Perturbations | None = None,
) -> tuple[State, tuple[State, Any]]:
    """Return (final state, (states after each step, ys))."""
    read = as_read(params, input_dtype(xs))
    wide, rounded = for_sums(params, like=read)
    initial, initial_rounded = for_sums(state_at_resets(cell, read, xs, masks))
    at_padding = masks.at_padding(start, initial_rounded(initial), reverse=reverse)
    step = with_wide_sums(cell.step)

    def body(state: State, at: Any):
        x, masks, perturbations = at
        before = masks.state_before(state, initial_rounded(initial))
        args = rounded(wide), masks.state_evaluated(before, at_padding), x
        if perturbations is None:
            after, y = step(*args)
        else:
            after, y = perturbed(step, num_before=len(args))(perturbations.states(), *args)
        after = masks.state_after(after, before)
        return after, (after, y)

    return jax.lax.scan(body, start, (xs, masks, perturbations), reverse=reverse)


def state_at_resets(cell: Cell, params: Params, xs: Any, masks: StepMasks) -> State:
    """Return the state that steps with a reset start from; nothing where there are none."""
    if masks.reset is None:
        return ()
    return with_wide_sums(lambda params: cell.initial_state(params, batch_of(xs)))(params)
