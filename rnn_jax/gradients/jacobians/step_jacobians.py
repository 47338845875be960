"""Step Jacobians along a trajectory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep, flat_trajectory
from rnn_jax.lengths import batch_of
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State


def step_jacobians(
    cell: Cell, params: Params, xs: Array, initial_state: State | None = None
) -> Array:
    """Return J_i along the trajectory, `[T, *batch, S, S]`, each `[out, in]`.

    Index i is ∂(state after the step at xs[i])/∂(state before it). The pre-activation Elman form
    has J = W diag[φ'(h)]; the lecture writes Wᵀ diag[φ'(h)], the same two factors in the same order
    with W transposed. NaN where the state before or after the step is not finite. Arguments and
    errors are those of `unroll`; any Cell serves. Where a cell has a unit-wise `structure`, J is
    put together from diagonals and W instead of differentiating the step along S directions.
    """
    cell, xs, start = continuous(cell, params, xs, initial_state)
    return jacobians_along(cell, params, xs, start)


@compiled("cell")
def jacobians_along(
    cell: Cell, params: Params, xs: Array, start: State, hs: Array | None = None
) -> Array:
    """Return what `step_jacobians` does, of arguments that have been checked.

    `hs [T+1, *batch, S]` are the states, where they are known (`flat_trajectory`).
    """
    if hs is None:
        hs = flat_trajectory(cell, params, xs, start)

    def one_example(start: State, xs: Any, hs: Array):
        step = LinearizedStep(cell, params, start)
        # A relu that is off, or a gate that is shut, makes a finite derivative of what is not.
        finite = jnp.isfinite(hs).all(1)
        known = (finite[:-1] & finite[1:])[:, None, None]
        return jnp.where(known, jax.vmap(step.jacobian)(hs[:-1], xs), jnp.nan)

    return over_batch(one_example, len(batch_of(xs)), out_axis=1)(start, xs, hs)
