"""What `fit` costs over the bare jitted step, with and without recorders and checkpoints.

    python -m benchmarks.fit [--out FOLDER]

An LSTM learns the adding problem, in sizes whose steps take about 0.5, 5 and 50 ms on two cores. A
plain Python loop over the jitted step is timed against `fit`: alone; with metrics to disk; with
TensorBoard as well; and with all of it, an evaluation every 100 steps and checkpoints. Seconds a
step, from the hundredth step of a run to its last, so that no compilation counts; medians of
interleaved rounds. About ten minutes.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import optax
import tyro

from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import summary
from rnn_jax import cells, tasks
from rnn_jax.training import (
    HeldOut,
    create_train_state,
    evaluate,
    fit,
    make_task_train_step,
    to_disk,
    to_tensorboard,
)

BEFORE = 100
"""Steps of a run before its clock starts."""
SIZES = {
    "0.5 ms": {"T": 24, "B": 4, "H": 16, "steps": 2000},
    "5 ms": {"T": 50, "B": 32, "H": 56, "steps": 500},
    "50 ms": {"T": 100, "B": 64, "H": 128, "steps": 200},
}


@dataclass(frozen=True)
class Config:
    """Rounds."""

    rounds: int = 5
    """Runs of each way at each size."""
    out: Path = Path("runs/benchmark_fit")
    """Where rows.json and table.md go."""


class Clock:
    """Hook of `fit` that remembers when step `BEFORE` was taken."""

    def __call__(self, step: int, state: Any) -> None:
        if step == BEFORE:
            jax.block_until_ready(state)
            self.began = time.perf_counter()

    def seconds_a_step(self, steps: int) -> float:
        """Return the mean since then, of a run of `steps` that has just ended."""
        return (time.perf_counter() - self.began) / (steps - BEFORE)


def ways(size: dict[str, int], folder: Path) -> dict[str, Callable[[], float]]:
    """Return runs by name, each of which returns its seconds a step."""
    steps, key = size["steps"], jax.random.key(1)
    task = tasks.adding(T=size["T"], batch_size=size["B"])
    cell = cells.readout(cells.lstm(size["H"]), task.output_size)
    optimizer = optax.adam(1e-3)
    step = jax.jit(make_task_train_step(cell, task, optimizer, clip_norm=1.0))
    start = create_train_state(cell.init(jax.random.key(0), task.input_size), optimizer)
    evaluation = jax.jit(lambda state: evaluate(cell, state.params, task, key=key))

    def bare() -> float:
        clock, state, metrics = Clock(), start, []
        for i in range(1, steps + 1):
            state, latest = step(state, key)
            metrics.append(latest)
            clock(i, state)
        jax.block_until_ready((state, metrics))
        return clock.seconds_a_step(steps)

    def by_fit(**how: Any) -> float:
        clock = Clock()
        fit(step, start, lambda i: key, steps, progress=False, hooks=[clock], **how)
        return clock.seconds_a_step(steps)

    def recorders(*names: str) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        made = {
            "disk": lambda: to_disk(folder / "disk", steps),
            "tensorboard": lambda: to_tensorboard(folder / "tensorboard", every=10),
        }
        return {"recorders": [made[name]() for name in names]}

    def everything() -> float:
        kept = recorders("disk", "tensorboard")
        held_out = HeldOut(evaluation)
        return by_fit(held_out=held_out, checkpoint_dir=folder / "checkpoints", **kept)

    return {
        "bare loop": bare,
        "fit": by_fit,
        "fit, to_disk": lambda: by_fit(**recorders("disk")),
        "fit, to_disk, to_tensorboard": lambda: by_fit(**recorders("disk", "tensorboard")),
        "fit, all, evaluation and checkpoints": everything,
    }


def main(config: Config) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            calls = ways(size, Path(folder))
            times: dict[str, list[float]] = {way: [] for way in calls}
            for _ in range(config.rounds):
                for way, call in calls.items():
                    times[way].append(call())
            for way, seconds in times.items():
                over = [s / b - 1 for s, b in zip(seconds, times["bare loop"], strict=True)]
                sizes = f"T = {size['T']}, B = {size['B']}, H = {size['H']}"
                median = sorted(over)[len(over) // 2]
                rows.append(
                    {"step": f"{name}: {sizes}", "way": way, **summary(seconds, "ms")}
                    | {"over the bare loop": f"{median:+.1%}"}
                )
    save_rows(config.out / "rows.json", rows)
    conclude(config.out, table(rows))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
