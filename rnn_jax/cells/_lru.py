"""The linear recurrent unit, complex and diagonal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Complex
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import zero_state
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, invalid
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Initializer, Key, wide_dtype


@flax.struct.dataclass
class LRUParams:
    """`nu`, `theta`, `gamma [H]`, all logarithms; `U [3H, I]` is (Re B, Im B, D), `C [H, 2H]`."""

    nu: Array
    theta: Array
    gamma: Array
    U: Array
    C: Array


LARGEST_NU, LARGEST_THETA = 10.0, 40.0
"""A factor e^{-e^10} is zero in every dtype, and no dtype resolves e^40 radians."""


@maker
def lru(
    hidden_size: int,
    *,
    r_min: float = 0.9,
    r_max: float = 0.999,
    max_phase: float = 6.283185307179586,
    input_init: Initializer = gaussian(),
    output_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the linear recurrent unit: complex, diagonal, stable by construction.

    .. math::
        \lambda = e^{-e^\nu + i e^\theta}, \qquad
        s_t = \lambda \odot s_{t-1} + e^\gamma \odot B x_t, \qquad
        y_t = \mathrm{Re}(C s_t) + D x_t

    `params.C` holds Re C and −Im C side by side, for the real product with (Re s, Im s).

    Args:
      hidden_size: number of complex units, H, and size of y.
      r_min: least initial |λ|; λ starts uniform on the ring between the radii, e^γ at √(1 − |λ|²).
      r_max: largest initial |λ|.
      max_phase: largest initial arg λ, in radians; arg λ starts uniform on (0, max_phase].
      input_init: initializer of Re B, Im B, each scaled by 1/√2, and D.
      output_init: initializer of C, both parts.
      dtype: dtype of the parameters, and with them of the state.

    Returns:
      A Cell with state s, a `Complex` with parts `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, radii not in 0 ≤ r_min < r_max ≤ 1,
        a max_phase that is not positive, an input that does not fit B.

    Reference: Orvieto et al., Resurrecting recurrent neural networks for long sequences (2023),
    arXiv 2303.06349. Departure: D is a matrix, since x need not have H features.
    """
    check_positive("max_phase", max_phase)
    if not 0 <= r_min < r_max <= 1:
        got = f"r_min = {r_min}, r_max = {r_max}"
        raise invalid("r_min", got, "0 <= r_min < r_max <= 1", "Try 0.9 and 0.999.")
    H = hidden_size

    def init(key: Key, input_size: int) -> LRUParams:
        *lambda_keys, U_key, C_key = jax.random.split(key, 4)
        nu, theta, gamma = _on_the_ring(lambda_keys, H, r_min, r_max, max_phase, wide_dtype(dtype))
        U = stacked(input_init, 3)(U_key, (3 * H, input_size), dtype)
        return LRUParams(
            nu=nu.astype(dtype),
            theta=theta.astype(dtype),
            gamma=gamma.astype(dtype),
            U=U.at[: 2 * H].multiply(jnp.asarray(0.5**0.5, dtype)),
            C=output_init(C_key, (H, 2 * H), dtype),
        )

    def output(params: LRUParams, y: Array) -> Array:
        s, Dx = jax.lax.split(y, [2 * H, H], axis=y.ndim - 1)
        with jax.named_scope("y"):
            return matvec(params.C, s) + Dx

    return linear(
        init,
        zero_state(H, state=lambda zeros: Complex(re=zeros, im=zeros)),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_gates(Ux, 3)),
        coefficients=_coefficients,
        emit=_emit,
        constants=lambda params: (params.nu, params.theta, params.gamma),
        output=output,
        unitwise=True,
    )


def _coefficients(constants: Any, re: Array, im: Array, Dx: Array) -> tuple[Array, Array]:
    """Return λ and e^γ B x."""
    nu, theta, gamma = constants
    # Stable by construction: |λ| = e^{-e^ν} is below 1 for every ν, so no step of an optimizer
    # leads to a state that grows without limit. e^ν itself is limited, as its derivative would
    # otherwise be infinite times zero; so is e^θ.
    with jax.named_scope("lambda"):
        decay, phase = jnp.minimum(nu, LARGEST_NU), jnp.minimum(theta, LARGEST_THETA)
        factor = jnp.exp(jax.lax.complex(-jnp.exp(decay), jnp.exp(phase)))
    with jax.named_scope("beta"):
        scale = jnp.exp(gamma)
        return factor, jax.lax.complex(scale * re, scale * im)


def _emit(_: Any, s: Array, re: Array, im: Array, Dx: Array) -> Array:
    """Return what `output` reads: Re s, Im s and D x side by side."""
    return jnp.concatenate([s.real, s.imag, Dx], axis=-1)


def _on_the_ring(
    keys: Sequence[Key], H: int, r_min: float, r_max: float, max_phase: float, dtype: DTypeLike
) -> tuple[Array, Array, Array]:
    """Draw ν, θ and γ, each `[H]`, of λ uniform in area between the radii r_min and r_max."""
    # Away from both ends of each interval, where logarithms are infinite.
    u = jax.random.uniform(keys[0], (H,), dtype, 1e-3, 1 - 1e-3)
    log_square, log_rest = _log_squares(u, r_min, r_max)
    phase = max_phase * jax.random.uniform(keys[1], (H,), dtype, 1e-3, 1)
    return jnp.log(-0.5 * log_square), jnp.log(phase), 0.5 * log_rest


def _log_squares(u: Array, r_min: float, r_max: float) -> tuple[Array, Array]:
    """Return ln |λ|² and ln (1 − |λ|²), |λ|² a fraction `u` of the way from r_min² to r_max²."""
    inner = (r_min / r_max) ** 2
    log_square = 2 * math.log(r_max) + jnp.log(inner + u * (1 - inner))
    rest = (1 - r_max) * (1 + r_max) + (1 - u) * (r_max - r_min) * (r_max + r_min)
    # Each logarithm from the one of the two numbers that is not rounded to 1.
    return jnp.where(rest < 0.5, jnp.log1p(-rest), log_square), jnp.log(rest)
