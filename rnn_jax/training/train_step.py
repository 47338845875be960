"""One pure step of training: a gradient, what telemetry measures of it, and an update."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import check_function, check_size
from rnn_jax.lengths import select_state
from rnn_jax.training._batch_mesh import share
from rnn_jax.training._micro_batches import accumulate as in_parts
from rnn_jax.training.checks import check_mesh, check_scalar
from rnn_jax.training.gradient import Gradient, Loss, Unroll, value_and_grad
from rnn_jax.training.state_gradients import (
    summary,
    with_state_gradients,
    without_state_gradients,
)
from rnn_jax.training.telemetry import Telemetry, check_telemetry, iterate
from rnn_jax.training.train_state import TrainState, check_state
from rnn_jax.training.update import make_update
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.unroll import unroll as plain_unroll

TIME_MAJOR = PartitionSpec(None, "batch")
"""The batch axis of arrays [T, B, ...]."""
TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]


def make_train_step(
    loss: Callable[[Params, Any], Array],
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    batch_spec: Any = TIME_MAJOR,
) -> TrainStep:
    """Return `train_step(state, batch) -> (state, metrics)`, to be jitted, vmapped or exported.

    A gradient with a number that is not finite moves nothing: parameters and the optimizer's state
    stay as they were, `step` goes on, and the metric `skipped` says so. Under `vmap` each network
    is skipped by itself.

    Args:
      loss: `(params, batch) -> scalar`.
      optimizer: any of optax; the one that `create_train_state` was given. One that asks for them
        (`optax.contrib.reduce_on_plateau`, `optax.polyak_sgd`, `optax.lbfgs`) is handed optax's
        extra arguments: `value`, the loss; `grad`, the gradient before clipping; `value_fn`,
        `params -> loss` on the same batch.
      clip_norm: the gradient is scaled down to this global norm where it is larger, before the
        optimizer sees it (Pascanu, Mikolov and Bengio 2013, algorithm 1); None to leave it. The
        direction is right for any finite gradient, also where its norm overflows.
      clip_value: every number of the gradient is limited to ± this value, before its norm is
        (Mikolov 2012); None to leave them.
      accumulate: number of equal parts of a batch that are gone through one after another, before
        one update with the mean of their gradients; the loss must be a mean over examples.
      mesh: devices that share each batch (`batch_mesh`); the loss must then be a mean over
        examples. Loss and gradients are averaged over devices once, after each has gone through
        all steps of its part.
      batch_spec: which axis of each array of a batch is shared among devices and cut into parts: a
        `PartitionSpec`, or a pytree of them that is a prefix of the batch; by default the second
        axis, as in time-major arrays.

    Returns:
      The step. Its metrics are scalars: `loss`; `grad_norm`, the global norm before clipping, in
      float32 at least, and inf beyond its largest number; `clipped`, 1 where clipping changed it,
      whose mean is the clip rate; `skipped`, 1 where the gradient was not finite; `learning_rate`,
      where the optimizer says it (`optax.inject_hyperparams`).

    Raises:
      ValueError: a loss or a mesh that is none; an optimizer without `init` and `update`; a level
        of clipping that is not positive; a loss that is not a scalar; a state that is no
        TrainState; a batch that the devices cannot share evenly, or cannot be cut.
    """
    check_function("loss", loss, "(params, batch) -> scalar")

    def scalar(params: Params, carried: State, batch: Any, unroll: Unroll) -> tuple[Array, State]:
        return check_scalar("loss", loss(params, batch)), carried

    return compose(
        scalar,
        optimizer,
        clip_norm=clip_norm,
        clip_value=clip_value,
        accumulate=accumulate,
        mesh=mesh,
        batch_spec=batch_spec,
    )


def make_monitored_train_step(
    loss: Callable[[Params, Any, Callable[..., tuple[State, Array]]], Array],
    optimizer: optax.GradientTransformation,
    telemetry: Telemetry,
    *,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    batch_spec: Any = TIME_MAJOR,
) -> TrainStep:
    """Return a train step with telemetry: the same updates, more metrics.

    Args:
      loss: `(params, batch, unroll) -> scalar`. It calls `unroll` once, as it would
        `rnn_jax.unroll`, outside of any `vmap` of its own; `unroll=rnn_jax.unroll` as the default
        lets the same loss serve `make_train_step`. Strategies are those of
        `gradients.unroll_nudged`.
      optimizer, clip_norm, clip_value, accumulate, mesh, batch_spec: as for `make_train_step`; the
        first batch axis of the states is the one that is shared or cut.
      telemetry: quantities to measure.

    Returns:
      The step, for `fit` and `over_ensemble`, on a state of `create_monitored_train_state`. Its
      metrics are those that `Telemetry` lists.

    Raises:
      ValueError: a loss that does not call `unroll` once; a state without the telemetry's
        matrices; what `make_train_step` raises.
    """
    check_function("loss", loss, "(params, batch, unroll) -> scalar")
    check_telemetry(telemetry)

    def scalar(params: Params, carried: State, batch: Any, unroll: Unroll) -> tuple[Array, State]:
        return check_scalar("loss", loss(params, batch, unroll)), carried

    return compose(
        scalar,
        optimizer,
        clip_norm=clip_norm,
        clip_value=clip_value,
        accumulate=accumulate,
        mesh=mesh,
        batch_spec=batch_spec,
        telemetry=telemetry,
    )


def compose(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None,
    clip_value: float | None,
    mesh: Mesh | None,
    batch_spec: Any,
    accumulate: int = 1,
    telemetry: Telemetry | None = None,
    gradient: Gradient | None = None,
    prepare: Callable[[TrainState, Any], Any] = lambda state, batch: batch,
) -> TrainStep:
    """Return the train step of a loss; every maker's is composed here.

    Args:
      loss: see `training.gradient`.
      optimizer, clip_norm, clip_value, mesh, batch_spec, accumulate: as for `make_train_step`.
      telemetry: quantities to measure; None for none.
      gradient: gradient of the loss, if not the whole one; not with telemetry.
      prepare: `(state, batch) -> batch`, which checks both.
    """
    update = make_update(optimizer, clip_norm, clip_value)
    check_mesh(mesh)
    parts = check_size("accumulate", accumulate)

    def shared(function: Callable[..., Any]) -> Callable[..., Any]:
        function = in_parts(function, parts, batch_spec)
        return function if mesh is None else share(function, mesh, batch_spec)

    def value_alone(params: Params, carried: State, batch: Any):
        return loss(params, carried, batch, plain_unroll)[0], None, None

    value_of = shared(value_alone)
    if telemetry is None:
        run = shared(gradient or value_and_grad(loss))
    else:
        measured = shared(with_state_gradients(loss, parts * (mesh.size if mesh else 1)))
        run, unmeasured = measured, shared(without_state_gradients(loss))

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        check_state(state)
        batch = prepare(state, batch)
        args = (state.params, state.carried, batch)
        # A branch and not a select: the steps in between take the cheaper backward pass. Under
        # `vmap` the predicate has an axis, and both branches are taken.
        if telemetry is None or telemetry.every == 1:
            (value, grads), carried, states = run(*args)
        else:
            is_due = state.step % telemetry.every == 0
            (value, grads), carried, states = jax.lax.cond(is_due, measured, unmeasured, *args)
        monitor, extra = state.monitor, {}
        if telemetry is not None:
            # The matrices of the parameters that the gradient was taken at, before the update.
            monitor, of_matrices = iterate(telemetry, state.params, state.monitor)
            extra = summary(value, states) | of_matrices
        value_fn = lambda params: value_of(params, state.carried, batch)[0]
        after, metrics = update(state, grads, value, value_fn)
        carried = _carried_on(state.carried, carried, metrics["skipped"])
        after = replace(after, carried=carried, monitor=monitor)
        return after, {"loss": value, **metrics, **extra}

    return train_step


def _carried_on(before: State, after: State, skipped: Array) -> State:
    """Return what the streams carry on: after a skipped step, only the states that are finite.

    A stream that has met NaN would never leave it again.
    """
    if before is None:
        return None
    return select_state(_is_finite(after) | (skipped == 0), after, before)


def _is_finite(state: State) -> Array:
    """Return whether every number of each stream's state is finite: `[B]`."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    each = [jnp.isfinite(leaf).all(tuple(range(1, leaf.ndim))) for leaf in leaves]
    return functools.reduce(jnp.logical_and, each, jnp.asarray(True))
