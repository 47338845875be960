"""The LSTM with peepholes, and with coupled gates."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gates import gates, split_gates
from rnn_jax.cells._lstm import LSTMState, with_forget_gate
from rnn_jax.cells._structured import AffineParams
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
    r"""Return the LSTM with peepholes: its gates read the memory cell.

    .. math::
        i, f = \sigma(a + p \odot c_{t-1}), \qquad g = \tanh(a), \qquad
        c_t = f \odot c_{t-1} + i \odot g, \\
        o = \sigma(a + p \odot c_t), \qquad h_t = o \odot \tanh(c_t), \qquad y_t = h_t

    with a = U x_t + W h_{t-1} + b, each gate its own rows. `peephole_init` draws p, each gate's
    `[H]` by itself. The other arguments, the state and the errors are those of `lstm`.

    Reference: Gers and Schmidhuber, Recurrent nets that time and count (2000), with the output gate
    as in Graves (2013), arXiv 1308.0850.
    """
    H = hidden_size

    def pointwise(p: Array, state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        p_i, p_f, p_o = split_gates(p, 3)
        i, f, o, g = split_gates(a, 4)
        with jax.named_scope("i"):
            i = sigmoid(i + p_i * state.c)
        with jax.named_scope("f"):
            f = sigmoid(f + p_f * state.c)
        with jax.named_scope("g"):
            g = jnp.tanh(g)
        with jax.named_scope("c"):
            c = f * state.c + i * g
        with jax.named_scope("o"):
            o = sigmoid(o + p_o * c)
        with jax.named_scope("h"):
            h = o * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    def with_peepholes(affine: AffineParams, key: Key) -> PeepholeParams:
        p = stacked(peephole_init, 3)(key, (3 * H,), dtype)
        return PeepholeParams(affine.W, affine.U, affine.b, p)

    return with_forget_gate(
        H,
        "ifog",
        pointwise,
        forget_bias,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        extend=with_peepholes,
        constants=lambda params: params.p,
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

    def pointwise(state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        f, o, g = gates(a, f=sigmoid, o=sigmoid, g=jnp.tanh)
        with jax.named_scope("c"):
            c = f * state.c + (1 - f) * g
        with jax.named_scope("h"):
            h = o * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    return with_forget_gate(
        hidden_size,
        "fog",
        pointwise,
        forget_bias,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )
