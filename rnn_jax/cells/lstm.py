"""Long short-term memory."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cells.checks import check_input, check_size
from rnn_jax.cells.initializers import gaussian, orthogonal, stacked
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Cell, Initializer


@flax.struct.dataclass
class LSTMParams:
    """`W [4H, H]`, `U [4H, I]`, `b [4H]`: gates stacked in the order i f o g."""

    W: Array
    U: Array
    b: Array


@flax.struct.dataclass
class LSTMState:
    """`c [*batch, H]`, the memory, and `h [*batch, H]`, what is shown of it."""

    c: Array
    h: Array


def lstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Long short-term memory with a forget gate.

    .. math::
        i, f, o = \sigma(U x_t + W h_{t-1} + b), \qquad g = \tanh(U x_t + W h_{t-1} + b), \\
        c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t), \qquad y_t = h_t

    each gate with its own rows of U, W and b. Along c alone, ∂c_t/∂c_k = Π f_i.

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
    check_size("hidden_size", hidden_size)
    H = hidden_size

    def init(key, input_size):
        check_size("input_size", input_size, least=0)
        W_key, U_key = jax.random.split(key)
        return LSTMParams(
            W=stacked(recurrent_init, 4)(W_key, (4 * H, H), dtype),
            U=stacked(input_init, 4)(U_key, (4 * H, input_size), dtype),
            b=jnp.zeros(4 * H, dtype).at[H : 2 * H].set(forget_bias),
        )

    def initial_state(params, batch=()):
        zeros = jnp.zeros((*batch, H), params.W.dtype)
        return LSTMState(c=zeros, h=zeros)

    def step(params: LSTMParams, state: LSTMState, x: Array) -> tuple[LSTMState, Array]:
        check_input(x, params.U)
        a = matvec(params.U, x) + matvec(params.W, state.h) + params.b
        i, f, o, g = jnp.split(a, 4, axis=-1)
        c = jax.nn.sigmoid(f) * state.c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    return Cell(init, initial_state, step)
