"""Long short-term memory."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells._structured import split_blocks
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer


@flax.struct.dataclass
class LSTMState:
    """`c [*batch, H]`, the memory, and `h [*batch, H]`, what is shown of it."""

    c: Array
    h: Array


@maker
def lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return long short-term memory with a forget gate.

    .. math::
        i, f, o = \sigma(U x_t + W h_{t-1} + b), \qquad g = \tanh(U x_t + W h_{t-1} + b), \\
        c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t), \qquad y_t = h_t

    each gate with its own rows of `U [4H, I]`, `W [4H, H]` and `b [4H]`, in the order i f o g.
    Along c alone, ∂c_t/∂c_k = Π f_i.

    Args:
      hidden_size: H.
      forget_bias: where b starts for f; the rest of b starts at zero. 1 as in Jozefowicz et al.
        (2015); σ(0)^100 = 8e-31, σ(1)^100 = 2.5e-14.
      recurrent_init: draws each gate's block of W.
      input_init: draws each gate's block of U.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state (c, h), each `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    References: Hochreiter and Schmidhuber, Long short-term memory (1997); Gers, Schmidhuber and
    Cummins, Learning to forget (2000).
    """
    H = hidden_size

    def pointwise(state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        i, f, o, g = split_blocks(a, 4)
        i = jax.nn.sigmoid(i)
        f = jax.nn.sigmoid(f)
        o = jax.nn.sigmoid(o)
        c = f * state.c + i * jnp.tanh(g)
        h = o * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    return gated(
        H,
        4,
        pointwise,
        fed_back=lambda state: state.h,
        initial_state=lambda zeros: LSTMState(c=zeros, h=zeros),
        bias=lambda zeros: zeros.at[H : 2 * H].set(forget_bias),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )
