"""Draw arms of a reproduction: what they learn over sequences, and at which length they solve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.common.arms import length_of, sequences_to_solve
from rnn_jax.plotting.style import (
    MUTED,
    STYLE,
    arm_color,
    band_of,
    draw_band,
    explain_band,
    fit,
    grid_of_panels,
)

LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX*<>"
WIDTH, HEIGHT, LEAST = 3.1, 2.6, 6.5
"""Of a panel, and the least width of a figure, in inches."""
COLUMNS = 3
"""Panels beside each other."""

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
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(panels))
        for ax, ((panel, length), lines) in zip(axes, panels.items(), strict=True):
            for line, result in lines.items():
                number = names.index(line)
                read = result["step"] * result["batch_size"]
                style = {"ls": LINES[number % len(LINES)], "lw": 1.3, "label": line}
                band = band_of(result["held_out"][metric])
                draw_band(ax, read, band, arm_color(number, len(names)), alpha=0.15, **style)
            chance = float(result["chance_loss"])
            if metric == "loss" and np.isfinite(chance):
                ax.axhline(chance, color=MUTED, lw=1, ls=":", label="without memory")
            for value, ls in zip((across or {}).items(), LINES[:0:-1], strict=False):
                ax.axhline(float(value[1]), color=MUTED, lw=1, ls=ls, label=value[0])
            ax.set(title=f"{panel}, {length}", xlabel="sequences read")
            ax.xaxis.set_major_formatter(_thousands)
            if log:
                ax.set_yscale("log")
            elif metric == "solved":
                ax.set_ylim(-0.03, 1.03)
            _label_left(ax, unit)
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
    with matplotlib.rc_context(STYLE):
        figure, axes = _panels(len(arms))
        for ax, (panel, lines) in zip(axes, arms.items(), strict=True):
            for line, lengths in lines.items():
                number = names.index(line)
                at = [length_of(length) for length in lengths]
                values = np.array([measured(result) for result in lengths.values()])
                color, marker = arm_color(number, len(names)), MARKERS[number % len(MARKERS)]
                style = {"ms": 4.5, "lw": 1.3, "mfc": "white", "ls": LINES[number % len(LINES)]}
                shown = np.where(np.isfinite(values), values, np.nan)
                ax.plot(at, shown, marker, color=color, label=line, **style)
                for length, here, value in zip(lengths, at, values, strict=True):
                    if not np.isfinite(value):
                        result = lengths[length]
                        read = result["step"][-1] * result["batch_size"]
                        ax.plot([here], [read], "x", color=color, ms=6, clip_on=False)
            every = {length_of(length) for lengths in lines.values() for length in lengths}
            ax.set(title=panel, xlabel="T", xticks=sorted(every))
            if limits:
                ax.set_ylim(*limits)
            _label_left(ax, unit)
        if not limits:
            axes[0].plot([], [], "x", color=MUTED, label="not solved by then")
        fit(figure, axes)
    return figure


def _lines(arms: Results) -> list[str]:
    """Return the names of all lines: one has the same colour in every panel."""
    return list(dict.fromkeys(line for lines in arms.values() for line in lines))


def _panels(count: int) -> tuple[Figure, list[Any]]:
    """Return a figure of so many panels, in rows."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    width = max(WIDTH, LEAST / columns)  # room for the legend of many arms
    figure, axes = grid_of_panels(rows, columns, width=width, height=HEIGHT, sharey=False)
    for ax in axes.flat[count:]:
        ax.remove()
    return figure, list(axes.flat[:count])


def _label_left(ax: Any, unit: str) -> None:
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel(unit)


def _thousands(value: float, _: Any) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
