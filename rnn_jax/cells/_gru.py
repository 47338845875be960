"""Gated recurrent units, with the reset gate on either side of the recurrent product."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import split_blocks, structured, zeros_like_W
from rnn_jax.cells.initializers import gaussian, orthogonal, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_size
from rnn_jax.types import Array, Initializer, Key, Params


@flax.struct.dataclass
class GRUParams:
    """`W [3H, H]`, `U [3H, I]`, `b [3H]` in the order r z n; `b_n [H]`, inside the reset."""

    W: Array
    U: Array
    b: Array
    b_n: Array


@flax.struct.dataclass
class GRUResetBeforeParams:
    """`W [2H, H]` in the order r z and `W_n [H, H]`; `U [3H, I]`, `b [3H]` in the order r z n."""

    W: Array
    W_n: Array
    U: Array
    b: Array


@maker
def gru(
    hidden_size: int,
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the gated recurrent unit with the reset gate after the recurrent product.

    .. math::
        r, z = \sigma(U_{rz} x_t + b_{rz} + W_{rz} h_{t-1}), \\
        n = \tanh(U_n x_t + b'_n + r \odot (W_n h_{t-1} + b_n)), \\
        h_t = (1 - z) \odot n + z \odot h_{t-1}, \qquad y_t = h_t

    U, W and b have their rows in the order r z n, b'_n being the last of b. This is the form of
    cuDNN, PyTorch and Flax: one product a step, and b_n, the only second bias that b does not
    absorb.

    Args:
      hidden_size: H.
      recurrent_init: draws each block of W.
      input_init: draws each block of U. Both biases start at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder (2014), the
    first version of arXiv 1406.1078; later versions have the reset before the product.
    """
    check_size("hidden_size", hidden_size)
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, U_key = jax.random.split(key)
        return GRUParams(
            W=stacked(recurrent_init, 3)(W_key, (3 * H, H), dtype),
            U=stacked(input_init, 3)(U_key, (3 * H, input_size), dtype),
            b=jnp.zeros(3 * H, dtype),
            b_n=jnp.zeros(H, dtype),
        )

    def drive(params: GRUParams, Ux: Array) -> tuple[Array, Array]:
        # The product is added to the first; its last block is what the reset gate multiplies.
        rz, n = jax.lax.split(Ux + params.b, [2 * H, H], axis=Ux.ndim - 1)
        return jnp.concatenate([rz, jnp.broadcast_to(params.b_n, n.shape)], axis=-1), n

    def pointwise(_: Any, h: Array, a: Array, n: Array) -> tuple[Array, Array]:
        rz, reset = jax.lax.split(a, [2 * H, H], axis=a.ndim - 1)
        r, z = split_blocks(jax.nn.sigmoid(rz), 2)
        n = jnp.tanh(n + r * reset)
        h = (1 - z) * n + z * h
        return h, h

    products = (Product(lambda params: params.W, lambda _, h: h),)
    return structured(
        init, zeros_like_W(H), Structure(_U, drive, products, pointwise, unitwise=True)
    )


@maker
def gru_reset_before(
    hidden_size: int,
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the gated recurrent unit with the reset gate before the recurrent product.

    .. math::
        r, z = \sigma(U_{rz} x_t + b_{rz} + W h_{t-1}), \\
        n = \tanh(U_n x_t + b_n + W_n (r \odot h_{t-1})), \\
        h_t = (1 - z) \odot n + z \odot h_{t-1}, \qquad y_t = h_t

    Two products a step, one after the other. The arguments, state and errors are those of `gru`.

    Reference: Cho et al., Learning phrase representations (2014), arXiv 1406.1078
    in its third version. Departure: that paper has no biases; they start at zero here.
    """
    check_size("hidden_size", hidden_size)
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, n_key, U_key = jax.random.split(key, 3)
        return GRUResetBeforeParams(
            W=stacked(recurrent_init, 2)(W_key, (2 * H, H), dtype),
            W_n=recurrent_init(n_key, (H, H), dtype),
            U=stacked(input_init, 3)(U_key, (3 * H, input_size), dtype),
            b=jnp.zeros(3 * H, dtype),
        )

    def drive(params: GRUResetBeforeParams, Ux: Array) -> tuple[Array, ...]:
        return tuple(jax.lax.split(Ux + params.b, [2 * H, H], axis=Ux.ndim - 1))

    def reset(_: Any, h: Array, rz: Array) -> Array:
        return jax.nn.sigmoid(split_blocks(rz, 2)[0]) * h

    def pointwise(_: Any, h: Array, rz: Array, n: Array) -> tuple[Array, Array]:
        z = jax.nn.sigmoid(split_blocks(rz, 2)[1])
        h = (1 - z) * jnp.tanh(n) + z * h
        return h, h

    products = (
        Product(lambda params: params.W, lambda _, h: h),
        Product(lambda params: params.W_n, reset),
    )
    return structured(
        init, zeros_like_W(H), Structure(_U, drive, products, pointwise, unitwise=True)
    )


def _U(params: Params):
    return params.U
