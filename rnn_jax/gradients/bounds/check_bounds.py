"""All bounds of a cell beside its measured norms, in one call."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.gradients.bounds.comparison_matrices import (
    comparison_bound,
    exact_blocks,
    from_diagonals,
)
from rnn_jax.gradients.bounds.norm_bounds import (
    BoundCheck,
    check_bound,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.gradients.jacobians.log_norms import certified_log_norms
from rnn_jax.gradients.jacobians.step_jacobians import jacobians_along
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import flat_trajectory, is_unitwise
from rnn_jax.lengths import steps_of
from rnn_jax.types import Array, Params, State


def check_bounds(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    also: Mapping[str, Array] | None = None,
) -> dict[str, BoundCheck]:
    """Measure every bound that serves the cell: value, bound and slack at each (t, k).

    - "power": (λ_W λ_φ)^(t−k) of Pascanu, Mikolov and Bengio (2013), for a cell that declares the
      `norm_bound_terms` that it is a theorem about; see `norm_bound`.
    - "product": Π ‖J_i‖, for every cell; see `product_bound`.
    - "comparison": ‖Π M_i‖, for every cell: from diagonals where the structure is unit-wise, else
      from singular values of the blocks; theorem 2 of `docs/bounds.md`.

    Args:
      cell, params, xs, initial_state: as for `unroll`.
      also: more bounds by name, tables `[T+1, T+1, ...]` as of `gated_bound`.

    Returns:
      name -> BoundCheck, whose tables are `[T+1, T+1, *batch]`.

    Raises:
      ValueError: what `unroll` and `check_bound` raise.

    Call it outside of `jit`: see `linalg.spectral_norm`.
    """
    run, xs, start = continuous(cell, params, xs, initial_state)
    hs = flat_trajectory(run, params, xs, start)
    jacobians = jacobians_along(run, params, xs, start, hs)
    if is_unitwise(run):
        M = from_diagonals(run, params, xs, start, hs)
    else:
        M = exact_blocks(jacobians, start)
    bounds = {"product": product_bound(jacobians), "comparison": comparison_bound(M)}
    if cell.norm_bound_terms is not None:
        bounds["power"] = power_bound(*norm_bound(cell, params), steps_of(xs))
    measured, error = certified_log_norms(jacobians)
    size = jacobians.shape[-1]
    return {
        name: check_bound(measured, jnp.asarray(bound), state_size=size, error=error)
        for name, bound in {**bounds, **(also or {})}.items()
    }
