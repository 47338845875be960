"""How much of an input is left in a later state: norms of ∂h_t/∂x_k.

∂h_t/∂x_k = J_t ··· J_{k+1} ∂h_k/∂x_k, with J_i = ∂h_i/∂h_{i-1}. It is a block of a product of step
Jacobians, those of the state (h, x) whose second part is the input that the step has just read:
A_i = [[J_i, ∂h_i/∂x_i], [0, 0]], and ∂h_t/∂x_k stands in the corner of A_t ··· A_k.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.gradients.jacobians.log_norms import check_norm, tables
from rnn_jax.gradients.jacobians.state_blocks import block_entries
from rnn_jax.gradients.jacobians.step_jacobians import jacobians_along
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep, flat_trajectory
from rnn_jax.lengths import batch_of, is_array
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State


def input_log_norms(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    norm: str = "spectral",
    to: str | None = None,
    rtol: float | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """Return ln ‖∂h_t/∂x_k‖ at [t − 1, k − 1], `[T, T, *batch]`.

    h_t is the state after the step that reads x_t = xs[t − 1]; the diagonal is ln ‖∂h_t/∂x_t‖, what
    a step takes in, and k > t is -inf. h_t is a summary of x_1 ... x_t, and row t − 1 says how much
    of each is in it. Nothing under- or overflows at any lag; where the trajectory is not finite the
    answer is NaN. Rounding adds about ε max_s ‖∂h_t/∂h_s‖ ‖∂h_s/∂x_k‖: an input that goes into
    directions which fade faster than others is lost in that in the end, as in any product. Norms,
    time and memory are those of `jacobian_log_norms` for a state of S + I.

    Args:
      cell, params, xs, initial_state: as for `unroll`, xs one array of floats `[T, *batch, I]`.
      norm: "spectral" or "frobenius".
      to: name of the part of the state that is asked for, as "c" (`state_blocks`); None for all.
      rtol, mesh: as for `jacobian_log_norms`.

    Raises:
      ValueError: an unknown norm or part, inputs that are no floats or no array, and what `unroll`
        raises.
    """
    check_norm(norm, rtol)
    rows, _ = block_entries(cell, params, (to, None))
    if not is_array(xs) or not jnp.issubdtype(xs.dtype, jnp.floating):
        got = f"{xs.dtype}{list(xs.shape)}" if is_array(xs) else f"{type(xs).__name__}"
        remedy = "Pass symbols as one-hot vectors: ∂h/∂x is asked for."
        raise invalid("xs", got, "one array of floats, [T, *batch, I]", remedy)
    features = xs.shape[-1]
    cell, xs, start = continuous(cell, params, xs, initial_state)
    A = _with_inputs(cell, params, xs, start, features)
    S = A.shape[-1] - features
    return tables(A, norm, rtol, mesh, (rows, tuple(range(S, S + features)))).value[1:, :-1]


@compiled("cell", "features")
def _with_inputs(cell: Cell, params: Params, xs: Array, start: State, features: int) -> Array:
    """Return A_i, `[T, *batch, S + I, S + I]`."""
    hs = flat_trajectory(cell, params, xs, start)
    J = jacobians_along(cell, params, xs, start, hs)

    def one_example(start: State, xs: Array, hs: Array, J: Array) -> Array:
        step = LinearizedStep(cell, params, start)

        def of_inputs(h: Array, x: Array) -> Array:
            rest = x[features:]
            after = lambda x: step(h, jnp.concatenate([x, rest]))[0]
            return jax.jacfwd(after)(x[:features])

        top = jnp.concatenate([J, jax.vmap(of_inputs)(hs[:-1], xs)], 2)
        return jnp.concatenate([top, jnp.zeros((len(J), features, top.shape[2]), J.dtype)], 1)

    batch: Any = len(batch_of(xs))
    return over_batch(one_example, batch, out_axis=1)(start, xs, hs, J)
