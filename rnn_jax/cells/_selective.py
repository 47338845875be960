"""The selective state space model."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import zero_state
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, invalid
from rnn_jax.types import Array, Initializer, Key, wide_dtype


@flax.struct.dataclass
class SelectiveParams:
    """`A [H, N]`, ln of the decay rates; `U [2H + 2N, I]`, `b [2H + 2N]` (u, δ, B, C); `D [H]`."""

    A: Array
    U: Array
    b: Array
    D: Array


LARGEST = 40.0
"""Largest ln of a rate: e^40 forgets at once, far from the largest number of every dtype."""


@maker
def selective(
    hidden_size: int,
    *,
    state_size: int = 16,
    dt_min: float = 0.001,
    dt_max: float = 0.1,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the recurrence of Mamba: H channels of N linear units, whose step the input chooses.

    .. math::
        u, \delta, B, C = U x_t + b, \qquad \Delta = \mathrm{softplus}(\delta), \\
        s_t = e^{-\Delta e^A} \odot s_{t-1} + \Delta\, u B^\top, \qquad
        y_t = s_t C + D \odot u

    with u, Δ `[H]`, B, C `[N]` and s `[H, N]`.

    Args:
      hidden_size: number of channels, H.
      state_size: number of linear units in each channel, N.
      dt_min: least initial Δ; at no input, Δ starts log-uniform on [dt_min, dt_max].
      dt_max: largest initial Δ.
      input_init: initializer of U. A starts at ln 1 .. ln N, D at one, the rest of b at zero.
      dtype: dtype of the parameters, and with them of the state.

    Returns:
      A Cell with state s `[*batch, H, N]`, initially zero.

    Raises:
      ValueError: sizes that are not positive integers, steps that are not positive or not in
        order, an input that does not fit U.

    Reference: Gu and Dao, Mamba (2023), arXiv 2312.00752, the layer "S6". Departures: U takes an
    input of any size to H channels, and δ is not of low rank. The input enters by Euler's rule,
    Δ B, as in the authors' code; the paper's equation 4 has the exact integral of a constant input,
    (e^{−Δ e^A} − 1) B / −e^A, to which that is the first order in Δ.
    """
    check_positive("dt_min", dt_min)
    check_positive("dt_max", dt_max)
    if dt_min > dt_max:
        raise invalid("dt_min", dt_min, f"at most dt_max = {dt_max}", "Try 0.001 and 0.1.")
    H, N = hidden_size, state_size
    sizes = [H, H, N, N]

    def init(key: Key, input_size: int) -> SelectiveParams:
        U_key, dt_key = jax.random.split(key)
        delta = _log_uniform_steps(dt_key, H, dt_min, dt_max, wide_dtype(dtype))
        rates = jnp.arange(1, N + 1).astype(wide_dtype(dtype))
        return SelectiveParams(
            A=jnp.broadcast_to(jnp.log(rates).astype(dtype), (H, N)),
            U=input_init(U_key, (sum(sizes), input_size), dtype),
            b=jnp.zeros(sum(sizes), dtype).at[H : 2 * H].set(delta.astype(dtype)),
            D=jnp.ones(H, dtype),
        )

    return linear(
        init,
        zero_state(H, N),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(jax.lax.split(Ux + params.b, sizes, axis=Ux.ndim - 1)),
        coefficients=_coefficients,
        emit=_emit,
        constants=lambda params: (params.A, params.D),
    )


def _coefficients(constants: Any, u: Array, delta: Array, B: Array, C: Array):
    """Return α = e^{−Δ e^A} and β = Δ u Bᵀ, each `[*batch, H, N]`."""
    A, _ = constants
    with jax.named_scope("Delta"):
        Delta = jax.nn.softplus(delta)
    rate = jnp.exp(jnp.minimum(A, LARGEST))
    with jax.named_scope("alpha"):
        alpha = jnp.exp(-Delta[..., None] * rate)
    with jax.named_scope("beta"):
        return alpha, (Delta * u)[..., None] * B[..., None, :]


def _emit(constants: Any, s: Array, u: Array, delta: Array, B: Array, C: Array) -> Array:
    """Return y = s C + D ⊙ u."""
    _, D = constants
    with jax.named_scope("y"):
        return (s * C[..., None, :]).sum(-1) + D * u


def _log_uniform_steps(key: Key, H: int, dt_min: Any, dt_max: Any, dtype: DTypeLike) -> Array:
    """Draw δ `[H]` of which softplus(δ) is log-uniform on [dt_min, dt_max]."""
    low, high = jnp.log(jnp.asarray([dt_min, dt_max], dtype))
    dt = jnp.exp(low + (high - low) * jax.random.uniform(key, (H,), dtype))
    # The inverse of softplus is ln(e^dt − 1), which overflows for a large dt and loses all digits
    # of a small one; this form does neither.
    return dt + jnp.log(-jnp.expm1(-dt))
