"""The real-gated linear recurrent unit."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import zero_state
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, invalid
from rnn_jax.types import Array, Initializer, Key, wide_dtype


@flax.struct.dataclass
class RGLRUParams:
    """`a [H]`, logits of the factor; `U [3H, I]`, `b [3H]` in the order r i n."""

    a: Array
    U: Array
    b: Array


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
      hidden_size: number of units, H.
      sharpness: exponent of the factor, c.
      a_min: least initial factor; σ(a)^c starts uniform on [a_min, a_max].
      a_max: largest initial factor.
      input_init, dtype: see `gated`. b starts at zero.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, factors other than
        0 < a_min < a_max < 1, a sharpness that is not positive, an input that does not fit U.

    Reference: De et al., Griffin: mixing gated linear recurrences with local attention (2024),
    arXiv 2402.19427. Departures: the gates are full, not block-diagonal; U_n takes an input of any
    size to H channels, which in the paper the layer before does. The authors' code bounds the slope
    of the square root by 1,000; here it is exact until √(1 − α²) is below 1e-19 (of float32) and
    taken as 0.
    """
    check_positive("sharpness", sharpness)
    if not 0 < a_min < a_max < 1:
        got = f"a_min = {a_min}, a_max = {a_max}"
        raise invalid("a_min", got, "0 < a_min < a_max < 1", "Try 0.9 and 0.999.")
    H = hidden_size

    def init(key: Key, input_size: int) -> RGLRUParams:
        a_key, U_key = jax.random.split(key)
        wide = wide_dtype(dtype)
        log_a = jnp.log(jax.random.uniform(a_key, (H,), wide, a_min, a_max)) / sharpness
        return RGLRUParams(
            a=(log_a - jnp.log(-jnp.expm1(log_a))).astype(dtype),
            U=stacked(input_init, 3)(U_key, (3 * H, input_size), dtype),
            b=jnp.zeros(3 * H, dtype),
        )

    def coefficients(a: Array, r: Array, i: Array, n: Array) -> tuple[Array, Array]:
        with jax.named_scope("r"):
            r = jax.nn.sigmoid(r)
        with jax.named_scope("i"):
            i = jax.nn.sigmoid(i)
        # By ln α: 1 − α² = −expm1(2 ln α) keeps its digits where α is near 1, as it starts.
        log_alpha = sharpness * r * jax.nn.log_sigmoid(a)
        with jax.named_scope("alpha"):
            alpha = jnp.exp(log_alpha)
        with jax.named_scope("beta"):
            return alpha, _root(-jnp.expm1(2 * log_alpha)) * i * n

    return linear(
        init,
        zero_state(H),
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(split_gates(Ux + params.b, 3)),
        coefficients=coefficients,
        constants=lambda params: params.a,
        unitwise=True,
    )


def _root(square: Array) -> Array:
    """Return √ of a number that may be zero to rounding, where root and slope are taken as zero."""
    # 1 − α² falls with the gate r as e^r, and its root as e^{r/2}, whose slope falls too. Only the
    # slope of √ by itself grows without limit. The inner `where` keeps it away from a zero that the
    # outer one discards: infinity times zero would be NaN in the gradient.
    least = float(jnp.finfo(square.dtype).tiny)
    return jnp.where(square > least, jnp.sqrt(jnp.where(square > least, square, 1)), 0)
