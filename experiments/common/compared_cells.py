"""The cells that studies of memory compare, in the order in which they were published."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells import cornn, elman, from_function, gru, irnn, lem, lru, lstm, orthogonal_rnn
from rnn_jax.types import Key

COMPARED: dict[str, Callable[[int], Cell]] = {
    "Elman": elman,
    "LSTM, forget bias 0": functools.partial(lstm, forget_bias=0.0),
    "LSTM, forget bias 1": lstm,
    "GRU": gru,
    "IRNN": irnn,
    "orthogonal": orthogonal_rnn,
    "coRNN": cornn,
    "LEM": lem,
    "LRU": lru,
}
"""By name, `hidden_size -> Cell`."""


def present_alone(hidden_size: int) -> Cell:
    """Return y_t = x_t, a cell without memory: with a readout, a linear model of the present."""
    del hidden_size
    return from_function(
        lambda params, zero, x: (0 * zero, x), state=jnp.zeros(1), init=_no_parameters
    )


def _no_parameters(key: Key, input_size: int) -> dict[str, Any]:
    del key, input_size
    return {}
