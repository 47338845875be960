"""Draw arms of a reproduction: what they learn over sequences, and at which length they solve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.common.arms import length_of, sequences_to_solve
from rnn_jax.plotting._bands import band_of, draw_band, explain_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import LINES, MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

HEIGHT, TEXT_WIDTH = 2.0, 6.75
"""Of a panel, and of the figure, in inches."""
MARKED = 5
"""Markers on a curve of many points."""

Results = Mapping[str, Any]
"""What `arms.measure` returns: by panel, arm and length."""


def learning(
    arms: Results,
    *,
    metric: str = "loss",
    unit: str = "held-out loss",
    log: bool = True,
    across: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw a metric of the held-out sequences over the sequences read, a panel for each length.

    Args:
      arms: results.
      metric: of the held-out sequences; of the loss, chance is drawn too.
      unit: label of the axis.
      log: whether its axis is logarithmic.
      across: numbers to compare with, drawn across by their names.
    """
    panels = {
        (panel, length): {
            line: lengths[length] for line, lengths in lines.items() if length in lengths
        }
        for panel, lines in arms.items()
        for length in dict.fromkeys(name for lengths in lines.values() for name in lengths)
    }
    names = _lines(arms)
    with house():
        figure, axes = _panels(len(panels))
        for ax, ((panel, length), lines) in zip(axes, panels.items(), strict=True):
            for line, result in lines.items():
                number = names.index(line)
                read = result["step"] * result["batch_size"]
                band = band_of(result["held_out"][metric])
                style = {"ls": arm_line(number), "lw": 1.1, "label": line}
                style |= _marker(number, len(names), len(read))
                draw_band(ax, read, band, arm_color(number, len(names)), alpha=0.15, **style)
            chance = float(result["chance_loss"])
            if metric == "loss" and np.isfinite(chance):
                ax.axhline(chance, color=MUTED, lw=1, ls=":", label="without memory")
            for value, ls in zip((across or {}).items(), LINES[:0:-1], strict=False):
                ax.axhline(float(value[1]), color=MUTED, lw=1, ls=ls, label=value[0])
            ax.set(title=f"{panel}, {length}", xlabel="sequences read", ylabel=unit)
            ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
            ax.xaxis.set_major_formatter(_thousands)
            if log:
                ax.set_yscale("log")
            elif metric == "solved":
                ax.set_ylim(-0.03, 1.03)
        explain_band(axes[0])
        fit(figure, axes)
    return figure


def success(arms: Results, part: float) -> Figure:
    """Draw the part of the networks that solve a task against its length.

    Args:
      arms: results.
      part: of the held-out sequences, which counts as solved.
    """
    measured = lambda result: np.isfinite(sequences_to_solve(result, part)).mean()
    return _by_length(arms, measured, "part of the seeds that solve it", (-0.05, 1.05))


def needed(arms: Results, part: float) -> Figure:
    """Draw the sequences that a network has to read against the length of a task.

    Medians over seeds; where the median network did not solve it, a cross at what it has read.
    Arguments as for `success`.
    """
    measured = lambda result: np.percentile(sequences_to_solve(result, part), 50, method="nearest")
    figure = _by_length(arms, measured, "sequences needed, median", None)
    for ax in figure.axes:
        ax.set_yscale("log")
    return figure


def _by_length(arms: Results, measured: Any, unit: str, limits: Any) -> Figure:
    """Draw one number for each arm and length."""
    names = _lines(arms)
    with house():
        figure, axes = _panels(len(arms))
        for ax, (panel, lines) in zip(axes, arms.items(), strict=True):
            for line, lengths in lines.items():
                number = names.index(line)
                at = [length_of(length) for length in lengths]
                values = np.array([measured(result) for result in lengths.values()])
                color, marker = arm_color(number, len(names)), arm_marker(number)
                style = {"lw": 1.1, "mfc": "white", "ls": arm_line(number)}
                shown = np.where(np.isfinite(values), values, np.nan)
                ax.plot(at, shown, marker=marker, color=color, label=line, **style)
                for length, here, value in zip(lengths, at, values, strict=True):
                    if not np.isfinite(value):
                        result = lengths[length]
                        read = result["step"][-1] * result["batch_size"]
                        ax.plot([here], [read], "x", color=color, ms=6, clip_on=False)
            every = {length_of(length) for lengths in lines.values() for length in lengths}
            ax.set(title=panel, xlabel="length  T  (steps)", ylabel=unit)
            lengths_on(ax.xaxis, every)
            if limits:
                ax.set_ylim(*limits)
        if not limits:
            axes[0].plot([], [], "x", color=MUTED, label="not solved by then")
        fit(figure, axes)
    return figure


def _lines(arms: Results) -> list[str]:
    """Return the names of all lines: one has the same colour in every panel."""
    return list(dict.fromkeys(line for lines in arms.values() for line in lines))


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """Return a figure of so many panels, in rows."""
    figure, axes = grid_of_panels(1, count, height=HEIGHT, width=TEXT_WIDTH)
    return figure, list(axes.flat)


def _marker(number: int, count: int, points: int) -> dict[str, Any]:
    """Return some markers for a curve of so many points, each arm's at places of its own."""
    every = max(1, points // MARKED)
    first = number * every // max(count, 1)
    return {"marker": arm_marker(number), "ms": 3.5, "mfc": "white", "markevery": (first, every)}


def lengths_on(axis: Any, lengths: Iterable[float]) -> None:
    """Label an axis at the lengths that were measured, those left out that would touch another."""
    every, shown = sorted(lengths), list[float]()
    least = (every[-1] - every[0]) / 7
    for length in every:
        if not shown or length - shown[-1] >= least:
            shown.append(length)
    axis.set_ticks(shown, [f"{length:g}" for length in shown])


def _thousands(value: float, _: Any) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
