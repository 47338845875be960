"""A step, over time.

Unfolded, a recurrent network is one deep graph with shared parameters; `jax.grad` through its
unrolling is backpropagation through time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import describe, invalid
from rnn_jax.lengths import Marks, length_mask
from rnn_jax.strategies import Strategy, resolve, scan_steps
from rnn_jax.types import Array, Cell, Params, State


def unroll(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    strategy: Strategy | str = "auto",
) -> tuple[State, Array]:
    """Run a cell over a sequence.

    Args:
      cell: its step is taken T times.
      params: the cell's parameters.
      xs: `[T, *batch, I]`, T at least 1.
      initial_state: leaves `[*batch, ...]`; the cell's own initial state by default.
      lengths: `[*batch]` integers. At and past its length an example's state stands still, its
        output is zero, and nothing of `xs` is read: NaN there reaches neither outputs nor
        gradients. With `reverse` an example starts at its own last step.
      resets: `[T, *batch]` booleans, True where a new sequence begins: several of them end to end
        in one array, or a stream cut into pieces. Its first step (with `reverse`, its last) starts
        from the cell's own initial state, whatever came before; resets[0] does away with
        `initial_state`.
      reverse: go from the last step to the first; `ys` stays in the order of `xs`.
      strategy: "auto", "scan", "fused", "parallel", "checkpointed" or an instance of one of the
        classes of `rnn_jax.strategies`, whose table says what each supports. The numbers are the
        same to rounding; time and memory are not. "auto" is fused where the cell has a structure.

    Returns:
      The final state and `ys [T, *batch, O]`.

    Raises:
      ValueError: T = 0; xs without a time and a feature axis, of the wrong input size or dtype; an
        initial state of the wrong structure, shape or dtype; lengths of the wrong shape or dtype,
        negative or above T (values are seen outside `jit` only); resets of the wrong shape or
        dtype; a strategy that is unknown or that the cell does not allow.
    """
    start = checked_start(cell, params, xs, initial_state)
    marks = checked_marks(xs, lengths, resets, reverse)
    return resolve(strategy).run(cell, params, xs, start, marks, reverse)


def trajectory(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
) -> State:
    """Every state on the way: leaves `[T+1, *batch, ...]`, the initial state first.

    Arguments and errors are those of `unroll`. With `reverse`, index n is still the state after n
    steps, the first of them being the one at xs[T-1].
    """
    start = checked_start(cell, params, xs, initial_state)
    marks = checked_marks(xs, lengths, resets, reverse)
    _, (states, _) = scan_steps(cell, params, xs, start, marks, reverse)
    if reverse:
        states = jax.tree.map(lambda leaf: leaf[::-1], states)
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, states)


def checked_marks(xs: Array, lengths: Array | None, resets: Array | None, reverse: bool) -> Marks:
    """What is special about each step, in the order of `xs`.

    Raises the errors that `unroll` lists.
    """
    valid = None if lengths is None else length_mask(_checked_lengths(lengths, xs), len(xs))
    if resets is None:
        return Marks(valid, None)
    resets = jnp.asarray(resets)
    if resets.shape != xs.shape[:-1] or resets.dtype != jnp.bool_:
        remedy = "Pass True where a new sequence begins."
        raise invalid("resets", resets, f"bool{list(xs.shape[:-1])}", remedy)
    if valid is not None:
        resets = resets & valid
    if reverse:  # The last step of a sequence is the one before the first of the next.
        resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    return Marks(valid, resets)


def checked_start(cell: Cell, params: Params, xs: Array, initial_state: State | None) -> State:
    """The state to start from, once xs, the state and the cell are known to fit together.

    Raises the errors that `unroll` lists.
    """
    _check_xs(xs, params)
    expected = jax.eval_shape(lambda p: cell.initial_state(p, xs.shape[1:-1]), params)
    if initial_state is None:
        initial_state = cell.initial_state(params, xs.shape[1:-1])
    else:
        initial_state = jax.tree.map(jnp.asarray, initial_state)
        _check_same_state(
            "initial_state",
            initial_state,
            expected,
            "Start from cell.initial_state(params, batch).",
        )
    after, _ = jax.eval_shape(cell.step, params, initial_state, xs[0])
    _check_same_state(
        "cell.step",
        after,
        expected,
        "A step must return its state with the structure, shapes and dtypes that it was given; "
        "cast xs and params to one dtype.",
    )
    return initial_state


def _check_xs(xs, params):
    if not hasattr(xs, "ndim") or xs.ndim < 2:
        raise invalid("xs", xs, "an array [T, *batch, I]", "Add the time or the feature axis.")
    if xs.shape[0] == 0:
        raise invalid("xs", xs, "T of at least 1", "A sequence needs a step; drop empty ones.")
    precisions = {
        jnp.finfo(leaf.dtype).dtype
        for leaf in jax.tree.leaves(params)
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    if jnp.issubdtype(xs.dtype, jnp.inexact) and len(precisions) == 1:
        (precision,) = precisions
        if jnp.finfo(xs.dtype).dtype != precision:
            raise invalid(
                "xs",
                xs,
                f"the precision of params, {precision}",
                f"Cast one of them: xs.astype({precision}).",
            )


def _check_same_state(argument, got, expected, remedy):
    trees: list[Any] = [jax.tree.structure(state) for state in (got, expected)]
    if trees[0] != trees[1] or any(
        (a.shape, a.dtype) != (b.shape, b.dtype)
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True)
    ):
        raise invalid(argument, _layout(got), _layout(expected), remedy)


def _layout(state) -> str:
    return str(jax.tree.map(describe, state))


def _checked_lengths(lengths, xs) -> Array:
    T, batch = xs.shape[0], xs.shape[1:-1]
    lengths = jnp.asarray(lengths)
    remedy = "Pass one number of valid steps for each example."
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise invalid("lengths", lengths, f"integers {list(batch)}", remedy)
    if not isinstance(lengths, jax.core.Tracer) and lengths.size:
        values = np.asarray(lengths)
        if values.min() < 0 or values.max() > T:
            got = f"values from {values.min()} to {values.max()}"
            raise invalid("lengths", got, f"values from 0 to T = {T}", remedy)
    return lengths
