"""Networks that name the year of a sentence: one shares its parameters over time, one does not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

import rnn_jax
from rnn_jax.cells import elman, gru, initializers, lstm, readout
from rnn_jax.linalg import matvec
from rnn_jax.losses import at_last_step
from rnn_jax.tasks import Templates
from rnn_jax.types import Array, Key, Params


class Network(NamedTuple):
    """A network that reads `xs [T, B, I]`.

    `init: key -> params`; `logits: (params, xs, lengths [B]) -> [B, O]`.
    """

    name: str
    learning_rate: float
    weight_decay: float
    init: Callable[[Key], Params]
    logits: Callable[[Params, Array, Array], Array]


@flax.struct.dataclass
class PositionSpecificParams:
    """`U [T, H, I]`, a matrix for each position; `b [H]`, `V [O, H]`, `c [O]`."""

    U: Array
    b: Array
    V: Array
    c: Array


def position_specific(config: Any, templates: Templates) -> Network:
    """Return h = tanh(b + Σ_t U_t x_t), o = c + V h, with x_t = 0 past the end of a sentence."""
    T, H, I, O = config.T, config.hidden_size, templates.input_size, templates.years

    def init(key: Key) -> PositionSpecificParams:
        U_key, V_key = jax.random.split(key)
        U = initializers.gaussian(T**-0.5)(U_key, (T, H, I), jnp.float32)  # Var Σ_t U_t x_t = 1
        V = initializers.gaussian()(V_key, (O, H), jnp.float32)
        return PositionSpecificParams(U=U, b=jnp.zeros(H, U.dtype), V=V, c=jnp.zeros(O, U.dtype))

    def logits(p: PositionSpecificParams, xs: Array, lengths: Array) -> Array:
        h = jnp.tanh(p.b + jnp.einsum("thi,tbi->bh", p.U, xs))
        return p.c + matvec(p.V, h)

    return Network(
        "position-specific",
        config.position_specific_learning_rate,
        config.position_specific_weight_decay,
        init,
        logits,
    )


def recurrent(config: Any, templates: Templates) -> Network:
    """Return a cell's o = c + V h at the last word; U has unit variance, as inputs are one-hot."""
    make = {"GRU": gru, "LSTM": lstm, "Elman": elman}[config.cell]
    cell = make(config.hidden_size, input_init=initializers.gaussian(1.0))
    cell = readout(cell, templates.years)

    def logits(params: Params, xs: Array, lengths: Array) -> Array:
        _, ys = rnn_jax.unroll(cell, params, xs, lengths=lengths)
        return at_last_step(ys, lengths)

    return Network(
        f"recurrent ({config.cell})",
        config.learning_rate,
        config.weight_decay,
        functools.partial(cell.init, input_size=templates.input_size),
        logits,
    )
