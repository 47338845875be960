"""Sequences of different lengths, and several of them end to end, in one array."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, State


class Marks(NamedTuple):
    """What is special about a step of an example; None where nothing is.

    Attributes:
      valid: `[T, *batch]`, False where there is padding: the state stands still, the output is
        zero, and the input is not read.
      fresh: `[T, *batch]`, True where the state is put back to the cell's initial state before the
        step.
    """

    valid: Array | None = None
    fresh: Array | None = None

    def state_before(self, state: State, initial: State) -> State:
        """What the step starts from: `state`, or `initial` where it starts afresh."""
        return state if self.fresh is None else select_state(self.fresh, initial, state)

    def state_after(self, after: State, before: State) -> State:
        """What the step hands on: `after`, or `before` in the padding."""
        return after if self.valid is None else select_state(self.valid, after, before)

    def zero_padding(self, values: Array) -> Array:
        """`values [T, *batch, ...]` with zeros in the padding."""
        return values if self.valid is None else select(self.valid, values, 0)


def length_mask(lengths: Array, T: int) -> Array:
    """`[T, *batch]`, True at the steps that belong to the example: t < lengths."""
    steps = jnp.arange(T).reshape(T, *[1] * jnp.ndim(lengths))
    return steps < jnp.asarray(lengths)[None]


def select(condition: Array, if_true: Array, if_false: Any) -> Array:
    """`where` with a condition `[*lead]` over arrays `[*lead, ...]`, in the dtype of `if_true`."""
    condition = condition.reshape(*condition.shape, *[1] * (if_true.ndim - condition.ndim))
    return jnp.where(condition, if_true, jnp.asarray(if_false, if_true.dtype))


def select_state(condition: Array, if_true: State, if_false: State) -> State:
    """`select`, leaf by leaf."""
    return jax.tree.map(lambda a, b: select(condition, a, b), if_true, if_false)
