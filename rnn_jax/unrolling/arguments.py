"""Checks of a cell, its parameters and its inputs, once for each public call.

The loops over time themselves (`unroll.run`, `trajectory.states_along`) check nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import as_array, fitting, invalid, layout
from rnn_jax.lengths import StepMasks, batch_of, input_dtype, length_mask, steps_of
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.precision import as_read, cast, is_mixed
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.sharding import shapes_of


def checked_masks(xs: Any, lengths: Any, resets: Any, reverse: bool) -> StepMasks:
    """Return the masks of padding and resets, in the order of `xs`.

    Raises the errors that `unroll` lists.
    """
    shape = (steps_of(xs), *batch_of(xs))
    lengths = None if lengths is None else _checked_lengths(lengths, xs)
    if resets is not None:
        resets = as_array(resets)
        if resets.shape != shape or resets.dtype != jnp.bool_:
            remedy = "Pass True where a new sequence begins."
            raise invalid("resets", resets, f"bool[{', '.join(map(str, shape))}]", remedy)
    return masks_of(xs, lengths, resets, reverse)


def masks_of(xs: Any, lengths: Any, resets: Any, reverse: bool = False) -> StepMasks:
    """Return what `checked_masks` does, of lengths and resets that have been checked."""
    valid = None if lengths is None else length_mask(lengths, steps_of(xs))
    if resets is None:
        return StepMasks(valid, None)
    if valid is not None:
        resets = resets & valid
    if reverse:  # The last step of a sequence is the one before the first of the next.
        resets = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    return StepMasks(valid, resets)


def checked_start(cell: Cell, params: Params, xs: Any, initial_state: State | None) -> State:
    """Return the state to start from, once xs, the state and the cell are known to fit.

    Raises the errors that `unroll` lists, and ValueError where params and xs differ in precision.
    """
    _, start = checked(cell, params, xs, initial_state, may_mix=False)
    return start


def checked(
    cell: Cell,
    params: Params,
    xs: Any,
    initial_state: State | None = None,
    *,
    may_mix: bool = True,
) -> tuple[Any, State]:
    """Return xs and the state to start from, once they, params and the cell are known to fit.

    With `may_mix`, float32 parameters may be read in the half precision of xs: see
    `transforms.precision`.

    Raises the errors that `unroll` lists.
    """
    check_cell("cell", cell)
    xs = _checked_xs(xs)
    dtype, batch = input_dtype(xs), batch_of(xs)
    mixed = may_mix and is_mixed(params, dtype)
    if not mixed:
        _check_precision(xs, params)
    read = cast(params, dtype) if mixed else params
    with fitting(params, "cell.initial_state"):
        expected = jax.eval_shape(lambda p: cell.initial_state(p, batch), shapes_of(read))
        initial_state = start_of(cell, params, xs, initial_state)
    remedy = "Start from cell.initial_state(params, batch)."
    _check_same_state("initial_state", initial_state, expected, remedy)
    with fitting(params, "cell.step"):
        first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
        after, _ = jax.eval_shape(cell.step, *shapes_of((read, initial_state)), first)
    _check_same_state(
        "cell.step",
        after,
        expected,
        "A step must return its state with the structure, shapes and dtypes that it was given; "
        "cast xs and params to one dtype.",
    )
    return xs, initial_state


def start_of(cell: Cell, params: Params, xs: Any, initial_state: State | None) -> State:
    """Return the state to start from, in the precision of xs where params are in a higher one."""
    dtype, batch = input_dtype(xs), batch_of(xs)
    if initial_state is None:
        read = as_read(params, dtype)
        return with_wide_sums(lambda params: cell.initial_state(params, batch))(read)
    initial_state = jax.tree.map(jnp.asarray, initial_state)
    return cast(initial_state, dtype) if is_mixed(params, dtype) else initial_state


def _checked_xs(xs: Any):
    for leaf in jax.tree.leaves(xs) or [xs]:
        if not hasattr(leaf, "ndim") or not hasattr(leaf, "dtype") or leaf.ndim < 2:
            remedy = "Add the time or the feature axis."
            expected = "an array [T, *batch, I], or a pytree of such arrays"
            raise invalid("xs", leaf, expected, remedy)
        if isinstance(leaf.shape[0], int) and leaf.shape[0] == 0:
            remedy = "A sequence needs a step; drop empty ones."
            raise invalid("xs", leaf, "T of at least 1", remedy)
        if leaf.shape[:-1] != jax.tree.leaves(xs)[0].shape[:-1]:
            expected = f"the [T, *batch] of the other arrays, {jax.tree.leaves(xs)[0].shape[:-1]}"
            raise invalid("xs", leaf, expected, "Give every array of xs the same leading axes.")
    return jax.tree.map(jnp.asarray, xs)


def _check_precision(xs: Any, params: Params):
    precisions = {
        jnp.finfo(leaf.dtype).dtype
        for leaf in jax.tree.leaves(params)
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    for x in jax.tree.leaves(xs):
        if jnp.issubdtype(x.dtype, jnp.inexact) and len(precisions) == 1:
            (precision,) = precisions
            if jnp.finfo(x.dtype).dtype != precision:
                raise invalid(
                    "xs",
                    x,
                    f"the precision of params, {precision}",
                    f"Cast one of them: xs.astype({precision}).",
                )


def _check_same_state(argument: str, got: Any, expected: Any, remedy: Any):
    trees: list[Any] = [jax.tree.structure(state) for state in (got, expected)]
    if trees[0] != trees[1] or any(
        (a.shape, a.dtype) != (b.shape, b.dtype)
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True)
    ):
        raise invalid(argument, layout(got), layout(expected), remedy)


def _checked_lengths(lengths: Any, xs: Any) -> Array:
    T, batch = steps_of(xs), batch_of(xs)
    lengths = as_array(lengths)
    remedy = "Pass one number of valid steps for each example."
    if lengths.shape != batch or not jnp.issubdtype(lengths.dtype, jnp.integer):
        expected = f"integers [{', '.join(map(str, batch))}]"
        raise invalid("lengths", lengths, expected, remedy)
    if not isinstance(lengths, jax.core.Tracer) and lengths.size:
        values = np.asarray(lengths)
        if values.min() < 0 or values.max() > T:
            got = f"values from {values.min()} to {values.max()}"
            raise invalid("lengths", got, f"values from 0 to T = {T}", remedy)
    return lengths
