"""What telemetry and Pascanu's Ω cost: a training step with and without.

    python -m benchmarks.telemetry [--out FOLDER]

Float32; Elman and LSTM with a readout, squared error at each step, clipping and Adam. Plain and
monitored steps are timed in turn, ten or more in a row, in one process; the table has medians of
their means, and of the ratios within a round. So are whole loops of `fit`, which read and record
the metrics besides; their times are those of a step. Gradients of E + Ω are held against the
gradient of E in the same way. About six minutes on two cores.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
import tyro

import rnn_jax
from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import in_rounds, ratio, seconds, summary
from rnn_jax import cells, training
from rnn_jax.gradients import omega
from rnn_jax.losses import per_step, squared_error
from rnn_jax.training import (
    Telemetry,
    create_monitored_train_state,
    create_train_state,
    make_monitored_train_step,
    make_train_step,
)

STEPS_IN_A_ROW = 10
"""Calls of which the mean counts, at least: one of ten steps measures."""
SECONDS_IN_A_ROW = 0.2
"""Seconds that they take, at least: the first calls after a pause are slower."""
MIN_ROUNDS = 3


@dataclass(frozen=True)
class Config:
    """The cells and shapes to time."""

    cells: tuple[str, ...] = ("elman", "lstm")
    """Names of `cells.CELLS`."""
    shapes: tuple[str, ...] = ("32,128,64,128", "16,64,32,64", "64,256,64,256")
    """B,T,I,H each."""
    every: tuple[int, ...] = (1, 10)
    """Steps from one measurement of the gradient to the next."""
    rounds: int = 200
    """Rounds of a group, at most."""
    seconds: float = 12.0
    """After which no further round of a group is begun, but for the first three."""
    loop_seconds: float = 0.6
    """Seconds that a loop of `fit` takes, about: 10 to 1,000 steps."""
    out: Path = Path("runs/benchmark_telemetry")
    """Where rows.json and table.md go."""


class Timed(NamedTuple):
    """Something to call, and how many steps one call takes."""

    call: Callable[[], Any]
    steps: int = 1


def programs(name: str, shape: str, config: Config) -> list[dict[str, Timed]]:
    """Return what is timed, in groups; the first of a group is what the others are held against."""
    B, T, I, H = map(int, shape.split(","))
    cell = cells.readout(cells.CELLS[name](H), I)
    params = cell.init(jax.random.key(0), I)
    batch = tuple(jax.random.normal(jax.random.key(1), (2, T, B, I)))
    optimizer = optax.adam(1e-3)

    def loss(params, batch, unroll=rnn_jax.unroll):
        xs, targets = batch
        return per_step(squared_error, unroll(cell, params, xs)[1], targets).mean()

    def with_omega(derivative):
        def regularized(params, batch):
            xs, targets = batch
            E = lambda ys: per_step(squared_error, ys, targets).sum(0)
            return loss(params, batch) + omega(cell, params, xs, E, derivative=derivative)

        return jax.jit(jax.value_and_grad(regularized))

    plain = (
        jax.jit(make_train_step(loss, optimizer, clip_norm=1.0)),
        create_train_state(params, optimizer),
    )
    monitored = {}
    for every in config.every:
        telemetry = Telemetry(cell, every=every)
        step = jax.jit(make_monitored_train_step(loss, optimizer, telemetry, clip_norm=1.0))
        monitored[every] = step, create_monitored_train_state(params, optimizer, telemetry)

    step = _repeated(*plain, batch)
    seconds(step)
    steps = max(10, min(1000, round(config.loop_seconds / seconds(step))))
    loop = lambda step, state, *recorders: Timed(
        lambda: _loop(step, state, batch, steps, recorders), steps
    )
    to_disk = lambda folder: training.to_disk(folder, steps)
    to_tensorboard = lambda folder: training.to_tensorboard(folder, every=10)
    first = monitored[config.every[0]]
    gradient, immediate, full = (
        jax.jit(jax.value_and_grad(loss)),
        with_omega("immediate"),
        with_omega("full"),
    )
    labels = {every: f"telemetry, every {every}" for every in config.every}
    recorded = f"fit, {labels[config.every[0]]}"
    return [
        {"plain step": Timed(step)}
        | {labels[every]: Timed(_repeated(*at, batch)) for every, at in monitored.items()},
        {"fit, plain step": loop(*plain)}
        | {f"fit, {labels[every]}": loop(*at) for every, at in monitored.items()}
        | {
            f"{recorded}, to disk": loop(*first, to_disk),
            f"{recorded}, every 10th to TensorBoard": loop(*first, to_tensorboard),
        },
        {
            "gradient of E": Timed(lambda: gradient(params, batch)),
            "of E + Ω, immediate": Timed(lambda: immediate(params, batch)),
            "of E + Ω, full": Timed(lambda: full(params, batch)),
        },
    ]


def _repeated(step, state, batch):
    """Return a call that goes on from its last, so that every tenth measures."""
    now = [state]

    def call():
        now[0], metrics = step(now[0], batch)
        return now[0], metrics

    return call


def _loop(step, state, batch, steps, recorders):
    """Run `fit` from the beginning, with recorders into a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        made = [make(Path(folder) / str(i)) for i, make in enumerate(recorders)]
        return training.fit(step, state, lambda step: batch, steps, progress=False, recorders=made)


def measure(name: str, shape: str, config: Config) -> list[Row]:
    rows = []
    for group in programs(name, shape, config):
        calls = {label: timed.call for label, timed in group.items()}
        first_calls = in_rounds(calls, 1, 2)
        shortest = min(min(times.calls) for times in first_calls.values())
        min_steps = min(timed.steps for timed in group.values())
        in_a_row = math.ceil(max(STEPS_IN_A_ROW / min_steps, SECONDS_IN_A_ROW / shortest))
        measured = in_rounds(
            calls, config.rounds, in_a_row, limit=config.seconds, min_rounds=MIN_ROUNDS
        )
        times = {
            label: [mean / timed.steps for mean in measured[label].means]
            for label, timed in group.items()
        }
        first = next(iter(times.values()))
        for label, means in times.items():
            rows.append(
                {
                    "cell": name,
                    "B,T,I,H": shape,
                    "what": label,
                    **summary(means),
                    "ratio": ratio(means, first),
                    "ratio of fastest": min(means) / min(first),
                }
            )
            print(f"{name} {shape} {label}: {rows[-1]['ms']:.2f} ms, {rows[-1]['ratio']:.3f}")
    return rows


def main(config: Config) -> list[Row]:
    rows = [
        row
        for shape in config.shapes
        for name in config.cells
        for row in measure(name, shape, config)
    ]
    save_rows(config.out / "rows.json", rows)
    conclude(config.out, table(rows))
    return rows


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
