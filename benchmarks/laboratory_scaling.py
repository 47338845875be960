"""How time and memory of the laboratory's tools grow with T, S and the number of networks.

    python -m benchmarks.laboratory_scaling [--axes T] [--out FOLDER]

Elman networks with a readout, one example each, float32; jitted, ensembles by vmap. Memory is what
the compiled program asks for: temporary and output. A call that is predicted, from the sizes
before, to take longer or more memory than the limits is left out, and named. Growth exponents are
least-squares slopes through the three largest sizes. Each axis has a file of its own, and the
figure shows all that the folder has. Under ten minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from benchmarks.plots import growth, growth_exponent
from benchmarks.report import Row, conclude, read_rows, save_rows, table
from benchmarks.timing import compiled, in_rounds, seconds, summary
from rnn_jax import cells, gradients
from rnn_jax.losses import squared_error

QUANTITIES = {"s": "time, s", "MiB": "memory, MiB"}


class Sizes(NamedTuple):
    """Steps, state size, networks."""

    T: int
    S: int
    N: int


@dataclass(frozen=True)
class Config:
    """Sizes and limits."""

    axes: tuple[str, ...] = ("T", "S", "N")
    """Axes to measure along, of T, S, N."""
    T: tuple[int, ...] = (64, 256, 1024, 4096, 10_000)
    """Steps, at S = 32 and one network."""
    S: tuple[int, ...] = (16, 64, 256, 1024, 2048)
    """State sizes, at T = 64 and one network."""
    N: tuple[int, ...] = (1, 4, 16, 64)
    """Networks, at T = 128 and S = 32."""
    I: int = 4
    """Inputs, and outputs."""
    K: int = 16
    """Lyapunov exponents."""
    L: int = 32
    """The largest lag of the windows."""
    lags: tuple[int, ...] = (1, 8, 32)
    """Those of the norms by lag."""
    seconds: float = 12.0
    """The longest call."""
    mib: float = 3000.0
    """The most memory of a call."""
    out: Path = Path("runs/benchmark_laboratory_scaling")
    """Where T.json, S.json and N.json, table.md and the figure go."""


AT = {"T": Sizes(0, 32, 1), "S": Sizes(64, 0, 1), "N": Sizes(128, 32, 0)}


def tools(config: Config) -> dict[str, Callable[..., Any]]:
    """Return `(cell, params, xs, targets) -> arrays` of each tool; the cell has a readout."""
    L, K, lags = config.L, config.K, ", ".join(map(str, config.lags))

    def log_norms(cell, params, xs, _):
        return gradients.jacobian_log_norms(cell, params, xs)

    def by_lag(cell, params, xs, _):
        return gradients.jacobian_log_norms_by_lag(cell, params, xs, lags=config.lags)

    def at_the_end(cell, params, xs, _):
        times = (len(xs),)
        return gradients.jacobian_log_norms_by_lag(cell, params, xs, lags=config.lags, times=times)

    def lyapunov(cell, params, xs, _):
        return gradients.lyapunov_spectrum(cell, params, xs, num_exponents=K, interval=8)

    def decompose(cell, params, xs, targets):
        return gradients.decompose(cell, params, xs, targets, squared_error)

    def windows(cell, params, xs, targets):
        return gradients.decompose_windows(
            cell, params, xs, targets, squared_error, max_lag=L, mean_over=("steps",)
        )

    return {
        "jacobian_log_norms, all (t, k)": log_norms,
        f"jacobian_log_norms_by_lag, lags {lags}, all t": by_lag,
        f"jacobian_log_norms_by_lag, lags {lags}, t = T, matrix-free": at_the_end,
        "decompose, all (t, k)": decompose,
        f"decompose_windows, lags to {L}, mean over t": windows,
        f"lyapunov_spectrum, {K} exponents": lyapunov,
    }


def program(tool: Callable[..., Any], at: Sizes, config: Config):
    """Return the arguments, the compiled program, and seconds to trace and compile it."""
    cell = cells.readout(cells.elman(at.S), config.I)
    keys = jax.random.split(jax.random.key(0), at.N)
    params = jax.jit(jax.vmap(lambda key: cell.init(key, config.I)))(keys)
    xs, targets = jax.random.normal(jax.random.key(1), (2, at.T, config.I))
    one = functools.partial(tool, cell)
    function = (
        jax.vmap(one, (0, None, None))
        if at.N > 1
        else lambda p, x, y: one(jax.tree.map(lambda leaf: leaf[0], p), x, y)
    )
    arguments = (params, xs, targets)
    return arguments, *compiled(function, *arguments)


def predicted(rows: list[dict[str, Any]], axis: str, size: int, quantity: str) -> float:
    """Predict a quantity by its growth over the last two sizes, at least linear; 0 with fewer."""
    if len(rows) < 2:
        return 0.0
    before, last = rows[-2:]
    p = growth_exponent(*np.array([(row[axis], row[quantity]) for row in (before, last)]).T)
    return last[quantity] * (size / last[axis]) ** max(p, 1)


def series(name: str, tool: Callable[..., Any], axis: str, config: Config):
    """Return rows, and what was left out, along one axis."""
    rows: list[dict[str, Any]] = []
    sizes = getattr(config, axis)
    limits = {"s": config.seconds, "MiB": config.mib}
    for i, size in enumerate(sizes):
        at = AT[axis]._replace(**{axis: size})
        needs = {quantity: predicted(rows, axis, size, quantity) for quantity in limits}
        compiled_tool = None
        if all(needs[quantity] <= limit for quantity, limit in limits.items()):
            arguments, compiled_tool, compile_s = program(tool, at, config)
            memory = compiled_tool.memory_analysis()
            needs["MiB"] = (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20
        over = [quantity for quantity, limit in limits.items() if needs[quantity] > limit]
        if over or compiled_tool is None:
            needed = [needs[over[0]], *(predicted(rows, axis, n, over[0]) for n in sizes[i + 1 :])]
            return rows, [
                {"tool": name, axis: n, "why": f"about {need:.3g} {over[0]}"}
                for n, need in zip(sizes[i:], needed, strict=True)
            ]
        call = functools.partial(compiled_tool, *arguments)
        times = [seconds(call)]
        if times[0] < config.seconds / 5:
            times = in_rounds({name: call}, 5 if times[0] < 0.5 else 3, pause=0)[name].calls
        rows.append(
            {
                "tool": name,
                **at._asdict(),
                **summary(times, "s"),
                "MiB": needs["MiB"],
                "temporary MiB": memory.temp_size_in_bytes / 2**20,
                "compile s": compile_s,
            }
        )
        print(f"{axis}={size} {name}: {rows[-1]['s']:.4g} s, {needs['MiB']:.4g} MiB", flush=True)
    return rows, []


def measure(axis: str, config: Config) -> None:
    """Measure every tool along one axis; rows and what is left out go to its file as they come."""
    rows: list[Row] = []
    left_out: list[Row] = []
    for name, tool in tools(config).items():
        for found, more in zip((rows, left_out), series(name, tool, axis, config), strict=True):
            found += more
        save_rows(config.out / f"{axis}.json", rows, axis=axis, left_out=left_out)


def lines(measured: dict[str, Any], quantity: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return sizes and values of each tool."""
    axis, rows = measured["axis"], measured["rows"]
    names = dict.fromkeys(row["tool"] for row in rows)
    pairs = {n: [(row[axis], row[quantity]) for row in rows if row["tool"] == n] for n in names}
    sizes_and_values = {name: np.array(points, float).T for name, points in pairs.items()}
    return {name: (sizes, values) for name, (sizes, values) in sizes_and_values.items()}


def exponents(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how each tool's time and memory grow along one axis."""
    by_quantity = {quantity: lines(measured, quantity) for quantity in QUANTITIES}
    return [
        {
            "tool": name,
            "axis": measured["axis"],
            "largest": int(by_quantity["s"][name][0][-1]),
            **{f"{q} ~": growth_exponent(*by_quantity[q][name]) for q in QUANTITIES},
        }
        for name in by_quantity["s"]
    ]


def column_title(axis: str) -> str:
    """Return what is varied, and what is held."""
    name = {"T": "steps T", "S": "state size S", "N": "networks N"}[axis]
    held = [f"{k} = {v}" for k, v in AT[axis]._asdict().items() if k != axis]
    return f"{name}  ({', '.join(held)})"


def plot(measured: list[dict[str, Any]]):
    """Draw time and memory, a column for each axis."""
    titles = {column_title(part["axis"]): part for part in measured}
    columns = {
        title: {label: lines(part, quantity) for quantity, label in QUANTITIES.items()}
        for title, part in titles.items()
    }
    letters = {title: part["axis"] for title, part in titles.items()}
    title = "The laboratory's tools, Elman networks: how time and memory grow"
    return growth(columns, title=title, letters=letters)


def main(config: Config) -> list[dict[str, Any]]:
    for axis in config.axes:
        measure(axis, config)
    files = [config.out / f"{axis}.json" for axis in AT]
    measured = [read_rows(file) for file in files if file.exists()]
    rows, left_out = ([row for part in measured for row in part[k]] for k in ("rows", "left_out"))
    grow = [row for part in measured for row in exponents(part)]
    tables = [table(rows, floats=".3g"), table(grow, floats=".3g")]
    if left_out:
        tables.append(table(left_out, "Left out:", floats=".3g"))
    conclude(config.out, *tables, figures={"laboratory_scaling": plot(measured)})
    return measured


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
