"""Variational dropout: masks that stay the same over a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import structured
from rnn_jax.cells.dropout_masks import Masks, recurrent_products
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around
from rnn_jax.errors import describe, invalid
from rnn_jax.types import Array, Params, State


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
      ValueError: an argument that is not a Cell or Masks; recurrent masks for a cell without
        recurrent products, or not one for each; masks of other examples than the step has, as where
        the laboratory takes a batch one example at a time.

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
    if len(masks) != len(recurrent_products(cell)):
        expected = f"{len(recurrent_products(cell))}, one for each recurrent product"
        raise invalid("masks.recurrent", str(len(masks)), expected, "Draw them for this cell.")
    # Masks that all examples share are constants of the step. Those of each example cannot be:
    # constants have no batch axes, and a batch is mapped over or cut into segments by the state
    # alone. So they travel as a part of the state that each step hands on unchanged.
    shared = all(mask.ndim == 1 for mask in masks)
    return _with_constant_masks(cell, masks) if shared else _with_carried_masks(cell, masks)


def _masked_products(
    structure: Structure, parts: Callable[[Any, State], tuple[Any, State, Any]]
) -> tuple[Product, ...]:
    """Return the products with masked operands; `parts` gives `(constants, state, masks)`."""

    def masked(j: int, product: Product) -> Product:
        def operand(constants: Any, state: State, *a: Any) -> Array:
            constants, state, masks = parts(constants, state)
            return _times(product.operand(constants, state, *a), masks[j])

        return Product(product.W, operand)

    return tuple(masked(j, product) for j, product in enumerate(structure.products))


def _with_constant_masks(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    """Return `cell` with masks `[E]` among the constants of its step."""
    described: Any = cell.structure
    structure = replace(
        described,
        products=_masked_products(described, lambda both, state: (both[0], state, both[1])),
        pointwise=lambda both, state, *a: described.pointwise(both[0], state, *a),
        constants=lambda params: (described.constants(params), masks),
    )
    return replace(cell, step=structure.step, structure=structure, norm_bound_terms=None)


def _with_carried_masks(cell: Cell, masks: tuple[Array, ...]) -> Cell:
    """Return `cell` with masks `[*batch, E]` carried beside its state, unseen from outside."""
    described: Any = cell.structure

    def pointwise(constants: Any, both: State, *a: Any) -> tuple[State, Array]:
        state, masks = both
        state, y = described.pointwise(constants, state, *a)
        return (state, masks), y

    structure = replace(
        described,
        products=_masked_products(described, lambda constants, both: (constants, *both)),
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
        run: Callable[..., Any], params: Params, xs: Any, start: State, padding: Any, reverse: bool
    ) -> tuple[State, Array]:
        check_batch(xs, lead=1)
        # Each gate has as many rows as the state has units, for as long as the masks do too.
        widths = {leaf.shape[-1] for leaf in jax.tree.leaves((start, masks))}
        carrying = structured(
            cell.init,
            lambda params, batch=(): (cell.initial_state(params, batch), masks),
            replace(structure, unitwise=described.unitwise and len(widths) == 1),
        )
        (final, _), ys = run(carrying, params, xs, (start, masks), padding, reverse)
        return final, ys

    return Cell(cell.init, cell.initial_state, step, unroll_layers=unroll_layers)
