"""Figures of networks that run machines: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.common.numbers import Result
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import BOUND, MEASURED, MUTED, PALETTE, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import WIDTHS, house

LINE_WIDTHS = {1: 0.7, 2: 1.2, 4: 1.8}


def network(example: Result) -> Figure:
    """Draw a network as a graph of its units, and its activations on one word.

    Args:
      example: `units` names `[H]`, `W` `[H, H]`, `U` `[H, I]`, `symbols` `[I]`, `word` `[n]` and
        `activations` `[3 n, H]`.
    """
    units = list(map(str, example["units"]))
    order = sorted(range(len(units)), key=lambda n: (phase_of(units[n]), n))
    with house({"axes.grid": False}):
        height = max(0.19 * len(units), 3.0)  # a line of type for each unit
        figure = ShownFigure(figsize=(WIDTHS["text"], 2 * height + 1.2), layout="constrained")
        graph, raster = figure.subplots(2, 1)
        _graph(graph, units, example)
        _raster(figure, raster, [units[n] for n in order], order, example)
        fit(figure, [graph, raster])
    return figure


def phase_of(unit: str) -> int:
    """Return at which of the three steps a unit has something to say."""
    if unit.startswith("not rule") or unit.endswith("beside rules"):
        return 1
    return 2 if unit.startswith("next") or " by rule" in unit else 0


def _graph(ax: Axes, units: Sequence[str], example: Result) -> None:
    """Draw units in three columns and a fourth that is the first one again, one step apart."""
    columns = [[n for n, unit in enumerate(units) if phase_of(unit) == p] for p in range(3)]
    inputs = [f"x = {symbol}" for symbol in map(str, example["symbols"])]
    tall = max(map(len, columns)) + 0.0
    place = lambda n, count: (n + 0.5) * tall / count
    where = {
        (column, n): place(row, len(columns[column % 3]))
        for column in range(4)
        for row, n in enumerate(columns[column % 3])
    }
    for column in range(3):
        for source in columns[column]:
            for target in columns[(column + 1) % 3]:
                weight = float(example["W"][target, source])
                if weight:
                    ys = (where[column, source], where[column + 1, target])
                    _edge(ax, (column, column + 1), ys, weight)
    for row, _ in enumerate(inputs):
        y = tall + 0.5 + 0.75 * row
        for target in columns[1]:
            if weight := float(example["U"][target, row]):
                _edge(ax, (0.42, 1), (y, where[1, target]), weight)
        ax.text(0.38, y, inputs[row], ha="right", va="center", fontsize="small")
    for (column, n), y in where.items():
        ax.plot(column, y, "o", ms=4, color="black", zorder=3)
        side = {0: (-0.06, "right"), 3: (0.06, "left")}.get(column)
        if side is not None:
            ax.text(column + side[0], y, units[n], ha=side[1], va="center", fontsize="small")
        else:
            ax.text(
                column, y - 0.2, units[n], ha="center", va="bottom", fontsize="small", zorder=4,
                bbox={"facecolor": "white", "alpha": 0.75, "pad": 0.5, "lw": 0},
            )  # fmt: skip
    for weight in (1, -1):
        ax.plot([], [], **_look(weight), label=f"weight {'>' if weight > 0 else '<'} 0")
    ax.set(xlim=(-0.75, 3.75), ylim=(tall + 0.75 * len(inputs) + 0.6, -0.8))
    ax.set_title("three steps of the network are one of the machine")
    ax.set_xticks(range(4), ["t", "t + 1", "t + 2", "t + 3"])
    ax.set(xlabel="step of the network", ylabel="units")
    ax.set_yticks([])
    ax.spines[["left", "bottom"]].set_visible(False)


def _edge(ax: Axes, xs: Sequence[float], ys: Sequence[float], weight: float) -> None:
    width = min(LINE_WIDTHS.items(), key=lambda pair: abs(pair[0] - abs(weight)))[1]
    ax.plot(xs, ys, lw=width, alpha=0.6, zorder=1, **_look(weight))


def _look(weight: float) -> dict[str, Any]:
    """Return colour and line of a weight, by its sign."""
    return {"color": MEASURED, "ls": "-"} if weight > 0 else {"color": BOUND, "ls": "--"}


def _raster(
    figure: Figure, ax: Axes, names: Sequence[str], order: Sequence[int], example: Result
) -> None:
    """Draw the activation of each unit at each step."""
    values = example["activations"][:, order].T
    steps = values.shape[1]
    extent = (0.5, steps + 0.5, len(names), 0)
    image = ax.imshow(values, aspect="auto", cmap="cividis_r", vmin=0, vmax=1, extent=extent)
    ax.set_yticks(np.arange(len(names)) + 0.5, names)
    ax.set_xticks(np.arange(len(example["word"])) * 3 + 1, map(str, example["word"]))
    ax.set(xlabel="symbol read at this step", ylabel="units", title="activations")
    ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=ax, label="activation", aspect=30)


def precision(machines: Result, dtypes: Sequence[str]) -> Figure:
    """Draw the depth of the deeper stack along each machine's deepest word, and where dtypes fail.

    Args:
      machines: by name `depth` `[words, steps]` and `first_wrong` `[dtypes, words]`.
      dtypes: names of the dtypes.
    """
    with house():
        figure, grid = grid_of_panels(2, 2, height=2.1)
        axes = grid.ravel()
        for ax, (name, machine) in zip(axes, machines.items(), strict=True):
            word = int(machine["depth"].max(1).argmax())
            depth = machine["depth"][word]
            depth = depth[depth >= 0]
            steps = np.arange(1, len(depth) + 1)
            ax.plot(steps, depth, color=MUTED, lw=1)
            for d, dtype in enumerate(dtypes):
                first = int(machine["first_wrong"][d, word])
                if first >= 0:
                    look = {"color": PALETTE[d], "ms": 6, "mec": "white", "mew": 0.6, "zorder": 3}
                    label = f"{dtype}: first wrong step"
                    ax.plot(steps[first], depth[first], arm_marker(d), label=label, **look)
            ax.yaxis.set_major_locator(MaxNLocator(integer=True))
            ax.set_title(name if len(depth) < 1000 else f"{name}, its first {len(depth):,} steps")
            ax.set(xlabel="step of the machine", ylabel="depth of the deeper stack  (bits)")
        fit(figure, axes)
    return figure
