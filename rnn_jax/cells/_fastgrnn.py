"""FastGRNN, whose gate and candidate share their matrices."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells._structured import AffineParams
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class FastGRNNParams:
    """`W [H, H]`, `U [H, I]`; `b`, `b_z [H]` of candidate and gate; scalars `zeta`, `nu`."""

    W: Array
    U: Array
    b: Array
    b_z: Array
    zeta: Array
    nu: Array


@maker
def fastgrnn(
    hidden_size: int,
    *,
    gate_bias: float = 1.0,
    zeta: float = 1.0,
    nu: float = -4.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the fast gated network, with little more than the parameters of Elman's.

    .. math::
        a = U x_t + W h_{t-1}, \qquad z = \sigma(a + b_z), \qquad n = \tanh(a + b), \\
        h_t = (\sigma(\zeta) (1 - z) + \sigma(\nu)) \odot n + z \odot h_{t-1}, \qquad y_t = h_t

    Args:
      hidden_size: number of units, H.
      gate_bias: initial b_z; b starts at one too, as in the authors' code.
      zeta: initial ζ.
      nu: initial ν.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Kusupati et al., FastGRNN: a fast, accurate, stable and tiny kilobyte sized gated
    recurrent neural network (2018), arXiv 1901.02358. Departure: full matrices, not low-rank ones.
    """

    def pointwise(params: FastGRNNParams, h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("z"):
            z = jax.nn.sigmoid(a + params.b_z)
        with jax.named_scope("n"):
            n = jnp.tanh(a + params.b)
        with jax.named_scope("h"):
            mix = jax.nn.sigmoid(params.zeta) * (1 - z) + jax.nn.sigmoid(params.nu)
            h = mix * n + z * h
        return h, h

    def with_gate(affine: AffineParams, key: Key) -> FastGRNNParams:
        b, b_z = affine.b + 1, jnp.full_like(affine.b, gate_bias)
        scalars = jnp.asarray(zeta, dtype), jnp.asarray(nu, dtype)
        return FastGRNNParams(affine.W, affine.U, b, b_z, *scalars)

    return gated(
        hidden_size,
        1,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        extend=with_gate,
        constants=lambda params: params.replace(W=None, U=None),
        drive=lambda params, Ux: (Ux,),
        unitwise=True,
    )
