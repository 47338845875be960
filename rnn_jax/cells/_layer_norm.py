"""Layer normalization of a cell's input."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around, input_and_output
from rnn_jax.errors import check_positive
from rnn_jax.types import Array, Key, Params, at_least_float32


@flax.struct.dataclass
class LayerNormParams:
    """`cell`, the parameters of the inner cell; `scale`, `shift [I]`."""

    cell: Params
    scale: Array
    shift: Array


@maker
def layer_norm(cell: Cell, *, epsilon: float = 1e-6) -> Cell:
    r"""Return the cell with its inputs normalized.

    .. math::
        \hat x = \mathrm{scale} \odot \frac{x - \mathrm{mean}\,x}{\sqrt{\mathrm{var}\,x + \epsilon}}
            + \mathrm{shift}

    over the features of each x_t; `residual(layer_norm(cell))` is a pre-norm block.

    Args:
      cell: inner cell.
      epsilon: ε, above 0.

    Raises:
      ValueError: an argument that is not a Cell; an ε that is not positive.

    Reference: Ba, Kiros and Hinton, Layer normalization (2016), arXiv 1607.06450.
    """
    check_positive("epsilon", epsilon)

    def init(key: Key, input_size: int) -> LayerNormParams:
        params = cell.init(key, input_size)
        dtype = input_and_output(cell, params, input_size)[0].dtype
        return LayerNormParams(params, jnp.ones(input_size, dtype), jnp.zeros(input_size, dtype))

    def normalize(params: LayerNormParams, x: Array) -> Array:
        if not x.shape[-1]:
            return x
        wide = at_least_float32(x)
        # In units of the largest feature where that is above one, so that no square overflows. The
        # unit cancels but for ε, which is divided by its square, and so has no gradient.
        size = jax.lax.stop_gradient(jnp.abs(wide).max(-1, keepdims=True))
        size = jnp.where(size > 1, size, 1)
        wide = wide / size
        centred = wide - wide.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normalized = centred * jax.lax.rsqrt(variance + epsilon / size / size)
        # Rounded at the end, so that gradients of scale and shift are summed over time in full.
        scale, shift = map(at_least_float32, (params.scale, params.shift))
        return (scale * normalized + shift).astype(x.dtype)

    return around(cell, init, lambda params: params.cell, before=normalize)
