"""The cells that studies of memory compare, in the order in which they were published."""

from __future__ import annotations

import functools
from collections.abc import Callable

from rnn_jax.cell import Cell
from rnn_jax.cells import cornn, elman, gru, irnn, lem, lru, lstm, orthogonal_rnn

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
