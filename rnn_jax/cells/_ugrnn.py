"""The update-gate network."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells._gates import gates
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer


@maker
def ugrnn(
    hidden_size: int,
    *,
    update_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return Elman's network with one gate, for how much of the state is kept.

    .. math::
        g = \sigma(U_g x_t + W_g h_{t-1} + b_g), \qquad
        n = \tanh(U_n x_t + W_n h_{t-1} + b_n), \\
        h_t = g \odot h_{t-1} + (1 - g) \odot n, \qquad y_t = h_t

    U, W and b have their rows in the order g n.

    Args:
      hidden_size: number of units, H.
      update_bias: initial b of g; the rest of b starts at zero.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Collins, Sohl-Dickstein and Sussillo, Capacity and trainability in recurrent neural
    networks (2017), arXiv 1611.09913.
    """
    H = hidden_size

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        g, n = gates(a, g=sigmoid, n=jnp.tanh)
        with jax.named_scope("h"):
            h = g * h + (1 - g) * n
        return h, h

    return gated(
        H,
        2,
        pointwise,
        bias=lambda zeros: zeros.at[:H].set(update_bias),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )
