r"""The gradient of any loss at the states in between, from the backward pass that it takes anyway.

Each state h_t gets two zero perturbations, n_t and m_t (`unrolling/perturbed.py`); ∂E/∂n_t is the
whole of ∂E/∂h_t, and ∂E/∂m_t the part of it that comes back through the next step,
(∂E/∂h_{t+1}) (∂h_{t+1}/∂h_t).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_flag, invalid
from rnn_jax.gradients.step.continuous import check_reals
from rnn_jax.lengths import steps_of
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.arguments import checked_masks, checked_start
from rnn_jax.unrolling.perturbed import Perturbations, add_zero
from rnn_jax.unrolling.scan import Scan
from rnn_jax.unrolling.strategies import Auto, Fused, Strategy, resolve
from rnn_jax.unrolling.unroll import run


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
    return zeros_along(checked_start(cell, params, xs, None), steps_of(xs))


def zeros_along(start: State, T: int) -> Nudges:
    """Return zeros for T steps from `start`."""
    zeros = lambda lead: jax.tree.map(lambda a: jnp.zeros((*lead, *a.shape), a.dtype), start)
    return Nudges(zeros(()), zeros((T,)), zeros((T,)))


def as_they_are(zeros: State) -> State:
    """Return zeros that are like the state already."""
    return zeros


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
    spread: Callable[[Any], State] = as_they_are,
) -> tuple[State, Array]:
    """Unroll, differentiable with respect to the states on the way.

    What y_t reads of the state is read off the step's own computation, leaf by leaf: a perturbation
    of the c that an LSTM hands on is none of the h beside it, as in `decompose`. A leaf that is
    handed on as it came has no value of its own, and what y_t reads of it is not counted. In the
    padding all cotangents are zero.

    Args:
      nudges: `zero_nudges(cell, params, xs)`. Their values are not read.
      spread: makes zeros like the state out of what stands in for them in `nudges`,
        `[*batch, ...]`, or `[n, *batch, ...]` for n steps taken together.

    The other arguments, the results and the errors are those of `unroll`, but for the strategy: a
    cell without a structure of its own is scanned, step by step, one that is made of others too;
    "parallel" and "checkpointed" do not show the states on the way.
    """
    reverse = check_flag("reverse", reverse)
    start = checked_start(cell, params, xs, initial_state)
    check_reals(start)
    if not isinstance(nudges, Nudges):
        raise invalid("nudges", nudges, "Nudges", "Pass zero_nudges(cell, params, xs).")
    chosen = resolve(strategy)
    if not isinstance(chosen, (Auto, Scan, Fused)):
        remedy = "Leave the strategy out, or the nudges."
        raise invalid("strategy", strategy, "auto, scan or fused", remedy)
    masks = checked_masks(xs, lengths, resets, reverse)
    return run_perturbed(cell, params, xs, start, masks, nudges, reverse, chosen, spread)


def run_perturbed(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    masks: Any,
    nudges: Nudges,
    reverse: bool = False,
    strategy: Any = Auto(),
    spread: Callable[[Any], State] = as_they_are,
) -> tuple[State, Array]:
    """Return (final state, ys), of arguments that have been checked."""
    start = jax.tree.map(add_zero, start, spread(nudges.start))
    perturbations = Perturbations(nudges.read, nudges.passed, spread)
    return run(cell, params, xs, start, masks, reverse, strategy, perturbations)
