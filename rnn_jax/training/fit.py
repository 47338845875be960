"""The loop around a train_step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.training.checkpoints import Checkpoints
from rnn_jax.training.record import Recorder
from rnn_jax.training.train_step import AnyTrainState
from rnn_jax.types import Array

STEPS_BETWEEN_READINGS = 10
"""How often the loop waits for the device to show the loss."""


def fit(
    train_step: Callable[[AnyTrainState, Any], tuple[AnyTrainState, dict[str, Array]]],
    state: AnyTrainState,
    batch_at: Callable[[int], Any],
    steps: int,
    *,
    label: str = "training",
    progress: bool = True,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100,
    recorders: Sequence[Recorder] = (),
) -> tuple[AnyTrainState, dict[str, np.ndarray]]:
    """Take `steps` steps of `train_step`, resuming where a killed run left off.

    Args:
      train_step: `(state, batch) -> (state, metrics)`, jitted; over one network or, vmapped, over
        an ensemble.
      state: where to start if there is no checkpoint.
      batch_at: `step -> batch`, a pure function, so that a resumed run sees the same batches.
      steps: how many in all, those before a resumption included.
      label: in front of the progress bar.
      progress: show the bar, with the median loss over the ensemble.
      checkpoint_dir: keep state and metrics there, and start from the last ones kept.
      checkpoint_every: steps between checkpoints.
      recorders: each is called with `(step, metrics)` whenever metrics have come from the device:
        those of n steps, `[n, ...]`, the first of them `step`. `to_disk` and `to_tensorboard` make
        such.

    Returns:
      The state after the last step, and the metrics stacked over steps: `[steps, ...]`.

    Raises:
      ValueError: `steps` or `checkpoint_every` not positive; a checkpoint of another model,
        ensemble or number of steps.
    """
    from tqdm import tqdm

    for name, value in (("steps", steps), ("checkpoint_every", checkpoint_every)):
        if value < 1:
            raise invalid(name, value, "at least 1", "Pass a positive number of steps.")
    metrics = jax.eval_shape(lambda s: train_step(s, batch_at(0))[1], state)
    history = {
        name: np.full((steps, *metric.shape), np.nan, metric.dtype)
        for name, metric in metrics.items()
    }
    with Checkpoints(checkpoint_dir) as checkpoints:
        done, state, history = checkpoints.restore(state, history)
        bar = tqdm(total=steps, initial=done, desc=label, disable=not progress)
        unread: list[dict[str, Any]] = []
        for step in range(done, steps):
            state, metrics = train_step(state, batch_at(step))
            unread.append(metrics)
            last = step + 1 == steps
            keep = last or (step + 1) % checkpoint_every == 0
            if keep or len(unread) == STEPS_BETWEEN_READINGS:
                _read_into(history, unread, end=step + 1)
                begin = step + 1 - len(unread)
                for record in recorders:
                    record(begin, {name: v[begin : step + 1] for name, v in history.items()})
                bar.update(len(unread))
                bar.set_postfix(loss=f"{np.median(history['loss'][step]):.3f}")
                unread.clear()
            if keep:
                checkpoints.save(step + 1, state, history)
        bar.close()
    return state, history


def _read_into(history, unread, end) -> None:
    for name, values in _stacked(unread).items():
        history[name][end - len(unread) : end] = np.asarray(values)


@jax.jit
def _stacked(metrics: list[dict[str, Array]]) -> dict[str, Array]:
    """One array for each metric: to the host, time goes by the number of arrays, not their size."""
    return jax.tree.map(lambda *steps: jnp.stack(steps), *metrics)
