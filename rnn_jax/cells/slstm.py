"""The scalar LSTM with exponential gates."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.structured import gated, split_blocks
from rnn_jax.types import Array, Cell, Initializer


@flax.struct.dataclass
class SLSTMState:
    """`c`, `n`, `m`, `h [*batch, H]`: memory, normalizer, log of their scale, output."""

    c: Array
    n: Array
    m: Array
    h: Array


def slstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""The sLSTM of xLSTM: an exponential input gate, kept in range by a running maximum.

    .. math::
        m_t = \max(\ln\sigma(\tilde f) + m_{t-1},\, \tilde\imath), \qquad
        i = e^{\tilde\imath - m_t}, \qquad f = e^{\ln\sigma(\tilde f) + m_{t-1} - m_t}, \\
        c_t = f \odot c_{t-1} + i \odot \tanh(\tilde z), \qquad n_t = f \odot n_{t-1} + i, \\
        h_t = \sigma(\tilde o) \odot c_t / n_t, \qquad y_t = h_t

    with the rows of U x_t + W h_{t-1} + b in the order i f o z. c and n are the unscaled ones times
    e^{-m}, so h does not depend on m, and neither overflows. The arguments and errors are those of
    `lstm`; the state is (c, n, m, h).

    Reference: Beck et al., xLSTM: extended long short-term memory (2024), arXiv 2405.04517,
    equations 8 to 17, with the sigmoid forget gate. Departure: one head, that is a full W.
    """
    H = hidden_size

    def pointwise(state: SLSTMState, a: Array) -> tuple[SLSTMState, Array]:
        i, f, o, z = split_blocks(a, 4)
        kept = jax.nn.log_sigmoid(f) + state.m
        m = jnp.maximum(kept, i)
        i, f = jnp.exp(i - m), jnp.exp(kept - m)
        c = f * state.c + i * jnp.tanh(z)
        n = f * state.n + i
        h = jax.nn.sigmoid(o) * c / n
        return SLSTMState(c=c, n=n, m=m, h=h), h

    return gated(
        H,
        4,
        pointwise,
        fed_back=lambda state: state.h,
        initial_state=lambda zeros: SLSTMState(c=zeros, n=zeros, m=zeros, h=zeros),
        bias=lambda zeros: zeros.at[H : 2 * H].set(forget_bias),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )
