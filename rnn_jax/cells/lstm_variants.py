"""LSTMs whose gates see or share more."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells._lstm import LSTMState
from rnn_jax.cells._structured import AffineParams, split_blocks
from rnn_jax.cells.initializers import gaussian, orthogonal, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class PeepholeParams:
    """`W [4H, H]`, `U [4H, I]`, `b [4H]` as of `lstm`; `p [3H]`, the peepholes i f o."""

    W: Array
    U: Array
    b: Array
    p: Array


@maker
def lstm_peephole(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    peephole_init: Initializer = gaussian(0.1),
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the LSTM whose gates see the memory.

    .. math::
        i, f = \sigma(a + p \odot c_{t-1}), \qquad g = \tanh(a), \qquad
        c_t = f \odot c_{t-1} + i \odot g, \\
        o = \sigma(a + p \odot c_t), \qquad h_t = o \odot \tanh(c_t), \qquad y_t = h_t

    with a = U x_t + W h_{t-1} + b, each gate its own rows. `peephole_init` draws p, each gate's
    `[H]` by itself; the other arguments, the state and the errors are those of `lstm`.

    Reference: Gers and Schmidhuber, Recurrent nets that time and count (2000), with the output gate
    as in Graves (2013), arXiv 1308.0850.
    """
    H = hidden_size

    def pointwise(p: Array, state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        p_i, p_f, p_o = split_blocks(p, 3)
        i, f, o, g = split_blocks(a, 4)
        i, f = jax.nn.sigmoid(i + p_i * state.c), jax.nn.sigmoid(f + p_f * state.c)
        c = f * state.c + i * jnp.tanh(g)
        h = jax.nn.sigmoid(o + p_o * c) * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    def with_peepholes(affine: AffineParams, key: Key) -> PeepholeParams:
        p = stacked(peephole_init, 3)(key, (3 * H,), dtype)
        return PeepholeParams(affine.W, affine.U, affine.b, p)

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
        extend=with_peepholes,
        constants=lambda params: params.p,
        unitwise=True,
    )


@maker
def lstm_coupled(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the LSTM with coupled gates: it writes what it forgets.

    .. math::
        f, o = \sigma(U x_t + W h_{t-1} + b), \qquad g = \tanh(U x_t + W h_{t-1} + b), \\
        c_t = f \odot c_{t-1} + (1 - f) \odot g, \qquad
        h_t = o \odot \tanh(c_t), \qquad y_t = h_t

    each gate with its own rows of `U [3H, I]`, `W [3H, H]` and `b [3H]`, in the order f o g. |c|
    stays below 1. The arguments, state and errors are those of `lstm`.

    Reference: Greff et al., LSTM: a search space odyssey (2017), arXiv 1503.04069, there "CIFG".
    """
    H = hidden_size

    def pointwise(state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        f, o, g = split_blocks(a, 3)
        f = jax.nn.sigmoid(f)
        c = f * state.c + (1 - f) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    return gated(
        H,
        3,
        pointwise,
        fed_back=lambda state: state.h,
        initial_state=lambda zeros: LSTMState(c=zeros, h=zeros),
        bias=lambda zeros: zeros.at[:H].set(forget_bias),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )
