"""A cell around another one: the one mechanism of all wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Params, State


def around(
    cell: Cell,
    init: Callable[..., Params],
    inner: Callable[[Params], Params] = lambda params: params,
    *,
    before: Callable[[Params, Array], Array] | None = None,
    after: Callable[[Params, Array, Array], Array] | None = None,
    output: Callable[[Params, Array], Array] = lambda params, y: y,
    initial_state: Callable[..., State] | None = None,
) -> Cell:
    """Return a Cell around another one, which every wrapper of this package is.

    Args:
      cell: inner cell.
      init: `(key, input_size) -> params`.
      inner: params to those of the inner cell.
      before: `(params, x) -> x`, the input of the inner cell; x itself by default.
      after: `(params, x, y) -> y` of the inner y; `output(params, y)` by default.
      output: `(params, y) -> y` of the inner y, which it keeps by default.
      initial_state: see `Cell`; that of the inner cell by default.
    """
    # A structure has U multiply x, and `output` read y alone: it holds unless the inner cell reads
    # another x, or y depends on x once more. Then `unroll` runs the inner cell by the strategy that
    # suits it, between `before` and `after` of the whole sequence at once.
    keeps_structure = before is None and after is None
    norm_bound_terms = cell.norm_bound_terms
    before = before or (lambda params, x: x)
    after = after or (lambda params, x, y: output(params, y))

    def step(params: Params, state: State, x: Array) -> tuple[State, Array]:
        state, y = cell.step(inner(params), state, before(params, x))
        return state, after(params, x, y)

    def unroll_layers(
        run: Callable[..., Any], params: Params, xs: Any, start: State, masks: Any, reverse: bool
    ) -> tuple[State, Array]:
        read = with_wide_sums(before)(params, xs)
        final, ys = run(cell, inner(params), read, start, masks, reverse)
        return final, with_wide_sums(after)(params, xs, ys)

    return Cell(
        init,
        initial_state or (lambda params, batch=(): cell.initial_state(inner(params), batch)),
        step,
        (lambda params: norm_bound_terms(inner(params))) if norm_bound_terms else None,
        cell.structure.inside(inner, output) if keeps_structure and cell.structure else None,
        None if keeps_structure and cell.unroll_layers is None else unroll_layers,
    )


def input_and_output(
    cell: Cell, params: Params, input_size: int
) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Return shape and dtype of one example's x, `[I]`, and of its y."""
    # The dtype of x is the one that leaves the state in its own: one of those of state and
    # parameters, or, for a cell that reads symbols, int32. Keys, counters and symbols in the state
    # are no matter.
    state = jax.eval_shape(cell.initial_state, params)
    leaves = (*jax.tree.leaves(state), *jax.tree.leaves(params))
    inexact = [leaf.dtype for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    refused: list[Exception] = []
    possible = []
    for dtype in dict.fromkeys([*inexact, jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)]):
        x = jax.ShapeDtypeStruct((input_size,), dtype)
        try:
            after, y = jax.eval_shape(cell.step, params, state, x)
        except Exception as error:  # of the user's step; raised below if no dtype will do
            refused.append(error)
            continue
        if [leaf.dtype for leaf in jax.tree.leaves(after)] == [
            leaf.dtype for leaf in jax.tree.leaves(state)
        ]:
            return x, y
        possible.append((x, y))
    if not possible:
        raise refused[0]
    return possible[0]
