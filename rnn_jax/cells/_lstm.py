"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
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


@flax.struct.dataclass
class LSTMState:
    """`c [*batch, H]`, the memory cell, and `h [*batch, H]`, the hidden state."""

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
      hidden_size: number of units, H.
      forget_bias: initial b of f; the rest of b starts at zero. 1 as in Jozefowicz et al. (2015):
        σ(0)^100 = 8e-31, σ(1)^100 = 2.5e-14.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state (c, h), each `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    References: Hochreiter and Schmidhuber, Long short-term memory (1997); Gers, Schmidhuber and
    Cummins, Learning to forget (2000).
    """

    def pointwise(state: LSTMState, a: Array) -> tuple[LSTMState, Array]:
        i, f, o, g = gates(a, i=sigmoid, f=sigmoid, o=sigmoid, g=jnp.tanh)
        with jax.named_scope("c"):
            c = f * state.c + i * g
        with jax.named_scope("h"):
            h = o * jnp.tanh(c)
        return LSTMState(c=c, h=h), h

    return with_forget_gate(
        hidden_size,
        "ifog",
        pointwise,
        forget_bias,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )


def with_forget_gate(
    hidden_size: int,
    order: str,
    pointwise: Callable[..., Any],
    forget_bias: float,
    state: Callable[[Array], Any] = lambda zeros: LSTMState(c=zeros, h=zeros),
    **options: Any,
) -> Cell:
    """Return a cell with gates in `order`, `forget_bias` for the initial b of f, and h fed back."""
    H, f = hidden_size, order.index("f")
    return gated(
        H,
        len(order),
        pointwise,
        fed_back=lambda state: state.h,
        initial_state=state,
        bias=lambda zeros: zeros.at[f * H : (f + 1) * H].set(forget_bias),
        unitwise=True,
        **options,
    )
