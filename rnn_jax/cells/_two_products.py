"""Cells of two recurrent products a step, the second of an operand that the first has gated."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import structured, zero_state
from rnn_jax.cells.initializers import stacked
from rnn_jax.types import Array, Initializer, Key, Params, State


def two_products(
    hidden_size: int,
    gates: int,
    second_operand: Callable[[Any, State, Array], Array],
    pointwise: Callable[[Any, State, Array, Array], tuple[State, Array]],
    *,
    params_type: Callable[..., Params],
    second: str = "W_n",
    operand: Callable[[State], Array] = lambda h: h,
    state: Callable[[Array], State] = lambda zeros: zeros,
    recurrent_init: Initializer,
    input_init: Initializer,
    dtype: DTypeLike,
) -> Cell:
    r"""Return a cell of `gates` from a first product and one candidate from a second.

    .. math::
        a_t = b + W\, \mathrm{operand}(s_{t-1}) + U x_t, \qquad
        n_t = b' + W'\, \mathrm{operand}'(s_{t-1}, a_t) + U' x_t, \\
        s_t, y_t = \mathrm{pointwise}(s_{t-1}, a_t, n_t)

    Args:
      hidden_size: number of units, H.
      gates: number of gates in a, G.
      second_operand: `(constants, state, a) -> [*batch, H]`, the vector that W' multiplies.
      pointwise: `(constants, state, a, n) -> (state, y)`, elementwise.
      params_type: makes params of `W [G H, H]`, `W' [H, H]`, `U [(G + 1) H, I]`, `b [(G + 1) H]`.
      second: field of the parameters that holds W'.
      operand: `state -> [*batch, H]`, the vector that W multiplies.
      state: zeros `[*batch, H]` to the initial state.
      recurrent_init, input_init, dtype: see `gated`.
    """
    H, G = hidden_size, gates

    def init(key: Key, input_size: int) -> Params:
        W_key, second_key, U_key = jax.random.split(key, 3)
        return params_type(
            stacked(recurrent_init, G)(W_key, (G * H, H), dtype),
            recurrent_init(second_key, (H, H), dtype),
            stacked(input_init, G + 1)(U_key, ((G + 1) * H, input_size), dtype),
            jnp.zeros((G + 1) * H, dtype),
        )

    def drive(params: Any, Ux: Array) -> tuple[Array, ...]:
        return tuple(jax.lax.split(Ux + params.b, [G * H, H], axis=Ux.ndim - 1))

    products = (
        Product(lambda params: params.W, lambda _, state: operand(state)),
        Product(attrgetter(second), second_operand),
    )
    structure = Structure(lambda params: params.U, drive, products, pointwise, unitwise=True)
    return structured(init, zero_state(H, state=state), structure)
