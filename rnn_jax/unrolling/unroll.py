"""A step, over time.

Unfolded, a recurrent network is one deep graph with shared parameters; `jax.grad` through its
unrolling is backpropagation through time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import as_array, check_flag, fitting, invalid, layout
from rnn_jax.lengths import StepMasks, batch_of, input_dtype, length_mask, steps_of
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.compiled import compiled
from rnn_jax.transforms.precision import cast, is_mixed
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.sharding import over_examples, shapes_of
from rnn_jax.unrolling.strategies import Strategy, resolve


def unroll(
    cell: Cell,
    params: Params,
    xs: Any,
    initial_state: State | None = None,
    *,
    lengths: Array | Sequence[int] | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    strategy: Strategy | str = "auto",
) -> tuple[State, Array]:
    """Run a cell over a sequence.

    Args:
      cell: its step is taken T times. It is compiled, outside of `jit` too, so that a global or a
        variable of a closure which it reads is read once; what changes belongs into params or xs.
      params: the cell's parameters. In float32 beside `xs` in bfloat16 or float16, they are rounded
        to that precision at each step, which is then that of the state and of `ys`; their gradients
        are in float32. Gradients are summed over time in float32 at least.
      xs: `[T, *batch, I]`, T at least 1, or for a cell that reads several inputs a pytree of such.
      initial_state: leaves `[*batch, ...]`; the cell's own initial state by default.
      lengths: `[*batch]` integers. At and past its length an example's state stands still, its
        output is zero, and nothing of `xs` is read: NaN there reaches neither outputs nor
        gradients, and a cell that is singular at some x is evaluated at the example's own x alone.
        With `reverse` an example starts at its own last step.
      resets: `[T, *batch]` booleans, True where a new sequence begins: several of them end to end
        in one array, or a stream cut into pieces. Its first step (with `reverse`, its last) starts
        from the cell's own initial state, whatever came before; resets[0] does away with
        `initial_state`.
      reverse: go from the last step to the first; `ys` stays in the order of `xs`.
      strategy: "auto", "scan", "fused", "parallel", "checkpointed" or an instance of one of the
        classes of `unrolling.strategies`, whose table says what each supports. The numbers are the
        same to rounding; time and memory are not. "auto" is fused where the cell has a structure.

    Returns:
      The final state and `ys [T, *batch, O]`.

    Raises:
      ValueError: a cell that is no Cell; params that do not fit it; T = 0; xs without a time and a
        feature axis, of the wrong input size or dtype; a flag that is no bool; an initial state of
        the wrong structure, shape or dtype; lengths of the wrong shape or dtype,
        negative or above T (values are seen outside `jit` only); resets of the wrong shape or
        dtype; a strategy that is unknown or that the cell does not allow.
    """
    reverse = check_flag("reverse", reverse)
    chosen = resolve(strategy)
    xs, start = checked(cell, params, xs, initial_state)
    masks = checked_masks(xs, lengths, resets, reverse)
    return _unroll(cell, params, xs, start, masks, reverse, chosen)


@compiled("cell", "reverse", "strategy")
def _unroll(
    cell: Cell, params: Params, xs: Any, start: State, masks: Any, reverse: bool, strategy: Any
):
    def run(params: Params, xs: Any, start: State, masks: Any):
        xs = masks.fill(xs, reverse=reverse)
        final, ys = strategy.run(cell, params, xs, start, masks, reverse)
        return final, masks.zero_padding(ys)

    return over_examples(run, xs, params, start)(params, xs, start, masks)


def checked_masks(xs: Any, lengths: Any, resets: Any, reverse: bool) -> StepMasks:
    """Return what is special about each step, in the order of `xs`.

    Raises the errors that `unroll` lists.
    """
    shape = (steps_of(xs), *batch_of(xs))
    valid = None if lengths is None else length_mask(_checked_lengths(lengths, xs), shape[0])
    if resets is None:
        return StepMasks(valid, None)
    resets = as_array(resets)
    if resets.shape != shape or resets.dtype != jnp.bool_:
        remedy = "Pass True where a new sequence begins."
        raise invalid("resets", resets, f"bool[{', '.join(map(str, shape))}]", remedy)
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
        if initial_state is None:
            initial_state = with_wide_sums(lambda p: cell.initial_state(p, batch))(read)
        elif mixed:
            initial_state = cast(jax.tree.map(jnp.asarray, initial_state), dtype)
        else:
            initial_state = jax.tree.map(jnp.asarray, initial_state)
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
