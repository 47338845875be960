"""Gated recurrent units, with the reset gate on either side of the recurrent product."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
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
      hidden_size: number of units, H. Both biases start at zero.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Cho et al., Learning phrase representations using RNN encoder-decoder (2014), the
    first version of arXiv 1406.1078; later versions have the reset before the product.
    """
    H = hidden_size

    def drive(params: GRUParams, Ux: Array) -> tuple[Array, Array]:
        # The product is added to the first; its last gate is what r multiplies.
        rz, n = jax.lax.split(Ux + params.b, [2 * H, H], axis=Ux.ndim - 1)
        return jnp.concatenate([rz, jnp.broadcast_to(params.b_n, n.shape)], axis=-1), n

    def pointwise(h: Array, a: Array, n: Array) -> tuple[Array, Array]:
        rz, Wh = jax.lax.split(a, [2 * H, H], axis=a.ndim - 1)
        with jax.named_scope("r z"):
            r, z = split_gates(jax.nn.sigmoid(rz), 2)
        with jax.named_scope("n"):
            n = jnp.tanh(n + r * Wh)
        with jax.named_scope("h"):
            h = (1 - z) * n + z * h
        return h, h

    def with_inner_bias(affine: AffineParams, key: Key) -> GRUParams:
        return GRUParams(affine.W, affine.U, affine.b, jnp.zeros(H, dtype))

    return gated(
        H,
        3,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        extend=with_inner_bias,
        drive=drive,
        unitwise=True,
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

    def reset(_: Any, h: Array, rz: Array) -> Array:
        with jax.named_scope("r"):
            r = jax.nn.sigmoid(split_gates(rz, 2)[0])
        return r * h

    def pointwise(_: Any, h: Array, rz: Array, n: Array) -> tuple[Array, Array]:
        with jax.named_scope("z"):
            z = jax.nn.sigmoid(split_gates(rz, 2)[1])
        with jax.named_scope("n"):
            n = jnp.tanh(n)
        with jax.named_scope("h"):
            h = (1 - z) * n + z * h
        return h, h

    return two_products(
        hidden_size,
        2,
        reset,
        pointwise,
        params_type=GRUResetBeforeParams,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )
