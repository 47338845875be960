"""A residual connection around a cell."""

from __future__ import annotations

from typing import Any

from rnn_jax.cell import Cell
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around
from rnn_jax.errors import describe, invalid
from rnn_jax.types import Array


@maker
def residual(cell: Cell) -> Cell:
    """Return the cell with its input added to its output: y_t = x_t + the cell's y_t.

    Raises:
      ValueError: at a step whose x and y differ in size.
    """

    def add(_: Any, x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            raise invalid(
                "residual",
                f"x {describe(x)} and y {describe(y)}",
                "the same shape",
                "Give the cell as many units as it has inputs, or add a layer below that does.",
            )
        return x + y

    return around(cell, cell.init, after=add)
