"""A linear readout."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around, input_and_output
from rnn_jax.errors import describe, invalid
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Initializer, Key, Params


@flax.struct.dataclass
class ReadoutParams:
    """`cell`, the parameters of the inner cell; `V [O, H]`; `c [O]`."""

    cell: Params
    V: Array
    c: Array


@maker
def readout(cell: Cell, output_size: int, *, output_init: Initializer = gaussian()) -> Cell:
    """Return o_t = c + V y_t, the linear readout of a cell's y_t.

    The state, and with it every Jacobian over time, is the inner cell's. The output is o_t itself:
    a softmax belongs to the loss, which is stable when it starts from logits.

    Args:
      cell: inner cell, whose y is `[*batch, H]`.
      output_size: number of outputs, O.
      output_init: initializer of V, in the dtype of y; c starts at zero.

    Raises:
      ValueError: an argument that is not a Cell; an output size that is not a positive integer; a
        cell whose y is not one vector.
    """

    def init(key: Key, input_size: int) -> ReadoutParams:
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

    def output(params: ReadoutParams, y: Array) -> Array:
        with jax.named_scope("o"):
            return params.c + matvec(params.V, y)

    return around(cell, init, lambda params: params.cell, output=output)
