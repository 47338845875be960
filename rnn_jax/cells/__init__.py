"""Recurrent cells: pure functions of one step."""

from collections.abc import Callable

from rnn_jax.cells import initializers
from rnn_jax.cells.elman import elman, elman_preactivation
from rnn_jax.cells.function import from_function
from rnn_jax.cells.gru import GRUParams, GRUResetBeforeParams, gru, gru_reset_before
from rnn_jax.cells.lstm import LSTMState, lstm
from rnn_jax.cells.structured import AffineParams, gated, structured
from rnn_jax.cells.wrappers import ReadoutParams, readout
from rnn_jax.types import Cell

CELLS: dict[str, Callable[..., Cell]] = {
    "elman": elman,
    "elman_preactivation": elman_preactivation,
    "gru": gru,
    "gru_reset_before": gru_reset_before,
    "lstm": lstm,
}
"""Every cell by name: the hidden size first, everything else optional."""

__all__ = [
    "CELLS",
    "AffineParams",
    "GRUParams",
    "GRUResetBeforeParams",
    "LSTMState",
    "ReadoutParams",
    "elman",
    "elman_preactivation",
    "from_function",
    "gated",
    "gru",
    "gru_reset_before",
    "initializers",
    "lstm",
    "readout",
    "structured",
]
