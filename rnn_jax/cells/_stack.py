"""Cells on cells: depth, skip connections and normalization."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around, input_and_output
from rnn_jax.errors import check_positive, describe, invalid
from rnn_jax.types import Array, Key, Params, State, at_least_float32


@maker
def stack(*layers: Cell) -> Cell:
    r"""Cells one above the other, each reading the outputs of the one below.

    .. math:: s^l_t, y^l_t = \mathrm{step}^l(s^l_{t-1}, y^{l-1}_t), \qquad y^0_t = x_t

    `unroll` takes the whole sequence through one layer after the other, each in the way that is
    best for it; the laboratory sees one cell with a joint state.

    Args:
      layers: the lowest first, any cells: `residual`, `layer_norm` and `dropout` of some, too.

    Returns:
      A Cell whose params and state are tuples, one part for each layer, and whose y is that of the
      last.

    Raises:
      ValueError: no layers.
    """
    if not layers:
        raise invalid("layers", "none", "at least one cell", "Pass stack(lstm(64), lstm(64)).")

    def init(key: Key, input_size: int) -> tuple[Params, ...]:
        params = []
        for layer, layer_key in zip(layers, jax.random.split(key, len(layers)), strict=True):
            params.append(layer.init(layer_key, input_size))
            input_size = input_and_output(layer, params[-1], input_size)[1].shape[-1]
        return tuple(params)

    def initial_state(params, batch=()) -> tuple[State, ...]:
        return tuple(layer.initial_state(p, batch) for layer, p in zip(layers, params, strict=True))

    def step(params, state, x) -> tuple[State, Array]:
        after = []
        for layer, p, s in zip(layers, params, state, strict=True):
            s, x = layer.step(p, s, x)
            after.append(s)
        return tuple(after), x

    def over_time(run, params, xs, start, marks, reverse) -> tuple[State, Array]:
        final = []
        for layer, p, s in zip(layers, params, start, strict=True):
            s, xs = run(layer, p, xs, s, marks, reverse)
            final.append(s)
        return tuple(final), xs

    return Cell(init, initial_state, step, over_time=over_time)


@maker
def residual(cell: Cell) -> Cell:
    """y_t = x_t + the cell's y_t.

    Raises:
      ValueError: at a step whose x and y differ in size.
    """

    def add(_, x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            raise invalid(
                "residual",
                f"x {describe(x)} and y {describe(y)}",
                "the same shape",
                "Give the cell as many units as it has inputs, or add a layer below that does.",
            )
        return x + y

    return around(cell, cell.init, after=add)


@flax.struct.dataclass
class LayerNormParams:
    """`cell`, the parameters of the cell that reads; `scale`, `shift [I]`."""

    cell: Params
    scale: Array
    shift: Array


@maker
def layer_norm(cell: Cell, *, epsilon: float = 1e-6) -> Cell:
    r"""The cell reads normalized inputs.

    .. math::
        \hat x = \mathrm{scale} \odot \frac{x - \mathrm{mean}\,x}{\sqrt{\mathrm{var}\,x + \epsilon}}
            + \mathrm{shift}

    over the features of each x_t; `residual(layer_norm(cell))` is a pre-norm block.

    Args:
      cell: the cell that reads them.
      epsilon: ε, above 0.

    Raises:
      ValueError: what is not a Cell; an ε that is not positive.

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
        # In units of the largest feature where that is above one, so that no square overflows.
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
