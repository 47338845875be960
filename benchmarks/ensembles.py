"""Many seeds in one program on all devices, against as many runs one after another on one.

    python -m benchmarks.ensembles [--out FOLDER]

An LSTM learns the adding problem by `fit`. Seconds of all seeds from the tenth step of each run to
its last, so that neither tracing nor compilation counts, in processes of their own: one with a CPU
device for each core, one with a single device, which may use all cores; in turn, several times.
About five minutes on two cores.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import tyro

from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import summary
from rnn_jax import cells, tasks
from rnn_jax.training import create_train_state, fit, make_task_train_step, over_ensemble

BEFORE = 10
"""Steps of a run before its clock starts."""


@dataclass(frozen=True)
class Config:
    """Sizes."""

    T: int = 100
    """The task's."""
    H: int = 32
    """Units of the LSTM."""
    B: int = 16
    """Sequences in a batch."""
    seeds: int = 64
    """Networks."""
    steps: int = 60
    """Optimizer steps of each."""
    rounds: int = 3
    """Times that each way is measured."""
    out: Path = Path("runs/benchmark_ensembles")
    """Where rows.json and table.md go."""


def seconds(config: Config, devices: int, together: bool) -> tuple[float, np.ndarray]:
    """Return the seconds of all seeds, and each one's last loss."""
    jax.config.update("jax_num_cpu_devices", devices)
    task = tasks.adding(T=config.T, batch_size=config.B)
    cell = cells.readout(cells.lstm(config.H), task.output_size)
    optimizer = optax.adam(1e-3)
    one = make_task_train_step(cell, task, optimizer, clip_norm=1.0)
    init = lambda key: create_train_state(cell.init(key, task.input_size), optimizer)
    keys = jax.random.split(jax.random.key(0), config.seeds)
    states = jax.jit(jax.vmap(init))(keys)
    step = over_ensemble(one, config.seeds) if together else jax.jit(one)
    began = 0.0

    def clock(n: int, state: Any) -> None:
        nonlocal began
        if n == BEFORE:
            jax.block_until_ready(state)
            began = time.perf_counter()

    def train(state: Any, key: Any) -> tuple[float, np.ndarray]:
        _, metrics = fit(step, state, lambda i: key, config.steps, progress=False, hooks=[clock])
        return time.perf_counter() - began, metrics["loss"][-1]

    if together:
        return train(states, keys)
    runs = [
        train(jax.tree.map(lambda leaf, n=n: leaf[n], states), keys[n]) for n in range(config.seeds)
    ]
    return sum(took for took, _ in runs), np.array([loss for _, loss in runs])


def main(config: Config) -> list[Row]:
    cores = os.cpu_count() or 1
    ways = {
        f"one program, {cores} devices": (cores, True),
        "one program, 1 device": (1, True),
        "one after another, 1 device": (1, False),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    losses = {}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(config.rounds):
            for way, how in ways.items():
                took, losses[way] = pool.apply(seconds, (config, *how))
                times[way].append(took)
    for of_way in losses.values():
        np.testing.assert_allclose(of_way, losses["one after another, 1 device"], rtol=1e-2)
    per = config.seeds * (config.steps - BEFORE)
    alone = np.median(times["one after another, 1 device"])
    rows: list[Row] = [
        {"way": way, **summary(took, "ms a step of one network", per)}
        | {"times as fast": f"{alone / np.median(took):.2f}"}
        for way, took in times.items()
    ]
    save_rows(config.out / "rows.json", rows)
    conclude(config.out, table(rows))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
