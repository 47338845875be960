r"""The gradient at the states, read off the backward pass that training takes anyway.

The one `unroll` that a loss calls is taken with zero perturbations of its states
(`gradients.unroll_nudged`), whose cotangents, in the backward pass of the parameters, are ∂L/∂h_t.
Of these only the norms are kept (`training.state_norms`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.gradients.regularization.omega import counted_steps
from rnn_jax.gradients.step.perturbations import Nudges, unroll_nudged
from rnn_jax.training.gradient import Gradient, Loss, value_and_grad
from rnn_jax.training.state_norms import spread_scalars, zero_scalars
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.unroll import unroll as plain_unroll


class StateGradients(NamedTuple):
    """The gradient at the states of a batch, each `[T, *batch]`.

    Attributes:
      log_norms: ln ‖∂L/∂h_t‖.
      log_norms_back: ln of the norm of what comes back of ∂L/∂h_t to the state before t.
      counted: 1 at the steps that `gradients.omega` takes, 0 at others, NaN after a NaN.
    """

    log_norms: Array
    log_norms_back: Array
    counted: Array


def with_state_gradients(loss: Loss, parts: int) -> Gradient:
    """Return the gradient of a loss with StateGradients; L is the mean over so many parts."""

    def measured(params: Params, carried: State, batch: Any):
        scalars, spread, reverse = _scalars_for(loss, params, carried, batch)

        def perturbed_loss(params: Params, scalars: Nudges):
            def unroll(cell: Cell, params: Params, xs: Any, *args: Any, **options: Any):
                return unroll_nudged(cell, params, xs, scalars, *args, spread=spread, **options)

            return loss(params, carried, batch, unroll)

        run = jax.value_and_grad(perturbed_loss, (0, 1), has_aux=True)
        (value, carried), (grads, log_norms) = run(params, scalars)
        at = log_norms.read
        counted = counted_steps(at, reverse=reverse).astype(at.dtype)
        back = _back(log_norms, reverse)
        if parts > 1:
            # What a part of the batch has differentiated is its own mean; L is the mean of those.
            at, back = at - math.log(parts), back - math.log(parts)
        return (value, grads), carried, StateGradients(at, back, counted)

    return measured


def without_state_gradients(loss: Loss) -> Gradient:
    """Return the gradient of a loss with NaN for StateGradients, for steps that do not measure."""
    measured, gradient = with_state_gradients(loss, 1), value_and_grad(loss)

    def unmeasured(params: Params, carried: State, batch: Any):
        averaged, carried_on, _ = gradient(params, carried, batch)
        shapes = jax.eval_shape(measured, params, carried, batch)[2]
        nan = lambda shape: jnp.full(shape.shape, jnp.nan, shape.dtype)
        return averaged, carried_on, jax.tree.map(nan, shapes)

    return unmeasured


def summary(value: Array, states: StateGradients) -> dict[str, Array]:
    """Return the metrics of the gradient that `Telemetry` lists; `value` is L."""
    at, back, counted = states
    profile = jax.nn.logsumexp(2 * at, axis=tuple(range(1, at.ndim))) / 2
    left_out = counted == 0  # Written so that NaN counts.
    log_ratio = jnp.where(left_out, 0, back - at)
    # r − 1 = e^(ln r) − 1 by expm1: r is close to 1 where training goes well.
    omega = jnp.square(jnp.expm1(log_ratio)).sum() / math.prod(at.shape[1:])
    blocked = log_ratio == -jnp.inf
    steps = (at.size - left_out.sum()).astype(at.dtype)
    moves = steps - blocked.sum().astype(at.dtype)
    decay_rate = jnp.where(blocked, 0, log_ratio).sum() / moves
    horizon = jnp.where(decay_rate >= 0, jnp.inf, -1 / decay_rate)
    # A NaN state may have let no gradient through at all, which is no number of its own.
    unknown = jnp.isnan(value) | jnp.isnan(counted).any()
    or_nan = lambda metric: jnp.where(unknown, jnp.nan, metric)
    return {
        "state_log_norms": or_nan(profile),
        "decay_rate": or_nan(decay_rate),
        "horizon": or_nan(horizon),
        "omega": or_nan(omega),
        "blocked": or_nan(blocked.sum().astype(at.dtype) / steps),
    }


def _scalars_for(
    loss: Loss, params: Params, carried: State, batch: Any
) -> tuple[Nudges, Callable[[Array], State], bool]:
    """Return scalars for the one `unroll` that the loss calls, how to spread them, if reversed."""
    calls: list[tuple[Any, Any, bool]] = []

    def unroll(cell: Cell, params: Params, xs: Any, *args: Any, **options: Any):
        scalars = jax.eval_shape(functools.partial(zero_scalars, cell), params, xs)
        calls.append((scalars, spread_scalars(cell, params, xs), options.get("reverse", False)))
        return plain_unroll(cell, params, xs, *args, **options)

    run = lambda params, carried, batch: loss(params, carried, batch, unroll)
    jax.eval_shape(run, params, carried, batch)
    if len(calls) != 1:
        raise invalid(
            "loss",
            f"one that calls its unroll {len(calls)} times",
            "one call of it",
            "Call unroll(cell, params, xs) where rnn_jax.unroll stood; leave others as they are.",
        )
    ((scalars, spread, reverse),) = calls
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), scalars), spread, reverse


def _back(log_norms: Nudges, reverse: bool) -> Array:
    """Return ln of the norm of what comes back of ∂L/∂h_t to the state before t: `[T, *batch]`."""
    # What came back to h_{t−1} is the cotangent of its second perturbation, one row earlier; what
    # came back to the initial state is all that this one received.
    start, passed = log_norms.start[None], log_norms.passed
    return jnp.concatenate([passed[1:], start] if reverse else [start, passed[:-1]])
