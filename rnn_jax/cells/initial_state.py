"""A learned initial state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells._structured import with_own_buffers
from rnn_jax.cells.maker import maker
from rnn_jax.cells.wrapping import around
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Key, Params, State


@flax.struct.dataclass
class LearnedInitialStateParams:
    """`cell`, the inner cell's parameters; `start`, one example's state, None where not real."""

    cell: Params
    start: State


@maker
def learned_initial_state(cell: Cell) -> Cell:
    """Return the cell with its initial state among its parameters.

    Every example starts from `params.start`, and so does every sequence after a reset; gradients
    reach it from all of them. It is initialized to the cell's own initial state. What is not a real
    number in the state, a key or a counter, stays as the cell has it.

    Args:
      cell: any cell, also one that is made of layers.

    Returns:
      A Cell with parameters `LearnedInitialStateParams`; state, step and output are the cell's.

    Raises:
      ValueError: an argument that is not a Cell.
    """

    def init(key: Key, input_size: int) -> LearnedInitialStateParams:
        params = cell.init(key, input_size)
        is_real = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
        start = jax.tree.map(
            # A copy, for two leaves of a state may be one array, which an optimizer may not donate.
            lambda leaf: jnp.array(leaf, copy=True) if is_real(leaf) else None,
            cell.initial_state(params),
        )
        return LearnedInitialStateParams(params, start)

    def initial_state(params: LearnedInitialStateParams, batch: Any = ()) -> State:
        def leaf(learned: Any, own: Any):
            return own if learned is None else jnp.broadcast_to(learned, own.shape)

        def of_examples(params: Params):
            own = cell.initial_state(params.cell, batch)
            return jax.tree.map(leaf, params.start, own, is_leaf=lambda node: node is None)

        # One start is broadcast to all examples: its gradient is their sum, in float32 also where
        # the cell is of half precision.
        return with_own_buffers(with_wide_sums(of_examples)(params), params)

    def unroll_layers(
        run: Callable[..., Any], params: Params, xs: Any, start: State, masks: Any, reverse: bool
    ) -> tuple[State, Array]:
        one = jax.tree.leaves(jax.eval_shape(cell.initial_state, params.cell))
        many = jax.tree.leaves(start)
        batch = many[0].shape[: many[0].ndim - len(one[0].shape)] if many else ()
        layers = _starting_from(cell, initial_state(params, batch)).unroll_layers
        assert layers is not None
        return layers(run, params.cell, xs, start, masks, reverse)

    wrapped = around(cell, init, lambda params: params.cell, initial_state=initial_state)
    return replace(wrapped, unroll_layers=unroll_layers) if cell.unroll_layers else wrapped


class _Both(NamedTuple):
    """One leaf of the state: `start` of the sequence, and the `initial` one after a reset."""

    start: Any
    initial: Any


def _starting_from(cell: Cell, initial: State) -> Cell:
    """Return `cell` with `initial`, leaves `[*batch, ...]`, as its layers' initial states too."""
    # A cell that is made of layers hands each of them its part of the state, in a way that only it
    # knows, and nothing else. So each leaf of the state becomes a pair with its initial value; the
    # cell hands out the pairs, and they are parted again where a layer is run.
    layers = cell.unroll_layers

    def unroll_layers(
        run: Callable[..., Any], params: Params, xs: Any, start: State, masks: Any, reverse: bool
    ) -> tuple[State, Array]:
        def run_layer(layer: Any, params: Params, xs: Any, both: Any, masks: Any, reverse: bool):
            start, own = (_half(both, half) for half in ("start", "initial"))
            return run(_starting_from(layer, own), params, xs, start, masks, reverse)

        assert layers is not None
        both = jax.tree.map(_Both, start, initial)
        return layers(run_layer, params, xs, both, masks, reverse)

    return replace(
        cell,
        initial_state=lambda params, batch=(): initial,
        unroll_layers=unroll_layers if layers else None,
    )


def _half(tree: Any, half: str) -> Any:
    """Return `start` or `initial` of every pair; a leaf that is no pair stands for both."""
    is_both: Callable[[Any], bool] = lambda node: isinstance(node, _Both)
    return jax.tree.map(
        lambda leaf: getattr(leaf, half) if is_both(leaf) else leaf, tree, is_leaf=is_both
    )
