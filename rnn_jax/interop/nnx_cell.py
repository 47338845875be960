"""A Cell as a Flax nnx module; the one file that imports nnx."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx

from rnn_jax.cell import Cell, check_cell
from rnn_jax.types import Array, Params, State


class NNXCell(nnx.RNNCellBase):
    """A Cell as an nnx cell, for `nnx.RNN`, `nnx.Bidirectional` or a module of one's own.

    ```
    layer = nnx.RNN(NNXCell(cells.lstm(64), 8, rngs=nnx.Rngs(0)))
    y = layer(x)  # x [*batch, T, I]: nnx puts time last
    ```

    Attributes:
      cell: Cell that it wraps.
      weights: params of it, each leaf an `nnx.Param`.
    """

    def __init__(self, cell: Cell, input_size: int, *, rngs: nnx.Rngs):
        self.cell = check_cell("cell", cell)
        self.weights = nnx.data(jax.tree.map(nnx.Param, cell.init(rngs.params(), input_size)))

    @property
    def params(self) -> Params:
        """Return the cell's own params: the weights as arrays."""
        is_param = lambda leaf: isinstance(leaf, nnx.Param)
        return jax.tree.map(lambda leaf: leaf[...], self.weights, is_leaf=is_param)

    def __call__(self, carry: State, inputs: Array) -> tuple[State, Array]:
        """Take one step: `(state, x [*batch, I]) -> (state, y [*batch, O])`."""
        return self.cell.step(self.params, carry, inputs)

    def initialize_carry(
        self, input_shape: tuple[int, ...], rngs: Any = None, carry_init: Any = None
    ) -> State:
        """Return the cell's initial state for inputs `[*batch, I]`; the rest goes unread."""
        del rngs, carry_init
        return self.cell.initial_state(self.params, input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        """Return 1: the last axis of an input."""
        return 1
