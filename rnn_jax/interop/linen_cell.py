"""A Cell as a Flax linen module."""

from __future__ import annotations

from flax import linen as nn

from rnn_jax.cell import Cell, check_cell
from rnn_jax.types import Array, Key, Params, State


class LinenCell(nn.RNNCellBase):
    """A Cell as a linen cell, for `nn.RNN`, `nn.Bidirectional` or a module of one's own.

    ```
    layer = nn.RNN(LinenCell(cells.lstm(64)))
    variables = layer.init(key, x)  # x [*batch, T, I]: linen puts time last
    y = layer.apply(variables, x)
    ```

    `variables["params"]["weights"]`, below the name of the module, are the cell's own params; the
    carry is its state.

    Attributes:
      cell: Cell that it wraps.
    """

    cell: Cell

    def __post_init__(self):
        """Raise ValueError for anything but a Cell."""
        check_cell("cell", self.cell)
        super().__post_init__()

    @nn.compact
    def __call__(self, carry: State, inputs: Array) -> tuple[State, Array]:
        """Take one step: `(state, x [*batch, I]) -> (state, y [*batch, O])`."""
        params = self.param("weights", self.cell.init, inputs.shape[-1])
        return self.cell.step(params, carry, inputs)

    @nn.nowrap
    def initialize_carry(self, rng: Key, input_shape: tuple[int, ...]) -> State:
        """Return the cell's initial state for inputs `[*batch, I]`.

        Where the module has its parameters, as inside `nn.RNN`, a learned initial state is one of
        them; elsewhere it is that of new parameters, drawn with `rng`.
        """
        params: Params
        if self.scope is not None and self.has_variable("params", "weights"):
            params = self.get_variable("params", "weights")
        else:
            params = self.cell.init(rng, input_shape[-1])
        return self.cell.initial_state(params, input_shape[:-1])

    @property
    def num_feature_axes(self) -> int:
        """Return 1: the last axis of an input."""
        return 1
