"""Studies that compare cells on a task of memory: the same training for each cell and length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from experiments.common import arms
from experiments.common.arms import Arm
from experiments.common.compared_cells import COMPARED
from experiments.common.numbers import Result
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Positive, Reproduction, Size, by_setting
from experiments.common.task_ensemble import Plan
from rnn_jax.cells import readout
from rnn_jax.tasks import Task
from rnn_jax.types import Params

EVALUATIONS = 25
"""Evaluations of each training, evenly spread, after the one before it."""
HELD_OUT = (256, 10)
"""Sequences in a batch that evaluates, and batches."""


@dataclass(frozen=True)
class MemoryConfig(Reproduction):
    """The base of the `Config` of such a study."""

    seeds: Size = by_setting(reduced=5, paper=5)
    """Networks of each cell and length, all in one program."""
    lengths: tuple[Size, ...] = by_setting(reduced=(50, 100), paper=(100, 200, 400))
    """Values of T."""
    hidden_size: Size = by_setting(reduced=32, paper=128)
    """H, units of each network."""
    batch_size: Size = 20
    """Sequences in a batch."""
    sequences: Size = by_setting(reduced=100_000, paper=1_000_000)
    """Most sequences that a network reads."""
    clip_norm: Positive = 1.0
    """Global norm that gradients are clipped to."""


def measure(
    config: MemoryConfig,
    make: Callable[..., Task],
    rates: Mapping[str, float],
    solved: float | None,
) -> tuple[Result, dict[str, Params]]:
    """Train each cell at each length.

    Args:
      config: sizes and seeds.
      make: the task, `(T, batch_size) -> Task`.
      rates: Adam's learning rate for each cell of `COMPARED`.
      solved: training of an arm ends once all its networks solve this part of the sequences.

    Returns:
      `arms`, by task, cell and length; and the networks.
    """
    name = make().name.replace("_", " ")
    ways = {
        name: {
            cell: {f"T = {T}": _arm(config, make, T, cell, rate, solved) for T in config.lengths}
            for cell, rate in rates.items()
        }
    }
    seeds = config.seed + np.arange(config.seeds)
    learned, networks = arms.measure(ways, seeds, RunFolder(config.out).checkpoints)
    return {"arms": learned, "sequences": np.array(config.sequences)}, networks


def _arm(
    config: MemoryConfig,
    make: Callable[..., Task],
    T: int,
    cell: str,
    rate: float,
    solved: float | None,
) -> Arm:
    task, (size, batches) = make(T=T, batch_size=config.batch_size), HELD_OUT
    steps = max(config.sequences // config.batch_size, 1)
    plan = Plan(
        cell=readout(COMPARED[cell](config.hidden_size), task.output_size),
        task=task,
        held_out=make(T=T, batch_size=size),
        steps=steps,
        evaluate_every=max(steps // EVALUATIONS, 1),
        held_out_batches=batches,
        solved=solved,
    )
    return Arm(plan, rate, config.clip_norm)


def length_of(name: str) -> float:
    """Return T of its name."""
    return float(name.removeprefix("T = "))
