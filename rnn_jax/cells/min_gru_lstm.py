"""The GRU and the LSTM without what stands in the way of a parallel scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import split_blocks
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_size
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class InputParams:
    """`U [G, I]`, `b [G]`; G is H for each gate."""

    U: Array
    b: Array


@maker
def min_gru(
    hidden_size: int,
    *,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the GRU whose gate and candidate see the input alone.

    .. math::
        z = \sigma(U_z x_t + b_z), \qquad n = U_n x_t + b_n, \qquad
        h_t = (1 - z) \odot h_{t-1} + z \odot n, \qquad y_t = h_t

    with the rows of U and b in the order z n.

    Args:
      hidden_size: H.
      input_init: draws each block of U. b starts at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Feng et al., Were RNNs all we needed? (2024), arXiv 2410.01201, in its plain form;
    the paper also has one in logarithms, for a positive candidate.
    """

    def coefficients(_: Any, z: Array, n: Array) -> tuple[Array, Array]:
        return jax.nn.sigmoid(-z), jax.nn.sigmoid(z) * n

    return _of_input_alone(hidden_size, 2, coefficients, lambda zeros: zeros, input_init, dtype)


@maker
def min_lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the LSTM whose gates and candidate see the input alone, its gates normalized.

    .. math::
        i, f = \sigma(U x_t + b), \qquad n = U_n x_t + b_n, \qquad
        h_t = \frac{f}{i + f} \odot h_{t-1} + \frac{i}{i + f} \odot n, \qquad y_t = h_t

    with the rows of U and b in the order i f n. `forget_bias` is where b starts for f; the other
    arguments, the state, errors and reference are those of `min_gru`.
    """

    def coefficients(_: Any, i: Array, f: Array, n: Array) -> tuple[Array, Array]:
        # f / (i + f), from logarithms: neither gate need be far from zero.
        kept = jax.nn.log_sigmoid(f) - jax.nn.log_sigmoid(i)
        return jax.nn.sigmoid(kept), jax.nn.sigmoid(-kept) * n

    H = hidden_size
    bias = lambda zeros: zeros.at[H : 2 * H].set(forget_bias)
    return _of_input_alone(H, 3, coefficients, bias, input_init, dtype)


def _of_input_alone(
    H: int,
    blocks: int,
    coefficients: Callable[..., tuple[Array, Array]],
    bias: Callable[[Array], Array],
    input_init: Initializer,
    dtype: DTypeLike,
) -> Cell:
    check_size("hidden_size", H)

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        U = stacked(input_init, blocks)(key, (blocks * H, input_size), dtype)
        return InputParams(U, bias(jnp.zeros(blocks * H, dtype)))

    return linear(
        init,
        lambda params, batch=(): jnp.zeros((*batch, H), params.b.dtype),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_blocks(Ux + params.b, blocks)),
        coefficients=coefficients,
        unitwise=True,
    )
