"""A readout of a cell."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cells.initializers import gaussian
from rnn_jax.errors import check_size
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Cell, Initializer, Params, Recurrence, State


@flax.struct.dataclass
class ReadoutParams:
    """`cell`, the parameters of the cell that is read; `V [O, H]`; `c [O]`."""

    cell: Params
    V: Array
    c: Array


def readout(cell: Cell, output_size: int, *, output_init: Initializer = gaussian()) -> Cell:
    """o_t = c + V y_t, the linear readout of a cell's y_t.

    The state, and with it every Jacobian over time, is the wrapped cell's. The output is o_t
    itself: a softmax belongs to the loss, which is stable when it starts from logits.

    Args:
      cell: its y `[*batch, H]` is read.
      output_size: O.
      output_init: draws V, in the dtype of y; c starts at zero.

    Raises:
      ValueError: an output size that is not a positive integer.
    """
    check_size("output_size", output_size)

    def init(key, input_size):
        cell_key, V_key = jax.random.split(key)
        params = cell.init(cell_key, input_size)
        y = output_at_start(cell, params, input_size)
        return ReadoutParams(
            cell=params,
            V=output_init(V_key, (output_size, y.shape[-1]), y.dtype),
            c=jnp.zeros(output_size, y.dtype),
        )

    def initial_state(params: ReadoutParams, batch=()) -> State:
        return cell.initial_state(params.cell, batch)

    def output(params: ReadoutParams, y: Array) -> Array:
        return params.c + matvec(params.V, y)

    def step(params: ReadoutParams, state: State, x: Array) -> tuple[State, Array]:
        state, y = cell.step(params.cell, state, x)
        return state, output(params, y)

    def recurrence(params: ReadoutParams) -> Recurrence:
        assert cell.recurrence is not None
        return cell.recurrence(params.cell)

    def over_time(run, params: ReadoutParams, xs, start, marks, reverse) -> tuple[State, Array]:
        final, ys = run(cell, params.cell, xs, start, marks, reverse)
        return final, output(params, ys)

    return Cell(
        init,
        initial_state,
        step,
        recurrence if cell.recurrence else None,
        cell.structure and cell.structure.inside(lambda params: params.cell, output),
        over_time if cell.over_time else None,
    )


def output_at_start(cell: Cell, params: Params, input_size: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of one example's y."""
    state = jax.eval_shape(cell.initial_state, params)
    x = jax.ShapeDtypeStruct((input_size,), jax.tree.leaves(state)[0].dtype)
    return jax.eval_shape(cell.step, params, state, x)[1]
