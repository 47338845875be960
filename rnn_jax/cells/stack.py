"""Cells on cells: depth, skip connections, normalization and dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cells.readout import output_at_start
from rnn_jax.errors import describe, invalid
from rnn_jax.structure import Product, Structure
from rnn_jax.types import Array, Cell, Key, Params, State


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
            input_size = output_at_start(layer, params[-1], input_size).shape[-1]
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

    return _around(cell, cell.init, after=add)


@flax.struct.dataclass
class LayerNormParams:
    """`cell`, the parameters of the cell that reads; `scale`, `shift [I]`."""

    cell: Params
    scale: Array
    shift: Array


def layer_norm(cell: Cell, *, epsilon: float = 1e-6) -> Cell:
    r"""The cell reads normalized inputs.

    .. math::
        \hat x = \mathrm{scale} \odot \frac{x - \mathrm{mean}\,x}{\sqrt{\mathrm{var}\,x + \epsilon}}
            + \mathrm{shift}

    over the features of each x_t; `residual(layer_norm(cell))` is a pre-norm block.

    Reference: Ba, Kiros and Hinton, Layer normalization (2016), arXiv 1607.06450.
    """

    def init(key: Key, input_size: int) -> LayerNormParams:
        params = cell.init(key, input_size)
        dtype = output_at_start(cell, params, input_size).dtype
        return LayerNormParams(params, jnp.ones(input_size, dtype), jnp.zeros(input_size, dtype))

    def normalize(params: LayerNormParams, x: Array) -> Array:
        normalized = jax.nn.standardize(x, epsilon=epsilon) if x.shape[-1] else x
        return params.scale * normalized + params.shift

    return _around(cell, init, lambda params: params.cell, before=normalize)


class Masks(NamedTuple):
    """What `dropout` multiplies by; None where nothing is dropped.

    Attributes:
      input: `[*batch, I]`, on x.
      recurrent: one `[*batch, E]` for each recurrent product of the cell, on what is fed back.
      output: `[*batch, O]`, on y.
    """

    input: Array | None = None
    recurrent: tuple[Array, ...] | None = None
    output: Array | None = None


def draw_masks(
    key: Key,
    cell: Cell,
    params: Params,
    input_size: int,
    batch: tuple[int, ...] = (),
    *,
    input_rate: float = 0.0,
    recurrent_rate: float = 0.0,
    output_rate: float = 0.0,
) -> Masks:
    """Masks for `dropout`: 0 with probability `rate`, else 1 / (1 − rate).

    Args:
      key: of this draw.
      cell: that will be wrapped.
      params: its parameters.
      input_size: I.
      batch: each example's own masks; `()` for one mask that all share, which is what the
        laboratory, which looks at examples one by one, needs.
      input_rate, recurrent_rate, output_rate: in [0, 1); 0 drops nothing.

    Raises:
      ValueError: a rate outside [0, 1); a recurrent rate for a cell without recurrent products.
    """
    y = output_at_start(cell, params, input_size)
    keys = jax.random.split(key, 3)

    def draw(key, name, rate, size):
        if not 0 <= rate < 1:
            raise invalid(name, rate, "in [0, 1)", "Pass the fraction of units to drop.")
        kept = jax.random.bernoulli(key, 1 - rate, (*batch, size))
        return kept.astype(y.dtype) / (1 - rate) if rate else None

    recurrent = None
    if recurrent_rate:
        products = _products(cell)
        recurrent = tuple(
            draw(k, "recurrent_rate", recurrent_rate, product.W(params).shape[1])
            for k, product in zip(jax.random.split(keys[1], len(products)), products, strict=True)
        )
    return Masks(
        draw(keys[0], "input_rate", input_rate, input_size),
        recurrent,
        draw(keys[2], "output_rate", output_rate, y.shape[-1]),
    )


def dropout(cell: Cell, masks: Masks) -> Cell:
    """The cell under variational dropout: the same masks at every step of a sequence.

    ```
    def loss(params, key, xs, targets):
        masks = draw_masks(key, cell, params, I, (B,), input_rate=0.2, recurrent_rate=0.2)
        ys = unroll(dropout(cell, masks), params, xs)[1]
    ```

    The parameters are the cell's own; without the wrapper they are those of the network that
    drops nothing. Masks may be traced values, as here.

    Raises:
      ValueError: recurrent masks for a cell without recurrent products.

    Reference: Gal and Ghahramani, A theoretically grounded application of dropout in recurrent
    neural networks (2016), arXiv 1512.05287.
    """
    if masks.recurrent is not None:
        cell = _with_recurrent_masks(cell, masks.recurrent)
    if masks.input is None and masks.output is None:
        return cell
    return _around(
        cell,
        cell.init,
        before=lambda _, x: x if masks.input is None else x * masks.input,
        after=lambda _, x, y: y if masks.output is None else y * masks.output,
    )


def _with_recurrent_masks(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    _products(cell)
    described: Any = cell.structure

    def masked(j: int, product: Product) -> Product:
        def of(constants, state, *a):
            inner, masks = constants
            return product.of(inner, state, *a) * masks[j]

        return Product(product.W, of)

    structure = replace(
        described,
        products=tuple(masked(j, product) for j, product in enumerate(described.products)),
        pointwise=lambda constants, state, *a: described.pointwise(constants[0], state, *a),
        constants=lambda params: (described.constants(params), masks),
    )
    return replace(cell, step=structure.step, structure=structure, recurrence=None)


def _products(cell: Cell) -> tuple[Product, ...]:
    structure: Structure | None = cell.structure
    if structure is None or not structure.products:
        raise invalid(
            "recurrent masks",
            "a cell without recurrent products",
            "a structured cell with some",
            "Drop inputs or outputs instead, or build the cell by cells.structured.",
        )
    return structure.products


def _around(
    cell: Cell,
    init: Callable[..., Params],
    inner: Callable[[Params], Params] = lambda params: params,
    *,
    before: Callable[[Params, Array], Array] = lambda params, x: x,
    after: Callable[[Params, Array, Array], Array] = lambda params, x, y: y,
) -> Cell:
    """`cell` with `before(params, x)` for x, and `after(params, x, y)` for y."""

    def step(params, state, x) -> tuple[State, Array]:
        state, y = cell.step(inner(params), state, before(params, x))
        return state, after(params, x, y)

    def over_time(run, params, xs, start, marks, reverse) -> tuple[State, Array]:
        final, ys = run(cell, inner(params), before(params, xs), start, marks, reverse)
        return final, after(params, xs, ys)

    recurrence = cell.recurrence
    return Cell(
        init,
        lambda params, batch=(): cell.initial_state(inner(params), batch),
        step,
        (lambda params: recurrence(inner(params))) if recurrence else None,
        over_time=over_time,
    )
