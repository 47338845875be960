"""Padding and resets: sequences of different lengths, or several end to end, in one array.

Arrays are full, so that a step is evaluated in the padding too, and its result discarded. That
alone is not safe: in the backward pass its cotangent, zero, is multiplied by the derivative of that
step, and 0 · NaN = 0 · inf = NaN. So the step in the padding is one that the example really takes,
its first one: it is singular only where the data are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.errors import as_array, check_array, check_sizes
from rnn_jax.types import Array, State


class StepMasks(NamedTuple):
    """Masks of padding and of resets; None where there is neither.

    Attributes:
      valid: `[T, *batch]`, False in the padding: there the state is carried through unchanged, the
        output is zero, and the input is not read.
      reset: `[T, *batch]`, True where the state is set to the cell's initial state before the step.
    """

    valid: Array | None = None
    reset: Array | None = None

    def fill(self, xs: Any, *, reverse: bool = False) -> Any:
        """Return `xs`, leaves `[T, *batch, ...]`, with the example's first step in its padding.

        An example of length 0 gets that of another example, or zeros where no example has a step.
        """
        return xs if self.valid is None else filled(self.valid, xs, last=reverse)

    def refill(self, xs: Any, *, reverse: bool = False) -> Any:
        """Return a part in time of filled `xs`, with a step of that part in its padding.

        An example that is all padding here keeps what it was filled with.
        """
        # A strategy evaluates padding at the state that its part starts from: only with the first x
        # of that part is this a step that the example takes. Forwards, padding comes last, so that
        # x[0] is the example's own wherever it has a step in this part.
        valid = self.valid
        if valid is None:
            return xs
        if not reverse:
            return jax.tree.map(lambda x: select(valid, x, x[0]), xs)
        own = first_of(valid, xs, last=True)
        own = select_state(valid.any(0), own, jax.tree.map(lambda x: x[-1], xs))
        return jax.tree.map(lambda x, own: select(valid, x, own), xs, own)

    def at_padding(self, start: State, initial: State, *, reverse: bool = False) -> State:
        """Return the state at which the step is evaluated in the padding; () without any.

        It is that before the first step: `start`, or `initial` where that step resets.
        """
        if self.valid is None:
            return ()
        state = start
        if self.reset is not None:
            state = select_state(self.reset[-1 if reverse else 0], initial, start)
        return jax.lax.stop_gradient(state)

    def state_before(self, state: State, initial: State) -> State:
        """Return the state before the step: `state`, or `initial` where it resets."""
        # Random keys are not reset: the noise of a new sequence is new.
        reset = self.reset
        if reset is None:
            return state
        anew = lambda new, old: old if is_key(old) else select(reset, new, old)
        return jax.tree.map(anew, initial, state)

    def state_evaluated(self, before: State, at_padding: State) -> State:
        """Return the state at which the step is evaluated: `before`, or `at_padding` in padding."""
        return before if self.valid is None else select_state(self.valid, before, at_padding)

    def state_after(self, after: State, before: State) -> State:
        """Return the state after the step: `after`, or `before` in the padding."""
        return after if self.valid is None else select_state(self.valid, after, before)

    def zero_padding(self, values: Any) -> Any:
        """Return `values`, leaves `[T, *batch, ...]`, with zeros in the padding."""
        valid = self.valid
        return values if valid is None else jax.tree.map(lambda x: select(valid, x, 0), values)


def is_key(leaf: Any) -> bool:
    """Return whether `leaf` is an array of typed random keys."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def steps_of(xs: Any) -> Any:
    """Return T of `xs`, whose leaves are `[T, *batch, I]`."""
    return jax.tree.leaves(xs)[0].shape[0]


def batch_of(xs: Any) -> tuple[int, ...]:
    """Return *batch of `xs`, whose leaves are `[T, *batch, I]`."""
    return jax.tree.leaves(xs)[0].shape[1:-1]


def step_at(xs: Any, t: Any) -> Any:
    """Return `xs` at step t, or at the steps of a slice."""
    return jax.tree.map(lambda x: x[t], xs)


def input_dtype(xs: Any) -> Any:
    """Return the dtype of the floating leaves of `xs`, or of its first leaf."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(xs)]
    return next((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)), dtypes[0])


def is_array(xs: Any) -> bool:
    """Return whether `xs` is one array, not a pytree of several."""
    return hasattr(xs, "shape") and hasattr(xs, "dtype")


def filled(mask: Array, values: Any, *, last: bool = False) -> Any:
    """Return `values`, leaves `[T, *batch, ...]`, filled where `mask [T, *batch]` is False.

    They are filled with those of the example's first (or `last`) step at which the mask is True;
    for an example without any, with those of the first example that has one; else with zeros. No
    gradient flows to the step that was copied.
    """
    own = first_of(mask, values, last=last)
    has_any = mask.any(0).reshape(-1)

    def fill(leaf: Any, own: Any):
        if is_key(leaf):
            return leaf
        by_example = own.reshape(has_any.size, *own.shape[mask.ndim - 1 :])
        others = first_of(has_any, by_example)
        own = select(mask.any(0), own, others)
        return select(mask, leaf, own)

    return jax.tree.map(fill, values, own)


def first_of(mask: Array, values: Any, *, last: bool = False) -> Any:
    """Return values at the first (or `last`) True of `mask [n, *rest]` over n, zeros without one.

    `[n, *rest, ...]` becomes `[*rest, ...]`.
    """
    # A sum in which all entries but one are zero, and so exact.
    seen = jax.lax.cumsum(mask.astype(jnp.int32), axis=0, reverse=last)
    first = mask & (seen == 1)

    def take(leaf: Any):
        if is_key(leaf):
            return leaf[0]
        only = select(first, jax.lax.stop_gradient(leaf), 0)
        if jnp.issubdtype(leaf.dtype, jnp.bool_):
            return only.any(0)
        return only.sum(0, dtype=leaf.dtype)

    return jax.tree.map(take, values)


def length_mask(lengths: Array, T: int) -> Array:
    """Return the mask t < lengths, `[T, *batch]`, True at the steps of each example."""
    lengths = check_array("lengths", as_array(lengths), ("*batch",), kind="integer")
    (T,) = check_sizes("T", (T,))
    steps = jnp.arange(T).reshape(-1, *[1] * lengths.ndim)
    return steps < lengths[None]


def select(condition: Array, if_true: Array, if_false: Any) -> Array:
    """Select by a condition `[*lead]` among arrays `[*lead, ...]`, in the dtype of `if_true`."""
    condition = condition.reshape(*condition.shape, *[1] * (if_true.ndim - condition.ndim))
    if is_key(if_true):
        return jnp.where(condition, if_true, if_false)
    return jnp.where(condition, if_true, jnp.asarray(if_false, if_true.dtype))


def select_state(condition: Array, if_true: State, if_false: State) -> State:
    """Select leaf by leaf of two pytrees."""
    return jax.tree.map(lambda a, b: select(condition, a, b), if_true, if_false)
