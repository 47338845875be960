"""The scalar LSTM with exponential gates."""

from __future__ import annotations

import math

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._lstm import with_forget_gate
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.transforms.precision import is_half
from rnn_jax.types import Array, Initializer, at_least_float32


@flax.struct.dataclass
class SLSTMState:
    """`c`, `n`, `m`, `h [*batch, H]`: memory cell, normalizer, log of their scale, hidden state."""

    c: Array
    n: Array
    m: Array
    h: Array


MOST_ROUNDING = 8.0
"""Largest rounding of m, in nats: e^8 squared leaves room in every dtype for what it multiplies."""


@maker
def slstm(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the sLSTM of xLSTM: an exponential input gate in range of a running maximum.

    .. math::
        m_t = \max(\ln\sigma(\tilde f) + m_{t-1},\, \tilde\imath)
            \ \text{or, where}\ n_{t-1} = 0,\ \tilde\imath, \qquad
        i = e^{\tilde\imath - m_t}, \qquad f = e^{\ln\sigma(\tilde f) + m_{t-1} - m_t}, \\
        c_t = f \odot c_{t-1} + i \odot \tanh(\tilde z), \qquad n_t = f \odot n_{t-1} + i, \\
        h_t = \sigma(\tilde o) \odot c_t / n_t, \qquad y_t = h_t

    with the rows of U x_t + W h_{t-1} + b in the order i f o z. c and n are the unscaled ones times
    e^{-m}, so h does not depend on m, and neither overflows. A memory that is empty, n = 0, has no
    scale, and takes that of the first input gate, so that n is at least 1 from then on. In half
    precision m is rounded before f and i are computed from it, up where n is above 1 and else down,
    and n stays near 1 instead. The arguments and errors are those of `lstm`; the state is
    (c, n, m, h).

    Reference: Beck et al., xLSTM: extended long short-term memory (2024), arXiv 2405.04517,
    equations 8 to 17, with the sigmoid forget gate, and the authors' code for the empty memory.
    Departures: one head, that is a full W; the f of an empty memory, which multiplies zeros and is
    felt in ∂c_1/∂c_0 alone, is at most the square root of the largest number of its dtype.
    """

    def pointwise(state: SLSTMState, a: Array) -> tuple[SLSTMState, Array]:
        dtype = a.dtype
        i, f, o, z = split_gates(at_least_float32(a), 4)
        c, n, m = map(at_least_float32, (state.c, state.n, state.m))
        kept = jax.nn.log_sigmoid(f) + m
        # Two `where` in place of maximum and minimum, whose derivatives cost more: they share ties.
        with jax.named_scope("m"):
            m = _as_stored(jnp.where((n == 0) | (i > kept), i, kept), n, dtype)
        # `kept - m` is above zero where the memory is empty, or where m was rounded down.
        most = _half_of_the_range(dtype)
        with jax.named_scope("f"):
            kept = kept - m
            f = jnp.exp(jnp.where(kept > most, most, kept))
        with jax.named_scope("i"):
            i = jnp.exp(i - m)
        with jax.named_scope("z"):
            z = jnp.tanh(z)
        with jax.named_scope("c"):
            c = f * c + i * z
        with jax.named_scope("n"):
            n = f * n + i
        with jax.named_scope("o"):
            o = jax.nn.sigmoid(o)
        with jax.named_scope("h"):
            h = (o * c / n).astype(dtype)
        return SLSTMState(c=c.astype(dtype), n=n.astype(dtype), m=m.astype(dtype), h=h), h

    return with_forget_gate(
        hidden_size,
        "ifoz",
        pointwise,
        forget_bias,
        lambda zeros: SLSTMState(c=zeros, n=zeros, m=zeros, h=zeros),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )


def _as_stored(m: Array, n: Array, dtype: DTypeLike) -> Array:
    """Return `m` as it is after storing in `dtype`."""
    if not is_half(dtype):
        return m
    # f and i must be relative to the m that the next step reads: nothing would be left of a decay
    # that is less than the spacing of m. Any m will do, for h does not depend on it: rounded to the
    # side from which n comes back to 1, it lets neither c nor n drift out of range. Where m is so
    # large that rounding would take them there in one step, it is left as it is.
    info = jnp.finfo(dtype)
    exact = jax.lax.stop_gradient(m)
    # Not `astype` there and back, which XLA may leave out.
    nearest = jax.lax.reduce_precision(exact, info.nexp, info.nmant)
    beyond = jnp.where(n > 1, jnp.inf, -jnp.inf).astype(dtype)
    next_one = jnp.nextafter(nearest.astype(dtype), beyond).astype(m.dtype)
    is_on_its_side = jnp.where(n > 1, nearest >= exact, nearest <= exact)
    change = jnp.where(is_on_its_side, nearest, next_one) - exact
    return m + jnp.where(jnp.abs(change) <= MOST_ROUNDING, change, 0)


def _half_of_the_range(dtype: DTypeLike) -> float:
    """Return ln √max: a factor of √max leaves room for another one."""
    return 0.5 * math.log(float(jnp.finfo(dtype).max))
