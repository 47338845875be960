"""An ensemble that learns a task in one program: each network its seed, rate and clip level."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.cell import Cell
from rnn_jax.tasks import Task
from rnn_jax.training import (
    HeldOut,
    Telemetry,
    create_monitored_train_state,
    create_train_state,
    evaluate,
    fit,
    make_task_train_step,
    over_ensemble,
    restore,
)
from rnn_jax.training.record import Recorder
from rnn_jax.types import Array, Key, Params

OPTIMIZERS = {"adam": optax.adam, "adamw": optax.adamw, "rmsprop": optax.rmsprop, "sgd": optax.sgd}
FINAL_RATE = 0.02
"""Part of the learning rate that is left at the end of a cosine."""


class Members(NamedTuple):
    """What each network of an ensemble has of its own, `[members]`.

    A member's start and batches are drawn from its seed alone: they are those that it has by
    itself. `clip_norm` and `clip_value` are inf for no clipping.
    """

    seed: np.ndarray
    learning_rate: np.ndarray
    clip_norm: np.ndarray
    clip_value: np.ndarray | None = None


class Plan(NamedTuple):
    """What all networks of an ensemble have in common.

    Attributes:
      cell: cell of all networks, readout included.
      task, held_out: the task, and where the networks are evaluated.
      steps, evaluate_every, accumulate: as for `fit` and `make_task_train_step`.
      held_out_batches: batches in an evaluation.
      solved: training ends once every network solves this part of the held-out sequences; None to
        take all steps.
      optimizer: a key of `OPTIMIZERS`.
      schedule: "constant" or "cosine", of the learning rate over `steps`.
      telemetry: what is measured besides; None for nothing.
      penalty: added to the loss, as for `make_task_train_step`; None for nothing.
      measured: further metrics of a step, of the states before and after it; None for none.
    """

    cell: Cell
    task: Task
    held_out: Task
    steps: int
    evaluate_every: int
    held_out_batches: int
    solved: float | None
    optimizer: str = "adam"
    schedule: str = "constant"
    accumulate: int = 1
    telemetry: Telemetry | None = None
    penalty: Callable[[Params, Array, Array], Array] | None = None
    measured: Callable[[Any, Any], dict[str, Array]] | None = None


class Trained(NamedTuple):
    """Networks before training, at their best evaluations and after it, `[members, ...]`; metrics.

    Metrics are `[steps, members]`, those of evaluations, under `held_out`, `[evaluations,
    members]`.
    """

    first: Params
    best: Params
    last: Params
    metrics: dict[str, Any]


PHASES = Trained._fields[:3]
"""Names of the networks' parameters, in time."""


def train(
    plan: Plan,
    members: Members,
    checkpoints: Path,
    label: str,
    recorders: Sequence[Recorder] = (),
    max_skipped: int | None = 100,
) -> Trained:
    """Train the networks, from where the checkpoints are if there are some.

    Args:
      plan: what they have in common.
      members: what each has of its own.
      checkpoints: the folder from which an interrupted training resumes.
      label: shown with the progress.
      recorders, max_skipped: as for `fit`.
    """
    count = len(members.seed)
    seeds = jnp.asarray(members.seed, jnp.uint32)
    arrays = {
        "key": jax.vmap(lambda seed: _key(seed, "batches"))(seeds),
        "learning_rate": jnp.asarray(members.learning_rate, jnp.float32),
        "clip_norm": jnp.asarray(members.clip_norm, jnp.float32),
    }
    if members.clip_value is not None:
        arrays["clip_value"] = jnp.asarray(members.clip_value, jnp.float32)

    def init(of: tuple[Array, Array]) -> Any:
        seed, learning_rate = of
        params = plan.cell.init(_key(seed, "parameters"), plan.task.input_size)
        optimizer = _optimizer(plan, learning_rate)
        if plan.telemetry is None:
            return create_train_state(params, optimizer)
        return create_monitored_train_state(params, optimizer, plan.telemetry)

    def step(state: Any, member: Mapping[str, Array]) -> Any:
        train_step = make_task_train_step(
            plan.cell,
            plan.task,
            _optimizer(plan, member["learning_rate"]),
            penalty=plan.penalty,
            clip_norm=member["clip_norm"],  # type: ignore[arg-type]  # one for each member
            clip_value=member.get("clip_value"),  # type: ignore[arg-type]
            accumulate=plan.accumulate,
            telemetry=plan.telemetry,
        )
        after, metrics = train_step(state, member["key"])
        if plan.measured is not None:
            metrics |= plan.measured(state, after)
        return after, metrics

    # Not over devices: initializers call jnp.linalg (see over_ensemble). One after another, since
    # their random numbers compile for long when they are drawn side by side.
    first = jax.jit(lambda of: jax.lax.map(init, of))((seeds, arrays["learning_rate"]))
    state, metrics = fit(
        over_ensemble(step, count),
        first,
        lambda step: arrays,
        plan.steps,
        label=label,
        held_out=_held_out(plan, count),
        checkpoint_dir=checkpoints,
        recorders=recorders,
        max_skipped=max_skipped,
    )
    best = restore(checkpoints, first, best=True)
    # Fetched, so that what follows runs on one device: see over_ensemble on jnp.linalg.
    networks = jax.device_get((first.params, best.params, state.params))
    return Trained(networks[0], networks[1], networks[2], metrics)


def _optimizer(plan: Plan, learning_rate: Array) -> optax.GradientTransformation:
    """Return the optimizer, which says its learning rate, of one network."""
    if plan.schedule == "cosine":
        rate = optax.cosine_decay_schedule(learning_rate, plan.steps, FINAL_RATE)  # type: ignore[arg-type]
    else:
        rate = lambda count: learning_rate
    return optax.inject_hyperparams(OPTIMIZERS[plan.optimizer])(learning_rate=rate)


def _held_out(plan: Plan, count: int) -> HeldOut:
    """Return the evaluation of all networks on the same sequences."""
    batches = plan.held_out_batches
    run = functools.partial(evaluate, plan.cell, task=plan.held_out, batches=batches)
    on_all = over_ensemble(lambda params, key: run(params, key=key)._asdict(), count)
    keys = jnp.stack([held_out_key()] * count)
    solved = plan.solved
    return HeldOut(
        lambda state: on_all(state.params, keys),
        every=plan.evaluate_every,
        stop_when=None if solved is None else lambda metrics: (metrics["solved"] >= solved).all(),
    )


def held_out_key() -> Key:
    """Return the key of the sequences that all networks of all runs are evaluated on."""
    return _key(0, "held out")


def _key(seed: Array | int, purpose: str) -> Key:
    """Return a key for one purpose, which no other one shares."""
    purposes = ("parameters", "batches", "held out")
    return jax.random.fold_in(jax.random.key(seed), purposes.index(purpose))
