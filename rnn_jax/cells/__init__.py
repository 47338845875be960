"""Recurrent cells: pure functions of one step."""

from collections.abc import Callable

from rnn_jax.cell import Cell
from rnn_jax.cells import initializers
from rnn_jax.cells._antisymmetric import antisymmetric, antisymmetric_gated
from rnn_jax.cells._cornn import OscillatorState, cornn
from rnn_jax.cells._diagonal import DiagonalParams, diagonal
from rnn_jax.cells._dropout import dropout
from rnn_jax.cells._elman import elman, elman_preactivation, irnn
from rnn_jax.cells._fastgrnn import FastGRNNParams, fastgrnn
from rnn_jax.cells._gated import gated
from rnn_jax.cells._gru import GRUParams, GRUResetBeforeParams, gru, gru_reset_before
from rnn_jax.cells._indrnn import IndRNNParams, indrnn
from rnn_jax.cells._jordan import JordanParams, jordan
from rnn_jax.cells._layer_norm import LayerNormParams, layer_norm
from rnn_jax.cells._leaky import continuous_time, leaky
from rnn_jax.cells._lem import LEMParams, LEMState, lem
from rnn_jax.cells._linear import linear
from rnn_jax.cells._lipschitz import lipschitz
from rnn_jax.cells._lru import LRUParams, lru
from rnn_jax.cells._lstm import LSTMState, lstm
from rnn_jax.cells._mgu import MGUParams, MGUResetAfterParams, mgu, mgu_reset_after
from rnn_jax.cells._orthogonal_rnn import orthogonal_rnn
from rnn_jax.cells._readout import ReadoutParams, readout
from rnn_jax.cells._residual import residual
from rnn_jax.cells._rg_lru import RGLRUParams, rg_lru
from rnn_jax.cells._selective import SelectiveParams, selective
from rnn_jax.cells._slstm import SLSTMState, slstm
from rnn_jax.cells._stack import stack
from rnn_jax.cells._structured import AffineParams, structured
from rnn_jax.cells._ugrnn import ugrnn
from rnn_jax.cells.activations import ACTIVATIONS, Activation
from rnn_jax.cells.dropout_masks import Masks, draw_masks
from rnn_jax.cells.function import from_function
from rnn_jax.cells.initial_state import LearnedInitialStateParams, learned_initial_state
from rnn_jax.cells.lstm_variants import PeepholeParams, lstm_coupled, lstm_peephole
from rnn_jax.cells.min_gru_lstm import InputParams, min_gru, min_lstm

CELLS: dict[str, Callable[..., Cell]] = {
    "elman": elman,
    "elman_preactivation": elman_preactivation,
    "irnn": irnn,
    "jordan": jordan,
    "leaky": leaky,
    "continuous_time": continuous_time,
    "lstm": lstm,
    "lstm_peephole": lstm_peephole,
    "lstm_coupled": lstm_coupled,
    "slstm": slstm,
    "gru": gru,
    "gru_reset_before": gru_reset_before,
    "mgu": mgu,
    "mgu_reset_after": mgu_reset_after,
    "ugrnn": ugrnn,
    "fastgrnn": fastgrnn,
    "indrnn": indrnn,
    "antisymmetric": antisymmetric,
    "antisymmetric_gated": antisymmetric_gated,
    "cornn": cornn,
    "lipschitz": lipschitz,
    "lem": lem,
    "orthogonal_rnn": orthogonal_rnn,
    "diagonal": diagonal,
    "lru": lru,
    "rg_lru": rg_lru,
    "min_gru": min_gru,
    "min_lstm": min_lstm,
    "selective": selective,
}
"""Every cell by name: the hidden size first, everything else optional."""

__all__ = [
    "ACTIVATIONS",
    "CELLS",
    "Activation",
    "AffineParams",
    "DiagonalParams",
    "FastGRNNParams",
    "GRUParams",
    "GRUResetBeforeParams",
    "IndRNNParams",
    "InputParams",
    "JordanParams",
    "LEMParams",
    "LEMState",
    "LRUParams",
    "LSTMState",
    "LayerNormParams",
    "LearnedInitialStateParams",
    "MGUParams",
    "MGUResetAfterParams",
    "Masks",
    "OscillatorState",
    "PeepholeParams",
    "RGLRUParams",
    "ReadoutParams",
    "SLSTMState",
    "SelectiveParams",
    "antisymmetric",
    "antisymmetric_gated",
    "continuous_time",
    "cornn",
    "diagonal",
    "draw_masks",
    "dropout",
    "elman",
    "elman_preactivation",
    "fastgrnn",
    "from_function",
    "gated",
    "gru",
    "gru_reset_before",
    "indrnn",
    "initializers",
    "irnn",
    "jordan",
    "layer_norm",
    "leaky",
    "learned_initial_state",
    "lem",
    "linear",
    "lipschitz",
    "lru",
    "lstm",
    "lstm_coupled",
    "lstm_peephole",
    "mgu",
    "mgu_reset_after",
    "min_gru",
    "min_lstm",
    "orthogonal_rnn",
    "readout",
    "residual",
    "rg_lru",
    "selective",
    "slstm",
    "stack",
    "structured",
    "ugrnn",
]
