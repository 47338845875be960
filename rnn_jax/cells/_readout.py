"""A readout of a cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, NormBoundTerms
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import input_and_output
from rnn_jax.errors import check_size, describe, invalid
from rnn_jax.linalg import matvec
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Initializer, Key, Params, State


@flax.struct.dataclass
class ReadoutParams:
    """`cell`, the parameters of the cell that is read; `V [O, H]`; `c [O]`."""

    cell: Params
    V: Array
    c: Array


@maker
def readout(cell: Cell, output_size: int, *, output_init: Initializer = gaussian()) -> Cell:
    """Return o_t = c + V y_t, the linear readout of a cell's y_t.

    The state, and with it every Jacobian over time, is the wrapped cell's. The output is o_t
    itself: a softmax belongs to the loss, which is stable when it starts from logits.

    Args:
      cell: its y `[*batch, H]` is read.
      output_size: O.
      output_init: draws V, in the dtype of y; c starts at zero.

    Raises:
      ValueError: what is not a Cell; an output size that is not a positive integer; a cell whose y
        is not one vector.
    """
    check_size("output_size", output_size)

    def init(key: Key, input_size: int):
        cell_key, V_key = jax.random.split(key)
        params = cell.init(cell_key, input_size)
        y = input_and_output(cell, params, input_size)[1]
        if not hasattr(y, "dtype") or y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.inexact):
            got = str(jax.tree.map(describe, y))
            remedy = "Let the cell put out one vector, or read it by a readout of your own."
            raise invalid("cell", f"one whose y is {got}", "a y of floats [H]", remedy)
        return ReadoutParams(
            cell=params,
            V=output_init(V_key, (output_size, y.shape[-1]), y.dtype),
            c=jnp.zeros(output_size, y.dtype),
        )

    def initial_state(params: ReadoutParams, batch: Any = ()) -> State:
        return cell.initial_state(params.cell, batch)

    def output(params: ReadoutParams, y: Array) -> Array:
        return params.c + matvec(params.V, y)

    def step(params: ReadoutParams, state: State, x: Array) -> tuple[State, Array]:
        state, y = cell.step(params.cell, state, x)
        return state, output(params, y)

    def norm_bound_terms(params: ReadoutParams) -> NormBoundTerms:
        assert cell.norm_bound_terms is not None
        return cell.norm_bound_terms(params.cell)

    def unroll_layers(
        run: Callable[..., Any],
        params: ReadoutParams,
        xs: Any,
        start: State,
        masks: Any,
        reverse: bool,
    ) -> tuple[State, Array]:
        final, ys = run(cell, params.cell, xs, start, masks, reverse)
        return final, with_wide_sums(output)(params, ys)

    return Cell(
        init,
        initial_state,
        step,
        norm_bound_terms if cell.norm_bound_terms else None,
        cell.structure and cell.structure.inside(lambda params: params.cell, output),
        unroll_layers if cell.unroll_layers else None,
    )
