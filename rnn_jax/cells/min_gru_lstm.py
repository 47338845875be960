"""The GRU and the LSTM with gates of the input alone, which a parallel scan can take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import zero_state
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class InputParams:
    """`U [G, I]`, `b [G]`; G is H rows for each gate."""

    U: Array
    b: Array


@maker
def min_gru(
    hidden_size: int,
    *,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the GRU whose gate and candidate read the input alone.

    .. math::
        z = \sigma(U_z x_t + b_z), \qquad n = U_n x_t + b_n, \qquad
        h_t = (1 - z) \odot h_{t-1} + z \odot n, \qquad y_t = h_t

    with the rows of U and b in the order z n.

    Args:
      hidden_size: number of units, H.
      input_init, dtype: see `gated`. b starts at zero.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Feng et al., Were RNNs all we needed? (2024), arXiv 2410.01201, in its plain form;
    the paper also has one in logarithms, for a positive candidate.
    """

    def coefficients(_: Any, z: Array, n: Array) -> tuple[Array, Array]:
        with jax.named_scope("alpha"):
            alpha = jax.nn.sigmoid(-z)
        with jax.named_scope("z"):
            z = jax.nn.sigmoid(z)
        with jax.named_scope("beta"):
            return alpha, z * n

    return _of_input_alone(hidden_size, 2, coefficients, lambda zeros: zeros, input_init, dtype)


@maker
def min_lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the LSTM whose gates and candidate read the input alone, its gates normalized.

    .. math::
        i, f = \sigma(U x_t + b), \qquad n = U_n x_t + b_n, \qquad
        h_t = \frac{f}{i + f} \odot h_{t-1} + \frac{i}{i + f} \odot n, \qquad y_t = h_t

    with the rows of U and b in the order i f n. `forget_bias` is the initial b of f; the other
    arguments, the state, errors and reference are those of `min_gru`.
    """

    def coefficients(_: Any, i: Array, f: Array, n: Array) -> tuple[Array, Array]:
        # f / (i + f) = σ(ln f − ln i). Gates that are both closed are 0 / 0 in float32 from 104
        # below; their logarithms are never far from the pre-activations.
        kept = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        with jax.named_scope("alpha"):
            alpha = jax.nn.sigmoid(kept)
        with jax.named_scope("beta"):
            return alpha, jax.nn.sigmoid(-kept) * n

    H = hidden_size
    bias = lambda zeros: zeros.at[H : 2 * H].set(forget_bias)
    return _of_input_alone(H, 3, coefficients, bias, input_init, dtype)


def _of_input_alone(
    H: int,
    gates: int,
    coefficients: Callable[..., tuple[Array, Array]],
    bias: Callable[[Array], Array],
    input_init: Initializer,
    dtype: DTypeLike,
) -> Cell:
    def init(key: Key, input_size: int) -> InputParams:
        U = stacked(input_init, gates)(key, (gates * H, input_size), dtype)
        return InputParams(U, bias(jnp.zeros(gates * H, dtype)))

    return linear(
        init,
        zero_state(H),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_gates(Ux + params.b, gates)),
        coefficients=coefficients,
        unitwise=True,
    )
