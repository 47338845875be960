"""Time, memory and compile time of an LSTM's gradient against T, for each strategy.

    python -m benchmarks.long_sequences [--out FOLDER]

The loss reads the last state, as in classifying a sequence, so that no strategy has to hold an
output for each step. Float32, one CPU device with both cores. Medians of interleaved rounds; a few
minutes on two cores.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro

from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import compiled, in_rounds, summary
from rnn_jax import Checkpointed, Fused, Scan, cells, unroll

STRATEGIES = {
    "scan": Scan(),
    "fused": Fused(),
    "checkpointed": Checkpointed(),
    "checkpointed, 3 levels": Checkpointed(levels=3),
}


@dataclass(frozen=True)
class Config:
    """Sizes."""

    B: int = 4
    """Examples."""
    I: int = 8
    """Inputs."""
    H: int = 64
    """Hidden units."""
    T: tuple[int, ...] = (128, 512, 2048, 8192, 16384)
    """Steps."""
    rounds: int = 7
    """Timed calls of each."""
    out: Path = Path("runs/benchmark_long_sequences")
    """Where rows.json, table.md and the figure go."""


def gradient_program(strategy: Any, T: int, config: Config):
    """Return the arguments, the compiled program, and seconds to trace and compile it."""
    cell = cells.lstm(config.H)
    params = cell.init(jax.random.key(0), config.I)
    xs = jax.random.normal(jax.random.key(1), (T, config.B, config.I))

    def loss(params, xs):
        return jnp.square(unroll(cell, params, xs, strategy=strategy)[0].h).sum()

    return (params, xs), *compiled(jax.grad(loss), params, xs)


def main(config: Config) -> list[Row]:
    programs, calls = {}, {}
    for T, (name, strategy) in itertools.product(config.T, STRATEGIES.items()):
        arguments, program, compile_s = gradient_program(strategy, T, config)
        programs[T, name] = program, compile_s
        calls[T, name] = functools.partial(program, *arguments)
        jax.block_until_ready(calls[T, name]())
    # Every length in every round, so that a slow phase of the machine is in all of them; short
    # ones several times, so that each is timed for about as long.
    in_a_row = {(T, name): max(1, max(config.T) // (4 * T)) for T, name in programs}
    times = in_rounds(calls, config.rounds, in_a_row, pause=0)
    rows = [
        {
            "strategy": name,
            "T": T,
            **summary(times[T, name].means, "ms"),
            **summary(times[T, name].means, "µs a step", per=T),
            "temporary MiB": program.memory_analysis().temp_size_in_bytes / 2**20,
            "compile s": compile_s,
        }
        for (T, name), (program, compile_s) in programs.items()
    ]
    rows.sort(key=lambda row: [*STRATEGIES].index(row["strategy"]))
    save_rows(config.out / "rows.json", rows)
    conclude(config.out, table(rows), figures={"long_sequences": plot(rows)})
    return rows


def plot(rows: list[Row]):
    """Draw time a step and temporary memory, against T."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    columns = (("µs a step", "time of a gradient, µs per step"), ("temporary MiB", "memory, MiB"))
    for axis, (column, label) in zip(axes, columns, strict=True):
        for name, marker in zip(STRATEGIES, "o*sD", strict=True):
            points = [row for row in rows if row["strategy"] == name]
            T, values = ([row[key] for row in points] for key in ("T", column))
            axis.plot(T, values, marker=marker, label=name)
        axis.set(xscale="log", xlabel="steps T", ylabel=label)
        axis.grid(alpha=0.25)
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale("log")
    figure.suptitle("Gradient of an LSTM's last state: time is linear in T, memory is a choice")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
