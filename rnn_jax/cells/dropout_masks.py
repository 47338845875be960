"""Variational dropout: masks that stay the same over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, Product, Structure, check_cell
from rnn_jax.cells._structured import structured
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around, input_and_output
from rnn_jax.errors import (
    check_key,
    check_number,
    check_size,
    check_sizes,
    describe,
    invalid,
    is_traced,
)
from rnn_jax.types import Array, Key, Params, State


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
    """Return masks for `dropout`: 0 with probability `rate`, else 1 / (1 − rate).

    Args:
      key: a PRNG key.
      cell: the cell that will be wrapped.
      params: its parameters.
      input_size: I.
      batch: each example's own masks; `()` for one mask that all share, which is what the
        laboratory, which looks at examples one by one, needs.
      input_rate, recurrent_rate, output_rate: in [0, 1); 0 drops nothing. A rate may be traced.

    Raises:
      ValueError: a rate outside [0, 1); a recurrent rate for a cell without recurrent products.
    """
    check_key("key", key)
    check_cell("cell", cell)
    input_size = check_size("input_size", input_size, least=0)
    batch = check_sizes("batch", batch)
    rates = {
        "input_rate": input_rate,
        "recurrent_rate": recurrent_rate,
        "output_rate": output_rate,
    }
    for name, rate in rates.items():
        check_number(name, rate, least=0, below=1, remedy="Pass the fraction of units to drop.")
    x, y = input_and_output(cell, params, input_size)
    keys = jax.random.split(key, 3)
    drops = lambda rate: is_traced(rate) or rate != 0

    def draw(key: Key, rate: Any, size: Any, dtype: Any):
        kept = jax.random.bernoulli(key, 1 - rate, (*batch, size))
        return kept.astype(dtype) / jnp.asarray(1 - rate, dtype)

    recurrent = None
    if drops(recurrent_rate):
        products = _products(cell)
        matrices = [product.W(params) for product in products]
        recurrent = tuple(
            draw(k, recurrent_rate, W.shape[1], x.dtype)
            for k, W in zip(jax.random.split(keys[1], len(products)), matrices, strict=True)
        )
    return Masks(
        draw(keys[0], input_rate, input_size, x.dtype) if drops(input_rate) else None,
        recurrent,
        draw(keys[2], output_rate, y.shape[-1], y.dtype) if drops(output_rate) else None,
    )


@maker
def dropout(cell: Cell, masks: Masks) -> Cell:
    """Return the cell under variational dropout: the same masks at every step of a sequence.

    ```
    def loss(params, key, xs, targets):
        masks = draw_masks(key, cell, params, I, (B,), input_rate=0.2, recurrent_rate=0.2)
        ys = unroll(dropout(cell, masks), params, xs)[1]
    ```

    The parameters are the cell's own; without the wrapper they are those of the network that
    drops nothing. Masks may be traced values, as here.

    Raises:
      ValueError: what is not a Cell or not Masks; recurrent masks for a cell without recurrent
        products, or not one for each; masks of other examples than the step has, as where the
        laboratory takes a batch one example at a time.

    Reference: Gal and Ghahramani, A theoretically grounded application of dropout in recurrent
    neural networks (2016), arXiv 1512.05287.
    """
    if not isinstance(masks, Masks):
        raise invalid("masks", masks, "Masks", "Draw them by cells.draw_masks.")
    if masks.recurrent is not None:
        cell = _with_recurrent_masks(cell, tuple(masks.recurrent))
    if masks.input is None and masks.output is None:
        return cell
    return around(
        cell,
        cell.init,
        before=lambda _, x: _masked("masks.input", x, masks.input),
        after=lambda _, x, y: _masked("masks.output", y, masks.output),
    )


def _masked(argument: str, values: Array, mask: Array | None) -> Array:
    """Return `values [T, *batch, F]` or `[*batch, F]` times `mask [*batch, F]` or `[F]`."""
    if mask is None:
        return values
    lead = values.ndim - mask.ndim
    if mask.shape != values.shape[lead:] or (mask.ndim > 1 and lead not in (0, 1)):
        raise _misfit(argument, mask, values)
    return _times(values, mask)


def _times(values: Array, mask: Array) -> Array:
    """Multiply values by a mask, in the precision of the values, whatever that of the mask."""
    floating = jnp.issubdtype(values.dtype, jnp.floating)
    return values * (mask.astype(values.dtype) if floating else mask)


def _misfit(argument: str, mask: Array, values: Array) -> Exception:
    return invalid(
        argument,
        f"{describe(mask)} beside {describe(values)}",
        "a mask for each example, [*batch, F], or one for all, [F]",
        "Draw masks for this batch; for the laboratory, with batch=().",
    )


def _with_recurrent_masks(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    if len(masks) != len(_products(cell)):
        expected = f"{len(_products(cell))}, one for each recurrent product"
        raise invalid("masks.recurrent", str(len(masks)), expected, "Draw them for this cell.")
    shared = all(mask.ndim == 1 for mask in masks)
    return _with_shared_masks(cell, masks) if shared else _with_masks_of_examples(cell, masks)


def _with_shared_masks(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    """Hold masks `[E]` constant in the step."""
    described: Any = cell.structure

    def masked(j: int, product: Product) -> Product:
        def of(constants: Any, state: State, *a: Any):
            inner, masks = constants
            return _times(product.operand(inner, state, *a), masks[j])

        return Product(product.W, of)

    structure = replace(
        described,
        products=tuple(masked(j, product) for j, product in enumerate(described.products)),
        pointwise=lambda constants, state, *a: described.pointwise(constants[0], state, *a),
        constants=lambda params: (described.constants(params), masks),
    )
    return replace(cell, step=structure.step, structure=structure, norm_bound_terms=None)


def _with_masks_of_examples(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    """Carry masks `[*batch, E]` through time beside the state.

    They are mapped over the examples and split into segments as the state is, whatever strategy
    takes the steps; constants are shared by all examples. From outside the state is the cell's.
    """
    described: Any = cell.structure

    def masked(j: int, product: Product) -> Product:
        def of(constants: Any, state: State, *a: Any):
            own, masks = state
            return _times(product.operand(constants, own, *a), masks[j])

        return Product(product.W, of)

    def pointwise(constants: Any, state: State, *a: Any) -> tuple[State, Array]:
        own, masks = state
        own, y = described.pointwise(constants, own, *a)
        return (own, masks), y

    # Units are blocks of the state's width for as long as the masks have that width too.
    widths = {mask.shape[-1] for mask in masks}
    structure = replace(
        described,
        products=tuple(masked(j, product) for j, product in enumerate(described.products)),
        pointwise=pointwise,
    )

    def check_batch(x: Array, lead: int) -> None:
        for mask in masks:
            if mask.shape[:-1] != x.shape[lead:-1]:
                raise _misfit("masks.recurrent", mask, x)

    def step(params: Params, state: State, x: Array) -> tuple[State, Array]:
        check_batch(x, lead=0)
        (state, _), y = structure.step(params, (state, masks), x)
        return state, y

    def unroll_layers(
        run: Callable[..., Any],
        params: Params,
        xs: Any,
        start: State,
        step_masks: Any,
        reverse: bool,
    ) -> tuple[State, Array]:
        check_batch(xs, lead=1)
        same_width = widths == {leaf.shape[-1] for leaf in jax.tree.leaves(start)}
        with_masks = structured(
            cell.init,
            lambda params, batch=(): (cell.initial_state(params, batch), masks),
            replace(structure, unitwise=described.unitwise and same_width),
        )
        (final, _), ys = run(with_masks, params, xs, (start, masks), step_masks, reverse)
        return final, ys

    return Cell(cell.init, cell.initial_state, step, unroll_layers=unroll_layers)


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
