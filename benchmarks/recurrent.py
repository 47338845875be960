"""LSTM, GRU and Elman layers, forward and gradient, side by side with every peer that is installed.

    python -m benchmarks.recurrent [--out FOLDER] [--cells lstm] [--shapes 16,784,1,128]

Float32. The gradient is that of Σ y · w with respect to the parameters, w given. JAX libraries run
on one CPU device, which has both cores, and, sharing the batch, on two with one thread each
(`xla_cpu_multi_thread_eigen` off), torch on one thread and on two; the better figure counts, for
every library. Calls are timed a few in a row, as in training, in interleaved rounds in one process;
tables give medians, with the fastest and slowest. The limit is the time of the matrix products
alone, at the rate of a large product in the same run. About an hour and a half on two cores for
everything; peers are installed by `pip install .[bench]`, absent ones are skipped.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.layers import Shape, program_of
from benchmarks.peers import JAX_LIBRARIES, torch_calls
from benchmarks.process_peak import peak_of
from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import in_rounds, large_product, summary
from rnn_jax.errors import choose

GATES = {"lstm": 4, "gru": 3, "elman": 1}


@dataclass(frozen=True)
class Config:
    """The cells, shapes and libraries to time."""

    cells: tuple[str, ...] = ("lstm", "gru", "elman")
    """Cells, of lstm, gru, elman."""
    shapes: tuple[str, ...] = (
        "32,128,64,128",
        "16,784,1,128",
        "64,256,64,256",
        "128,96,256,512",
        "1,1024,32,64",
    )
    """B,T,I,H each; 16,784,1,128 is the sequential image."""
    modes: tuple[str, ...] = ("forward", "gradient")
    """Modes, of forward, gradient."""
    libraries: tuple[str, ...] = (*JAX_LIBRARIES, "torch.nn")
    """Libraries, by the names that the tables give them."""
    rounds: int = 7
    """Rounds of all candidates in turn."""
    calls: int = 4
    """Calls of one candidate in a row."""
    process_peak: bool = True
    """Measure the peak memory of a process of its own for each gradient, too."""
    out: Path = Path("runs/benchmark_recurrent")
    """Where rows.json, table.md and the figures go."""


@dataclass(frozen=True)
class Candidate:
    """One way to compute one thing."""

    library: str
    mode: str
    devices: int
    """For torch, threads."""
    call: Callable[[], Any]
    first_call_s: float
    temporary_mib: float | None


def candidates(cell: str, shape: Shape, config: Config) -> list[Candidate]:
    """Return the candidates that are asked for and installed; name what is not installed."""
    found, modes = [], config.modes
    jax_libraries = [library for library in JAX_LIBRARIES if library in config.libraries]
    device_counts = [n for n in range(1, len(jax.devices()) + 1) if shape[0] % n == 0]
    for library, mode, devices in itertools.product(jax_libraries, modes, device_counts):
        start = time.perf_counter()
        try:
            program, arguments = program_of(library, cell, shape, mode, devices)
        except (ImportError, NotImplementedError) as why:
            print(f"skipped {library}: {why}")
            continue
        call = functools.partial(_run, program, arguments)
        call()
        took = time.perf_counter() - start
        temporary = program.memory_analysis().temp_size_in_bytes * devices / 2**20
        found.append(Candidate(library, mode, devices, call, took, temporary))
    for mode, threads in itertools.product(modes, (1, 2) if "torch.nn" in config.libraries else ()):
        try:
            of_torch = torch_calls(cell, *shape, threads=threads)[mode]
        except ImportError as why:
            print(f"skipped torch.nn: {why}")
            break
        start = time.perf_counter()
        of_torch()
        took = time.perf_counter() - start
        found.append(Candidate("torch.nn", mode, threads, of_torch, took, None))
    return found


def _run(program, arguments):
    return jax.block_until_ready(program(*arguments))


def product_flops(cell: str, shape: Shape, mode: str) -> int:
    """Return the least FLOP of matrix products: no gradient of xs, nothing recomputed."""
    B, T, I, H = shape
    forward = I + H
    return 2 * T * B * GATES[cell] * H * (forward if mode == "forward" else 2 * forward + H)


def measure(cell: str, shape: Shape, config: Config) -> list[Row]:
    """Return one row for each candidate."""
    found = candidates(cell, shape, config)
    product, product_flop = large_product()
    calls = [product, *(candidate.call for candidate in found)]
    times = in_rounds(dict(enumerate(calls)), config.rounds, config.calls)
    seconds_a_flop = statistics.median(times[0].calls) / product_flop
    rows = []
    for i, candidate in enumerate(found, start=1):
        B, T, I, H = shape
        limit = product_flops(cell, shape, candidate.mode) * seconds_a_flop
        row = {
            "cell": cell,
            "B,T,I,H": f"{B},{T},{I},{H}",
            "mode": candidate.mode,
            "library": candidate.library,
            "devices": candidate.devices,
            **summary(times[i].calls),
            "products alone ms": 1e3 * limit,
            "temporary MiB": candidate.temporary_mib,
            "first call s": candidate.first_call_s,
        }
        if config.process_peak and candidate.mode == "gradient" and candidate.devices == 1:
            row["process peak MiB"] = peak_of(candidate.library, cell, *shape)
        rows.append(row)
    return rows


def best(rows: list[Row], mode: str = "gradient") -> dict[tuple[str, str, str], dict]:
    """Return the faster of one and two devices: `(cell, shape, library) -> row`."""
    chosen: dict[tuple[str, str, str], dict] = {}
    for row in rows:
        key = (row["cell"], row["B,T,I,H"], row["library"])
        if row["mode"] == mode and (key not in chosen or row["ms"] < chosen[key]["ms"]):
            chosen[key] = row
    return chosen


def side_by_side(rows: list[Row], mode: str = "gradient") -> list[Row]:
    """Return milliseconds of every library, a line for each cell and shape."""
    found: dict[tuple[str, str], Row] = {}
    for (cell, shape, library), row in best(rows, mode).items():
        line = found.setdefault((cell, shape), {"cell": cell, "B,T,I,H": shape})
        line["products alone"] = row["products alone ms"]
        line[library] = row["ms"]
    return list(found.values())


def memory(rows: list[Row]) -> list[Row]:
    """Return temporary MiB of each gradient program, on one device."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        if row["mode"] == "gradient" and row["devices"] == 1 and row["temporary MiB"] is not None:
            key = (row["cell"], row["B,T,I,H"])
            line = found.setdefault(key, dict(zip(("cell", "B,T,I,H"), key, strict=True)))
            line[row["library"]] = row["temporary MiB"]
    return list(found.values())


def ratios(rows: list[Row], mode: str = "gradient") -> list[Row]:
    """Return the time of rnn_jax over that of each library, at each shape and in geometric mean."""
    chosen = best(rows, mode)
    found = []
    libraries = dict.fromkeys(library for _, _, library in chosen if library != "rnn_jax")
    for cell, library in itertools.product(dict.fromkeys(c for c, _, _ in chosen), libraries):
        at = {
            shape: chosen[cell, shape, "rnn_jax"]["ms"] / row["ms"]
            for (c, shape, name), row in chosen.items()
            if (c, name) == (cell, library)
        }
        if at:
            mean = math.exp(statistics.fmean(map(math.log, at.values())))
            found.append({"cell": cell, "over": library, **at, "geometric mean": mean})
    return found


def plot(rows: list[Row], mode: str = "gradient"):
    """Draw each library's best time at each shape, as multiples of the matrix products alone."""
    import matplotlib.pyplot as plt

    chosen = best(rows, mode)
    cells, shapes, libraries = (list(dict.fromkeys(key[i] for key in chosen)) for i in range(3))
    figure, axes = plt.subplots(
        1, len(cells), figsize=(4.8 * len(cells), 6), sharey=True, squeeze=False
    )
    columns = ("ms", "fastest ms", "slowest ms")
    for axis, cell in zip(axes[0], cells, strict=True):
        for i, library in enumerate(libraries):
            points = [chosen.get((cell, shape, library)) for shape in shapes]
            x = [n + 0.11 * (i - (len(libraries) - 1) / 2) for n, row in enumerate(points) if row]
            times = np.array(
                [[row[k] / row["products alone ms"] for row in points if row] for k in columns]
            ).reshape(3, -1)
            spread = (times[0] - times[1], times[2] - times[0])
            style = {"fmt": "o*sDv^PX"[i], "color": f"C{i}", "ms": 6, "lw": 1}
            axis.errorbar(x, times[0], spread, label=library, **style)
        axis.axhline(1, color="0.4", lw=1, ls="--")
        axis.set_xticks(range(len(shapes)), [_two_lines(shape) for shape in shapes])
        for between in range(len(shapes) - 1):
            axis.axvline(between + 0.5, color="0.85", lw=0.8)
        title = {"elman": "Elman"}.get(cell, cell.upper())
        axis.set(title=title, xlabel="B, T, I, H", yscale="log")
        axis.grid(axis="y", which="both", alpha=0.25)
    axes[0, 0].set_ylabel(f"time of the {mode}, in times of its matrix products alone")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    return figure


def _two_lines(shape: str) -> str:
    B, T, I, H = shape.split(",")
    return f"{B}, {T},\n{I}, {H}"


def main(config: Config) -> list[Row]:
    for library in config.libraries:
        choose("libraries", library, dict.fromkeys((*JAX_LIBRARIES, "torch.nn")))
    rows: list[Row] = []
    for cell, text in itertools.product(config.cells, config.shapes):
        shape: Any = tuple(map(int, text.split(",")))
        latest = measure(cell, shape, config)
        rows += latest
        save_rows(config.out / "rows.json", rows)
        print(table(latest), flush=True)
    tables = [table(rows), table(memory(rows), "Temporary MiB, gradient:", ".1f")]
    for mode in config.modes:
        tables.append(table(side_by_side(rows, mode), f"Median ms, {mode}:", ".1f"))
        tables.append(
            table(ratios(rows, mode), f"Time of rnn_jax over each library's, {mode}:", ".2f")
        )
    conclude(config.out, *tables, figures={mode: plot(rows, mode) for mode in config.modes})
    return rows


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    main(tyro.cli(Config, description=__doc__))
