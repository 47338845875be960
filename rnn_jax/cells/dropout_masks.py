"""The masks of variational dropout, drawn once for a sequence."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, Product, Structure, check_cell
from rnn_jax.cells.wrapping import input_and_output
from rnn_jax.errors import check_key, check_number, check_size, check_sizes, invalid, is_traced
from rnn_jax.types import Array, Key, Params


class Masks(NamedTuple):
    """The factors of `dropout`; None where nothing is dropped.

    Attributes:
      input: factors of x, `[*batch, I]`.
      recurrent: factors of the recurrent input, `[*batch, E]` for each product of the cell.
      output: factors of y, `[*batch, O]`.
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
      key: PRNG key.
      cell: cell to be wrapped.
      params: parameters of it.
      input_size: number of inputs, I.
      batch: sizes of the batch axes, each example with masks of its own; `()` for one mask that all
        share, which the laboratory needs, as it takes examples one by one.
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
        products = recurrent_products(cell)
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


def recurrent_products(cell: Cell) -> tuple[Product, ...]:
    """Return the products of `cell` to mask. ValueError for a cell without any."""
    structure: Structure | None = cell.structure
    if structure is None or not structure.products:
        raise invalid(
            "recurrent masks",
            "a cell without recurrent products",
            "a structured cell with some",
            "Drop inputs or outputs instead, or build the cell by cells.structured.",
        )
    return structure.products
