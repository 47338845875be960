"""A network evaluated at ten lengths: one program for all of them, against one for each.

    python -m benchmarks.lengths [--out FOLDER]

`training.evaluate_lengths` pads to the longest and compiles once; the loop calls
`training.evaluate` at each length. Seconds of the first calls, compilation included, in processes
of their own so that neither finds what the other has compiled; then medians of interleaved rounds.
About a minute on two cores.
"""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import in_rounds, seconds, summary
from rnn_jax import cells, tasks
from rnn_jax.training import evaluate, evaluate_lengths


@dataclass(frozen=True)
class Config:
    """Sizes."""

    task: str = "copying"
    """Task, of `tasks.TASKS`."""
    H: int = 64
    """Hidden units of the GRU."""
    B: int = 32
    """Examples at each length."""
    lengths: tuple[int, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    """Values of the task's T."""
    rounds: int = 7
    """Timed calls of each."""
    out: Path = Path("runs/benchmark_lengths")
    """Where rows.json and table.md go."""


def ways(config: Config) -> dict[str, Any]:
    """Return both ways to evaluate."""
    task = tasks.TASKS[config.task](batch_size=config.B)
    cell = cells.readout(cells.gru(config.H), task.output_size)
    params = jax.jit(cell.init, static_argnums=1)(jax.random.key(0), task.input_size)
    each = [tasks.TASKS[config.task](T=T, batch_size=config.B) for T in config.lengths]
    key = jax.random.key(1)
    return {
        "all lengths in one program": lambda: (
            evaluate_lengths(cell, params, task, config.lengths, key=key).loss
        ),
        "a loop over lengths": lambda: [evaluate(cell, params, one, key=key).loss for one in each],
    }


def first_call(way: str, config: Config) -> Row:
    """Return the seconds of the first call, the compilations of that call, and its losses."""
    call, programs = ways(config)[way], []

    def listen(event: str, duration_secs: float, **names: Any) -> None:
        if "backend_compile" in event:
            programs.append(names)

    jax.monitoring.register_event_duration_secs_listener(listen)
    took = seconds(call)
    return {
        "first call s": took,
        "compilations": len(programs),
        "losses": np.ravel(call()).tolist(),
    }


def main(config: Config) -> list[Row]:
    calls, rows = ways(config), []
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        first = {way: pool.apply(first_call, (way, config)) for way in calls}
    a, b = (np.array(row.pop("losses")) for row in first.values())
    np.testing.assert_allclose(a, b, rtol=1e-4)
    for call in calls.values():
        seconds(call)
    times = in_rounds(calls, config.rounds)
    rows = [{"way": way, **first[way], **summary(times[way].means, "ms")} for way in calls]
    save_rows(config.out / "rows.json", rows)
    conclude(config.out, table(rows))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
