"""A Cell from the description of its step: drive, what is fed back, elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, NormBoundTerms, Structure
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_function, invalid
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Params, State


@flax.struct.dataclass
class AffineParams:
    """Of a = b + W e + U x: `W [G, H]`, `U [G, I]`, `b [G]`; G is H for each gate."""

    W: Array
    U: Array
    b: Array


@named
def structured(
    init: Callable[..., Params],
    initial_state: Callable[..., State],
    structure: Structure,
    norm_bound_terms: Callable[[Params], NormBoundTerms] | None = None,
) -> Cell:
    """Return a Cell whose step is derived from `structure`, so that the two cannot drift apart.

    Raises:
      ValueError: no functions, no Structure.
    """
    check_function("init", init, "(key, input_size) -> params")
    check_function("initial_state", initial_state, "(params, batch) -> state")
    if not isinstance(structure, Structure):
        raise invalid("structure", structure, "a Structure", "See rnn_jax.cell.")

    def start(params: Params, batch: tuple[int, ...] = ()) -> State:
        state = with_wide_sums(lambda params: initial_state(params, batch))(params)
        return with_own_buffers(state, params)

    return Cell(init, start, structure.step, norm_bound_terms, structure)


def with_own_buffers(state: State, others: Any) -> State:
    """Return `state` with no array in it twice, nor one of `others`: each can then be donated."""
    taken = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf: Any):
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        leaf = jnp.copy(leaf) if id(leaf) in taken else leaf
        taken.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)


def zeros_like_W(*shape: int) -> Callable[..., Array]:
    """Return an initial state of zeros `[*batch, *shape]` in the dtype of W."""
    return lambda params, batch=(): jnp.zeros((*batch, *shape), params.W.dtype)


def split_blocks(a: Array, blocks: int) -> list[Array]:
    """Split `a [.., blocks H]` into blocks of H. Its gradient is one concatenation."""
    return list(jax.lax.split(a, [a.shape[-1] // blocks] * blocks, axis=a.ndim - 1))
