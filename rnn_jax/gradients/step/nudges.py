r"""The gradient of any loss at the states in between, from the backward pass that it takes anyway.

A nudge is a zero that is added to a state on its way; its cotangent is then a gradient with respect
to that state. Each state gets two of them,

.. math::
    \tilde h_t = h_t + n_t, \qquad y_t = y(\tilde h_t, \cdot), \qquad
    h_{t+1} = \mathrm{step}(\tilde h_t + m_t, x_{t+1})

so that ∂E/∂n_t is the whole of ∂E/∂h_t, and ∂E/∂m_t the part of it that comes back through the next
step, (∂E/∂h_{t+1}) (∂h_{t+1}/∂h_t).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, Structure
from rnn_jax.errors import invalid
from rnn_jax.gradients.step.continuous import check_reals
from rnn_jax.lengths import steps_of
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.compiled import compiled
from rnn_jax.transforms.precision import for_sums
from rnn_jax.transforms.program import Program
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.fused import unroll_fused
from rnn_jax.unrolling.scan import Scan, state_at_resets
from rnn_jax.unrolling.strategies import Auto, Fused, Strategy, resolve
from rnn_jax.unrolling.unroll import checked_masks, checked_start


class Nudges(NamedTuple):
    """Zeros like the states, or their cotangents; h_t is the state that the step at xs[t] hands on.

    Attributes:
      start: like the initial state, leaves `[*batch, ...]`; its cotangent is ∂E/∂h_start.
      read: n_t, leaves `[T, *batch, ...]`, whose cotangent is ∂E/∂h_t.
      passed: m_t, leaves `[T, *batch, ...]`, whose cotangent is (∂E/∂h_{t+1}) (∂h_{t+1}/∂h_t), and
        at the last step what a loss reads of the final state.
    """

    start: State
    read: State
    passed: State


def zero_nudges(cell: Cell, params: Params, xs: Array) -> Nudges:
    """Return zeros for `unroll_nudged` over `xs [T, *batch, I]`; errors are those of `unroll`."""
    zeros = lambda shape: jnp.zeros(shape.shape, shape.dtype)
    state = checked_start(cell, params, xs, None)
    start = jax.tree.map(zeros, state)
    after = jax.tree.map(lambda leaf: jnp.zeros((steps_of(xs), *leaf.shape), leaf.dtype), state)
    return Nudges(start, after, after)


def unroll_nudged(
    cell: Cell,
    params: Params,
    xs: Array,
    nudges: Nudges,
    initial_state: State | None = None,
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    reverse: bool = False,
    strategy: Strategy | str = "auto",
    spread: Callable[[Any], State] = lambda nudges: nudges,
) -> tuple[State, Array]:
    """Unroll, differentiable with respect to the states on the way.

    What y_t reads of the state is read off the step's own computation, leaf by leaf: a nudge of the
    c that an LSTM hands on is no nudge of the h beside it, as in `decompose`. A leaf that is handed
    on as it came has no value of its own, and what y_t reads of it is not counted. In the padding
    all cotangents are zero.

    Args:
      nudges: `zero_nudges(cell, params, xs)`. Their values are not read.
      spread: makes nudges of states out of what stands in for them in `nudges`, `[*batch, ...]`, or
        `[n, *batch, ...]` for n steps taken together.

    The other arguments, the results and the errors are those of `unroll`, but for the strategy: a
    cell without a structure of its own is scanned, step by step, one that is made of others too;
    "parallel" and "checkpointed" do not show the states on the way.
    """
    start = checked_start(cell, params, xs, initial_state)
    check_reals(start)
    if not isinstance(nudges, Nudges):
        raise invalid("nudges", nudges, "Nudges", "Pass zero_nudges(cell, params, xs).")
    start = jax.tree.map(_add_nothing, start, spread(nudges.start))
    masks = checked_masks(xs, lengths, resets, reverse)
    xs = masks.fill(xs, reverse=reverse)
    chosen = resolve(strategy)
    if not isinstance(chosen, (Auto, Scan, Fused)):
        remedy = "Leave the strategy out, or the nudges."
        raise invalid("strategy", strategy, "auto, scan or fused", remedy)
    along = (nudges.read, nudges.passed)
    return _unroll_nudged(cell, params, xs, along, start, masks, reverse, chosen, spread)


@compiled("cell", "reverse", "chosen", "spread")
def _unroll_nudged(
    cell: Cell,
    params: Params,
    xs: Any,
    along: Any,
    start: State,
    masks: Any,
    reverse: bool,
    chosen: Any,
    spread: Any,
):
    spread_both = lambda along: tuple(map(spread, along))
    if cell.structure is None or isinstance(chosen, Scan):
        return _scanned(cell, params, xs, along, spread_both, start, masks, reverse)
    fused = chosen if isinstance(chosen, Fused) else Fused()
    final, ys = unroll_fused(
        _nudged_structure(cell.structure, (start, start)),
        params,
        xs,
        start,
        state_at_resets(cell, params, xs, masks),
        masks,
        reverse=reverse,
        extra_drives=along,
        make_extra_drives=lambda along: jax.tree.leaves(spread_both(along)),
        **fused.sizes(cell.structure, params, xs, start),
    )
    return final, masks.zero_padding(ys)


def _scanned(
    cell: Cell,
    params: Params,
    xs: Any,
    along: Any,
    spread: Any,
    start: State,
    masks: Any,
    reverse: bool,
) -> tuple[State, Array]:
    """Scan the steps, with nudges."""
    wide, rounded = for_sums(params)
    initial, initial_rounded = for_sums(state_at_resets(cell, params, xs, masks))
    at_padding = masks.at_padding(start, initial_rounded(initial), reverse=reverse)
    step = _nudged(with_wide_sums(cell.step), old=3)

    def body(state: State, at: Any):
        x, masks, nudges = at
        before = masks.state_before(state, initial_rounded(initial))
        evaluated = masks.state_evaluated(before, at_padding)
        after, y = step(spread(nudges), rounded(wide), evaluated, x)
        return masks.state_after(after, before), masks.zero_padding(y)

    return jax.lax.scan(body, start, (xs, masks, along), reverse=reverse)


def _nudged_structure(structure: Structure, like: tuple[State, State]) -> Structure:
    """Return `structure` with the leaves of two nudges as last drives, which `pointwise` takes."""
    leaves, tree = jax.tree.flatten(like)

    def pointwise(constants: Any, state: State, *a: Any):
        nudges = jax.tree.unflatten(tree, a[-len(leaves) :])
        nudged = _nudged(structure.pointwise, old=2)
        return nudged(nudges, constants, state, *a[: -len(leaves)])

    return replace(structure, pointwise=pointwise)


def _nudged(
    function: Callable[..., tuple[State, Any]], old: int
) -> Callable[..., tuple[State, Any]]:
    """Return `((read, passed), *args) -> (state, y)` from `(*args) -> (state, y)`.

    The first `old` arguments are from before the step. The others may be the state after it, as a
    pre-activation may.
    """

    def nudged(nudges: tuple[State, State], *args: Any) -> tuple[State, Any]:
        inputs = jax.tree.leaves(args)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        program = Program(closed)
        values = program.evaluate(inputs, {})
        own = {place for equation in program.equations for place in equation.writes}
        own.update(program.inputs[len(jax.tree.leaves(args[:old])) :])
        seen: dict[int, Array] = {}
        after = []
        # The outputs are the leaves of the state, and then y.
        for place, read, passed in zip(
            program.outputs, *map(jax.tree.leaves, nudges), strict=False
        ):
            state = _add_nothing(values[place], read)
            if place in own and place not in seen:
                seen[place] = state
            after.append(_add_nothing(state, passed))
        ys = program.outputs[len(after) :]
        reading = seen
        if not set(ys) <= set(seen):
            inputs = [seen.get(place, x) for place, x in zip(program.inputs, inputs, strict=True)]
            reading = program.evaluate(inputs, {}, seen)
        outputs = [*after, *(reading[place] for place in ys)]
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return nudged


@jax.custom_jvp
def _add_nothing(value: Array, nudge: Array) -> Array:
    """Return value + nudge for a nudge of zero: the primal does not have to read it."""
    return value


@_add_nothing.defjvp
def _derivative(primals: Any, tangents: Any):
    return _add_nothing(*primals), tangents[0] + tangents[1]
