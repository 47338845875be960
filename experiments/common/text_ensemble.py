"""Networks that learn a text character by character, an ensemble in one program."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnn_jax
from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.losses import per_step
from rnn_jax.tasks import Task, Text
from rnn_jax.training import create_train_state, fit, make_train_step, over_ensemble
from rnn_jax.types import Key, Params


def check_held_out(text: Text, steps: int) -> None:
    """Raise ValueError unless `steps` characters of `text.held_out` have a next one."""
    if len(text.held_out) <= steps:
        raise invalid(
            "text",
            f"{len(text.held_out)} held-out characters in {text.name}",
            f"more than {steps:,}",
            "Pass a longer text, or a smaller T.",
        )


def inputs_of(text: Text) -> dict[str, object]:
    """Return what config.json records of a text."""
    return {"text": text.name, "characters": len(text), "sha256": text.sha256}


def members_by_label(labels: Sequence[str], seeds: int) -> dict[str, slice]:
    """Return which members of an ensemble are of each kind: ordered kind by kind, seed by seed."""
    return {label: slice(i * seeds, (i + 1) * seeds) for i, label in enumerate(labels)}


def initial_params(cells: Sequence[Cell], input_size: int, key: Key, seeds: int) -> Params:
    """Return parameters of `seeds` members of each cell; the cells share their draws."""
    keys = jax.random.split(key, seeds)
    kinds = [
        jax.jit(jax.vmap(functools.partial(cell.init, input_size=input_size)))(keys)
        for cell in cells
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kinds)


def train_text_ensemble(
    cell: Cell,
    task: Task,
    params: Params,
    data_key: Key,
    *,
    seeds: int,
    steps: int,
    learning_rate: float,
    clip_norm: float | None,
    label: str,
    checkpoints: Path,
) -> tuple[Params, dict[str, np.ndarray]]:
    """Train all members of `initial_params` by Adam, whose rate falls along a cosine.

    Every kind of network sees the same batches, seed by seed.

    Args:
      cell: cell of the members, which differ in their parameters alone.
      task: task that they learn.
      params: their parameters, `[members, ...]`.
      data_key: the batches'.
      seeds: members of each kind.
      steps: number of optimizer steps.
      learning_rate: Adam's at the start.
      clip_norm: global norm that gradients are clipped to; None for no clipping.
      label: shown with the progress.
      checkpoints: the folder from which an interrupted training resumes.

    Returns:
      The parameters, and metrics `[steps, members]`.
    """
    members = len(jax.tree.leaves(params)[0])
    keys = jnp.tile(jax.random.split(data_key, seeds), members // seeds)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps, alpha=0.02))

    def loss(params, batch):
        xs, targets = batch
        return per_step(task.loss, rnn_jax.unroll(cell, params, xs)[1], targets).mean()

    train_step = make_train_step(loss, optimizer, clip_norm=clip_norm)
    state, metrics = fit(
        over_ensemble(lambda state, key: train_step(state, task.batch(key, state.step)), members),
        jax.vmap(lambda p: create_train_state(p, optimizer))(params),
        batch_at=lambda step: keys,
        steps=steps,
        label=label,
        checkpoint_dir=checkpoints,
    )
    # Fetched, so that what follows runs on one device: see over_ensemble on jnp.linalg.
    return jax.device_get(state.params), metrics
