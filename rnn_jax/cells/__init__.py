"""Recurrent cells: pure functions of one step."""

from collections.abc import Callable

from rnn_jax.cells import initializers
from rnn_jax.cells.elman import ElmanParams, elman, elman_preactivation
from rnn_jax.cells.function import from_function
from rnn_jax.cells.lstm import LSTMParams, LSTMState, lstm
from rnn_jax.cells.wrappers import ReadoutParams, readout
from rnn_jax.types import Cell

CELLS: dict[str, Callable[..., Cell]] = {
    "elman": elman,
    "elman_preactivation": elman_preactivation,
    "lstm": lstm,
}
"""Every cell by name: the hidden size first, everything else optional."""

__all__ = [
    "CELLS",
    "ElmanParams",
    "LSTMParams",
    "LSTMState",
    "ReadoutParams",
    "elman",
    "elman_preactivation",
    "from_function",
    "initializers",
    "lstm",
    "readout",
]
