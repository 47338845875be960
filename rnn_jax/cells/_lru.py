"""Linear recurrent units, complex and gated."""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Complex
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import split_blocks
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, check_size, invalid
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Initializer, Key, Params, wide_dtype


@flax.struct.dataclass
class LRUParams:
    """`nu`, `theta`, `gamma [H]`, all logarithms; `U [3H, I]` is (Re B, Im B, D), `C [H, 2H]`."""

    nu: Array
    theta: Array
    gamma: Array
    U: Array
    C: Array


@flax.struct.dataclass
class RGLRUParams:
    """`a [H]`, the logit of the factor; `U [3H, I]`, `b [3H]` in the order r i n."""

    a: Array
    U: Array
    b: Array


FORGOTTEN = 10.0
"""A factor e^{-e^10} is zero in every dtype: its exponent need not grow any further."""
LARGEST = 40.0
"""e^40 radians are beyond the resolution of every dtype, and far from the largest number of any."""


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
      hidden_size: H, of s and of y.
      r_min: |λ| starts uniform on a ring of radii r_min,
      r_max: to r_max, with e^γ = √(1 − |λ|²).
      max_phase: arg λ starts uniform on (0, max_phase], in radians.
      input_init: draws Re B, Im B, each scaled by 1/√2, and D.
      output_init: draws C, both parts.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state s, a `Complex` with parts `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, radii not in 0 ≤ r_min < r_max ≤ 1,
        a max_phase that is not positive, an input that does not fit B.

    Reference: Orvieto et al., Resurrecting recurrent neural networks for long sequences (2023),
    arXiv 2303.06349. Departure: D is a matrix, since x need not have H features.
    """
    check_size("hidden_size", hidden_size)
    check_positive("max_phase", max_phase)
    if not 0 <= r_min < r_max <= 1:
        got = f"r_min = {r_min}, r_max = {r_max}"
        raise invalid("r_min", got, "0 <= r_min < r_max <= 1", "Try 0.9 and 0.999.")
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        r_key, phase_key, U_key, C_key = jax.random.split(key, 4)
        # Uniform on the ring in area; drawn away from both ends, where logarithms are infinite.
        wide = wide_dtype(dtype)
        u = jax.random.uniform(r_key, (H,), wide, 1e-3, 1 - 1e-3)
        log_square, log_rest = _logs_on_the_ring(u, r_min, r_max)
        phase = max_phase * jax.random.uniform(phase_key, (H,), wide, 1e-3, 1)
        half = jnp.asarray(0.5**0.5, dtype)
        U = stacked(input_init, 3)(U_key, (3 * H, input_size), dtype)
        return LRUParams(
            nu=jnp.log(-0.5 * log_square).astype(dtype),
            theta=jnp.log(phase).astype(dtype),
            gamma=(0.5 * log_rest).astype(dtype),
            U=U.at[: 2 * H].multiply(half),
            C=output_init(C_key, (H, 2 * H), dtype),
        )

    def initial_state(params: Params, batch: Any = ()):
        zeros = jnp.zeros((*batch, H), params.nu.dtype)
        return Complex(re=zeros, im=zeros)

    def coefficients(constants: Any, re: Array, im: Array, Dx: Array):
        nu, theta, gamma = constants
        decay, phase = jnp.exp(jnp.minimum(nu, FORGOTTEN)), jnp.exp(jnp.minimum(theta, LARGEST))
        factor = jnp.exp(jax.lax.complex(-decay, phase))
        scale = jnp.exp(gamma)
        return factor, jax.lax.complex(scale * re, scale * im)

    def emit(_: Any, s: Array, re: Array, im: Array, Dx: Array) -> Array:
        return jnp.concatenate([s.real, s.imag, Dx], axis=-1)

    def output(params: LRUParams, y: Array) -> Array:
        s, Dx = jax.lax.split(y, [2 * H, H], axis=y.ndim - 1)
        return matvec(params.C, s) + Dx

    return linear(
        init,
        initial_state,
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_blocks(Ux, 3)),
        coefficients=coefficients,
        emit=emit,
        constants=lambda params: (params.nu, params.theta, params.gamma),
        output=output,
        unitwise=True,
    )


@maker
def rg_lru(
    hidden_size: int,
    *,
    sharpness: float = 8.0,
    a_min: float = 0.9,
    a_max: float = 0.999,
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the real-gated linear recurrent unit of Griffin.

    .. math::
        r, i = \sigma(U x_t + b), \qquad n = U_n x_t + b_n, \qquad
        \alpha_t = \sigma(a)^{c\, r}, \\
        h_t = \alpha_t \odot h_{t-1} + \sqrt{1 - \alpha_t^2} \odot i \odot n, \qquad y_t = h_t

    with the rows of U and b in the order r i n.

    Args:
      hidden_size: H.
      sharpness: c.
      a_min: σ(a)^c starts uniform on a_min
      a_max: to a_max.
      input_init: draws each block of U. b starts at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, factors other than
        0 < a_min < a_max < 1, a sharpness that is not positive, an input that does not fit U.

    Reference: De et al., Griffin: mixing gated linear recurrences with local attention (2024),
    arXiv 2402.19427. Departures: the gates are full, not block-diagonal; U_n takes an input of any
    size to H channels, which in the paper the layer before does. The authors' code bounds the slope
    of the square root by 1,000; here it is exact until √(1 − α²) is below 1e-19 (of float32) and
    taken as 0.
    """
    check_size("hidden_size", hidden_size)
    check_positive("sharpness", sharpness)
    if not 0 < a_min < a_max < 1:
        got = f"a_min = {a_min}, a_max = {a_max}"
        raise invalid("a_min", got, "0 < a_min < a_max < 1", "Try 0.9 and 0.999.")
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        a_key, U_key = jax.random.split(key)
        wide = wide_dtype(dtype)
        log_a = jnp.log(jax.random.uniform(a_key, (H,), wide, a_min, a_max)) / sharpness
        return RGLRUParams(
            a=(log_a - jnp.log(-jnp.expm1(log_a))).astype(dtype),
            U=stacked(input_init, 3)(U_key, (3 * H, input_size), dtype),
            b=jnp.zeros(3 * H, dtype),
        )

    def coefficients(a: Array, r: Array, i: Array, n: Array) -> tuple[Array, Array]:
        log_alpha = sharpness * jax.nn.sigmoid(r) * jax.nn.log_sigmoid(a)
        return jnp.exp(log_alpha), _root(-jnp.expm1(2 * log_alpha)) * jax.nn.sigmoid(i) * n

    return linear(
        init,
        lambda params, batch=(): jnp.zeros((*batch, H), params.a.dtype),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_blocks(Ux + params.b, 3)),
        coefficients=coefficients,
        constants=lambda params: params.a,
        unitwise=True,
    )


def _logs_on_the_ring(u: Array, r_min: float, r_max: float) -> tuple[Array, Array]:
    """Return ln |λ|² and ln (1 − |λ|²), |λ|² a fraction `u` of the way from r_min² to r_max²."""
    inner = (r_min / r_max) ** 2
    log_square = 2 * math.log(r_max) + jnp.log(inner + u * (1 - inner))
    rest = (1 - r_max) * (1 + r_max) + (1 - u) * (r_max - r_min) * (r_max + r_min)
    # Each logarithm from the one of the two numbers that is not rounded to 1.
    return jnp.where(rest < 0.5, jnp.log1p(-rest), log_square), jnp.log(rest)


def _root(square: Array) -> Array:
    """Return √ of a number that may be zero to rounding, where root and slope are taken as zero.

    1 − α² falls with the gate r as e^r, and its root as e^{r/2}, whose slope falls too. Only the
    slope of √ by itself grows without limit.
    """
    least = float(jnp.finfo(square.dtype).tiny)
    return jnp.where(square > least, jnp.sqrt(jnp.where(square > least, square, 1)), 0)
