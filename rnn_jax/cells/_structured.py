"""A Cell from the description of its step: drive, recurrent input, elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, NormBoundTerms, Structure
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_function, invalid
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Initializer, Key, Params, State


@flax.struct.dataclass
class AffineParams:
    """`W [G, H]`, `U [G, I]`, `b [G]` of a = b + W e + U x; G is H rows for each gate."""

    W: Array
    U: Array
    b: Array


def affine_init(
    recurrent_init: Initializer,
    input_init: Initializer,
    W: tuple[int, int],
    rows: int,
    dtype: DTypeLike,
) -> Callable[..., AffineParams]:
    """Return an `init` of W of this shape, U `[rows, I]` and b = 0 `[rows]`."""

    def init(key: Key, input_size: int) -> AffineParams:
        W_key, U_key = jax.random.split(key)
        return AffineParams(
            W=recurrent_init(W_key, W, dtype),
            U=input_init(U_key, (rows, input_size), dtype),
            b=jnp.zeros(rows, dtype),
        )

    return init


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
    """Return `state` with no array in it twice, nor one of `others`."""
    # A train step may donate the buffers of its state. XLA refuses a buffer that is donated twice,
    # as the zeros that an LSTM's c and h share would be, and a donated parameter would be lost.
    taken = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf: Any):
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        leaf = jnp.copy(leaf) if id(leaf) in taken else leaf
        taken.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)


def zero_state(
    *shape: int, state: Callable[[Array], State] = lambda zeros: zeros
) -> Callable[..., State]:
    """Return `(params, batch) -> state(zeros [*batch, *shape])`, in the dtype of the parameters."""

    def initial_state(params: Params, batch: tuple[int, ...] = ()) -> State:
        return state(jnp.zeros((*batch, *shape), jax.tree.leaves(params)[0].dtype))

    return initial_state
