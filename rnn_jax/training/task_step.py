"""The train step of a cell on a task, whose batches are made on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_function, check_key
from rnn_jax.tasks import Task
from rnn_jax.tasks._curriculum import check_task
from rnn_jax.training.checks import check_scalar
from rnn_jax.training.gradient import Unroll
from rnn_jax.training.telemetry import Telemetry, check_telemetry
from rnn_jax.training.train_state import TrainState
from rnn_jax.training.train_step import TIME_MAJOR, TrainStep, compose
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.strategies import Strategy, resolve


def make_task_train_step(
    cell: Cell,
    task: Task,
    optimizer: optax.GradientTransformation,
    *,
    penalty: Callable[[Params, Array, Array], Array] | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    mesh: Mesh | None = None,
    strategy: str | Strategy = "auto",
    telemetry: Telemetry | None = None,
) -> TrainStep:
    """Return `train_step(state, key) -> (state, metrics)` of a cell that learns a task.

    Its loss is `task.mean_loss` of the outputs of `unroll`, and the batch of a step
    `task.batch(key, state.step)`, drawn in the same program. `fit` takes one key for all steps:
    `fit(train_step, state, lambda step: key, steps)`.

    Args:
      cell: any Cell whose outputs are those of the task.
      task: any task. Where the number of steps that count differs from one sequence to another, the
        mean over devices or parts is that of their means.
      penalty: `(params, xs, targets) -> scalar`, added to the loss: a weight times
        `gradients.omega`, say. A mean over examples, where devices or parts share the batch.
      optimizer, clip_norm, clip_value, accumulate, mesh: as for `make_train_step`.
      strategy: as for `unroll`; with telemetry, as for `gradients.unroll_nudged`.
      telemetry: quantities to measure; the state is then one of `create_monitored_train_state`.

    Returns:
      The step, to be jitted, vmapped or exported, and for `fit` and `over_ensemble`. Its metrics
      are those of `make_train_step`, and those of `Telemetry` if there is one.

    Raises:
      ValueError: a cell, a task or a penalty that is none; a penalty that is not a scalar; what
        `make_train_step`, `unroll` and `Task.mean_loss` raise; a batch that is no key.
    """
    check_cell("cell", cell)
    check_task(task)
    if telemetry is not None:
        check_telemetry(telemetry)
    if penalty is not None:
        check_function("penalty", penalty, "(params, xs, targets) -> scalar")
    strategy = resolve(strategy)

    def mean_loss(
        params: Params, carried: State, batch: Any, unroll: Unroll
    ) -> tuple[Array, State]:
        xs, targets = batch
        ys = unroll(cell, params, xs, strategy=strategy)[1]
        value = task.mean_loss(ys, xs, targets)
        if penalty is not None:
            added = check_scalar("penalty", penalty(params, xs, targets))
            value += added.astype(value.dtype)
        return value, carried

    def prepare(state: TrainState, key: Any) -> tuple[Array, Array]:
        xs, targets = task.batch(check_key("key", key), state.step)
        return jnp.asarray(xs), jnp.asarray(targets)

    return compose(
        mean_loss,
        optimizer,
        clip_norm=clip_norm,
        clip_value=clip_value,
        accumulate=accumulate,
        mesh=mesh,
        batch_spec=TIME_MAJOR,
        telemetry=telemetry,
        prepare=prepare,
    )
