"""Minimal gated units: one gate that forgets and resets."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.nn import sigmoid
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._structured import AffineParams
from rnn_jax.cells._two_products import two_products
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class MGUParams:
    """`W [H, H]` of the gate and `W_n [H, H]`; `U [2H, I]`, `b [2H]` in the order f n."""

    W: Array
    W_n: Array
    U: Array
    b: Array


@flax.struct.dataclass
class MGUResetAfterParams:
    """`W [2H, H]`, `U [2H, I]`, `b [2H]` in the order f n; `b_n [H]`, inside the reset."""

    W: Array
    U: Array
    b: Array
    b_n: Array


@maker
def mgu(
    hidden_size: int,
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the minimal gated unit.

    .. math::
        f = \sigma(U_f x_t + b_f + W h_{t-1}), \qquad
        n = \tanh(U_n x_t + b_n + W_n (f \odot h_{t-1})), \\
        h_t = (1 - f) \odot h_{t-1} + f \odot n, \qquad y_t = h_t

    Args:
      hidden_size: number of units, H. b starts at zero.
      recurrent_init, input_init, dtype: see `gated`; W_n is drawn as W is.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Zhou, Wu, Zhang and Zhou, Minimal gated unit for recurrent neural networks (2016),
    arXiv 1603.09420.
    """

    def reset(_: Any, h: Array, f: Array) -> Array:
        with jax.named_scope("f"):
            f = sigmoid(f)
        return f * h

    def pointwise(_: Any, h: Array, f: Array, n: Array) -> tuple[Array, Array]:
        with jax.named_scope("f"):
            f = sigmoid(f)
        with jax.named_scope("n"):
            n = jnp.tanh(n)
        with jax.named_scope("h"):
            h = (1 - f) * h + f * n
        return h, h

    return two_products(
        hidden_size,
        1,
        reset,
        pointwise,
        params_type=MGUParams,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )


@maker
def mgu_reset_after(
    hidden_size: int,
    *,
    forget_bias: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the minimal gated unit with the reset after the recurrent product.

    .. math::
        f = \sigma(U_f x_t + b_f + W_f h_{t-1}), \qquad
        n = \tanh(U_n x_t + b'_n + f \odot (W_n h_{t-1} + b_n)), \\
        h_t = f \odot h_{t-1} + (1 - f) \odot n, \qquad y_t = h_t

    U, W and b have their rows in the order f n, b'_n being the last of b; b_f starts at
    `forget_bias`. The other arguments, the state and the errors are those of `mgu`. Departure: as
    in Flax's MGUCell, the reset comes after the product, and f keeps where that of `mgu` writes.
    """
    H = hidden_size

    def drive(params: MGUResetAfterParams, Ux: Array) -> tuple[Array, Array]:
        f, n = split_gates(Ux + params.b, 2)
        return jnp.concatenate([f, jnp.zeros_like(f)], axis=-1), n

    def pointwise(b_n: Array, h: Array, a: Array, n: Array) -> tuple[Array, Array]:
        f, Wh = split_gates(a, 2)
        with jax.named_scope("f"):
            f = sigmoid(f)
        with jax.named_scope("h"):
            h = f * h + (1 - f) * jnp.tanh(n + f * (Wh + b_n))
        return h, h

    def with_inner_bias(affine: AffineParams, key: Key) -> MGUResetAfterParams:
        return MGUResetAfterParams(affine.W, affine.U, affine.b, jnp.zeros(H, dtype))

    return gated(
        H,
        2,
        pointwise,
        bias=lambda zeros: zeros.at[:H].set(forget_bias),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        extend=with_inner_bias,
        constants=lambda params: params.b_n,
        drive=drive,
        unitwise=True,
    )
