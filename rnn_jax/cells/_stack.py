"""Depth: cells as the layers of one cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from rnn_jax.cell import Cell
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import input_and_output
from rnn_jax.errors import invalid
from rnn_jax.types import Array, Key, Params, State


@maker
def stack(*layers: Cell) -> Cell:
    r"""Return a cell of layers, each of which reads the outputs of the one below.

    .. math:: s^l_t, y^l_t = \mathrm{step}^l(s^l_{t-1}, y^{l-1}_t), \qquad y^0_t = x_t

    `unroll` takes the whole sequence through one layer after the other, each by the strategy that
    suits it; the gradient laboratory takes the stack as one cell with a joint state.

    Args:
      layers: any cells, the lowest first; also `residual`, `layer_norm` and `dropout` of some.

    Returns:
      A Cell whose params and state are tuples with an entry for each layer, and whose y is that of
      the last layer.

    Raises:
      ValueError: no layers.
    """
    if not layers:
        raise invalid("layers", "none", "at least one cell", "Pass stack(lstm(64), lstm(64)).")

    def init(key: Key, input_size: int) -> tuple[Params, ...]:
        params = []
        for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            params.append(layer.init(layer_key, input_size))
            input_size = input_and_output(layer, params[-1], input_size)[1].shape[-1]
        return tuple(params)

    def initial_state(params: Params, batch: Any = ()) -> tuple[State, ...]:
        return tuple(layer.initial_state(p, batch) for layer, p in zip(layers, params, strict=True))

    def step(params: Params, state: State, x: Array) -> tuple[State, Array]:
        after = []
        for layer, p, s in zip(layers, params, state, strict=True):
            s, x = layer.step(p, s, x)
            after.append(s)
        return tuple(after), x

    def unroll_layers(
        run: Callable[..., Any], params: Params, xs: Any, start: State, masks: Any, reverse: bool
    ) -> tuple[State, Array]:
        final = []
        for layer, p, s in zip(layers, params, start, strict=True):
            s, xs = run(layer, p, xs, s, masks, reverse)
            final.append(s)
        return tuple(final), xs

    return Cell(init, initial_state, step, unroll_layers=unroll_layers)
