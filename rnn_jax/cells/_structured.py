"""A Cell from the description of its step: drive, recurrent input, elementwise operations."""

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
    """`W [G, H]`, `U [G, I]`, `b [G]` of a = b + W e + U x; G is H rows for each gate."""

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


def split_gates(a: Array, count: int) -> list[Array]:
    """Split `a [.., count H]` into its gates, each `[.., H]`."""
    # Not `jnp.split`, whose gradient pads each gate with zeros and adds: that of `lax.split` is one
    # concatenation.
    return list(jax.lax.split(a, [a.shape[-1] // count] * count, axis=a.ndim - 1))


def gates(a: Array, **activations: Callable[[Array], Array]) -> list[Array]:
    """Return each gate of `a [.., G H]` by its name: i, g of `gates(a, i=sigmoid, g=tanh)`."""
    # A named scope adds no operation. Compilers carry it along, so that a profile shows the time of
    # gate f as `f`, and `rnn_jax.graph` labels the result with it.
    values = []
    for (name, activation), part in zip(
        activations.items(), split_gates(a, len(activations)), strict=True
    ):
        with jax.named_scope(name):
            values.append(activation(part))
    return values
