"""Cells side by side: each learns the same tasks, in the same way, from the same sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from experiments.common import arms
from experiments.common.arms import Arm
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Positive, Reproduction, Size, by_setting
from experiments.common.task_ensemble import Plan
from rnn_jax.cell import Cell
from rnn_jax.cells import readout
from rnn_jax.tasks import Task
from rnn_jax.types import Params


@dataclass(frozen=True)
class Comparison(Reproduction):
    """The base of the `Config` of a study that compares cells."""

    seeds: Size = by_setting(reduced=4, paper=6)
    """Networks of each cell and task, all in one program."""
    hidden_size: Size = by_setting(reduced=32, paper=128)
    """H, units of each network."""
    batch_size: Size = 20
    """Sequences in a batch."""
    sequences: Size = by_setting(reduced=100_000, paper=1_000_000)
    """Most sequences that a network reads."""
    evaluations: Size = by_setting(reduced=12, paper=25)
    """Evaluations of each training, evenly spread, besides the one before it."""
    clip_norm: Positive = 1.0
    """Global norm that gradients are clipped to."""


class Trial(NamedTuple):
    """A task to be learned.

    Attributes:
      task: in batches of the config's size.
      held_out, batches: where networks are evaluated, in so many batches.
      solved: training of an arm ends once all its networks solve this part of them; None to go on.
      sequences: most that a network reads, if not the config's.
    """

    task: Task
    held_out: Task
    batches: int = 1
    solved: float | None = None
    sequences: int | None = None


def measure(
    config: Comparison,
    trials: Mapping[str, Mapping[str, Trial]],
    cells: Mapping[str, Callable[[int], Cell]],
    rates: Mapping[str, float],
) -> tuple[dict[str, Any], dict[str, Params]]:
    """Train every cell on every task by Adam, whose rate falls along a cosine.

    Args:
      config: sizes and seeds, and where the run is.
      trials: by panel and length.
      cells: by name, `hidden_size -> Cell`, without a readout.
      rates: learning rate of each cell, at the start.

    Returns:
      What `arms.measure` returns.
    """
    ways = {
        panel: {
            name: {length: _arm(config, trial, of, rates[name]) for length, trial in group.items()}
            for name, of in cells.items()
        }
        for panel, group in trials.items()
    }
    seeds = config.seed + np.arange(config.seeds)
    return arms.measure(ways, seeds, RunFolder(config.out).checkpoints)


def _arm(config: Comparison, trial: Trial, of: Callable[[int], Cell], rate: float) -> Arm:
    steps = max((trial.sequences or config.sequences) // config.batch_size, 1)
    plan = Plan(
        cell=readout(of(config.hidden_size), trial.task.output_size),
        task=trial.task,
        held_out=trial.held_out,
        steps=steps,
        evaluate_every=max(steps // config.evaluations, 1),
        held_out_batches=trial.batches,
        solved=trial.solved,
        schedule="cosine",
    )
    return Arm(plan, rate, config.clip_norm)


def trials_of(
    make: Callable[..., Task],
    lengths: Sequence[int],
    batch_size: int,
    *,
    evaluated: tuple[int, int],
    solved: float,
) -> dict[str, Trial]:
    """Return the trials of a task by length.

    Args:
      make: the task, `(T, batch_size) -> Task`.
      lengths: values of T.
      batch_size: sequences in a batch that trains.
      evaluated: those in a batch that evaluates, and the number of these.
      solved: as for `Trial`.
    """
    size, batches = evaluated
    at = lambda T, batch_size: make(T=T, batch_size=batch_size)
    return {f"T = {T}": Trial(at(T, batch_size), at(T, size), batches, solved) for T in lengths}
