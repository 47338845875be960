"""Time, memory and compile time of an LSTM's gradient against T, for each strategy.

    python -m benchmarks.long_sequences [--out FOLDER]

The loss reads the last state, as in classifying a sequence, so that no strategy has to hold an
output for each step. Float32, one CPU device with both cores. Medians of interleaved rounds; a few
minutes on two cores.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from tabulate import tabulate

from benchmarks.timing import compiled
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
    """(arguments, the compiled program, seconds to trace and compile it)."""
    cell = cells.lstm(config.H)
    params = cell.init(jax.random.key(0), config.I)
    xs = jax.random.normal(jax.random.key(1), (T, config.B, config.I))

    def loss(params, xs):
        return jnp.square(unroll(cell, params, xs, strategy=strategy)[0].h).sum()

    return (params, xs), *compiled(jax.grad(loss), params, xs)


def main(config: Config) -> list[dict[str, Any]]:
    measured: dict[tuple[int, str], Any] = {}
    for T, (name, strategy) in itertools.product(config.T, STRATEGIES.items()):
        arguments, program, compile_s = gradient_program(strategy, T, config)
        jax.block_until_ready(program(*arguments))
        measured[T, name] = (program, arguments, compile_s, [])
    # Every length in every round, so that a slow phase of the machine is in all of them; short
    # ones several times, so that each is timed for about as long.
    for _ in range(config.rounds):
        for (T, _), (program, arguments, _, times) in measured.items():
            calls = max(1, max(config.T) // (4 * T))
            start = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(program(*arguments))
            times.append((time.perf_counter() - start) / calls)
    rows: list[dict[str, Any]] = [
        {
            "strategy": name,
            "T": T,
            "ms": 1e3 * statistics.median(times),
            "fastest ms": 1e3 * min(times),
            "us a step": 1e6 * statistics.median(times) / T,
            "fastest us a step": 1e6 * min(times) / T,
            "temporary MiB": program.memory_analysis().temp_size_in_bytes / 2**20,
            "compile s": compile_s,
        }
        for (T, name), (program, _, compile_s, times) in measured.items()
    ]
    rows.sort(key=lambda row: [*STRATEGIES].index(row["strategy"]))
    table = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g")
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "rows.json").write_text(json.dumps(rows, indent=1))
    (config.out / "table.md").write_text(table + "\n")
    figure = plot(rows)
    for suffix in ("png", "svg"):
        figure.savefig(config.out / f"long_sequences.{suffix}", dpi=150)
    print(table)
    return rows


def plot(rows: list[dict[str, Any]]):
    """Time a step and temporary memory, against T."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    columns = (("us a step", "time of a gradient, µs per step"), ("temporary MiB", "memory, MiB"))
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
