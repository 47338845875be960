"""One figure of all runs of a sweep: curves over steps, or values by what varies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting._bands import band_of, draw_band, explain_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import MEASURED, MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import WIDTHS, house

PREFERRED = "held_out_loss"
"""The metric whose curves are drawn, where there are several."""
MOST_PANELS = 12

Key = tuple[str, ...]


def figure_of(columns: Mapping[str, Sequence[Any]], varied: Sequence[str]) -> Figure:
    """Return the figure of a table: curves of one metric if some have steps, else dots of all.

    Of two settings or more the first has a panel for each of its values, and the others an arm for
    each combination. Curves are medians over seeds, with a band from the 10th to the 90th
    percentile; a run that has ended keeps its last value.

    Args:
      columns: the table, with a row for each run, metric and step.
      varied: names of the settings that differ.
    """
    settings = [name for name in varied if name != "seed"]
    keys = [
        tuple(f"{name} = {columns[name][n]}" for name in settings)
        for n in range(len(columns["run"]))
    ]
    steps = np.array(columns["step"], float)
    with_steps = list(dict.fromkeys(np.array(columns["metric"])[np.isfinite(steps)]))
    with house():
        if with_steps:
            metric = PREFERRED if PREFERRED in with_steps else str(with_steps[0])
            return _curves(columns, keys, metric)
        return _dots(columns, keys)


def said(metric: str) -> str:
    """Return the name of a metric as a figure says it."""
    return metric.replace("held_out", "held-out").replace("_", " ")


def _curves(columns: Mapping[str, Sequence[Any]], keys: Sequence[Key], metric: str) -> Figure:
    """Draw one metric of all runs over the steps of training."""
    runs: dict[Key, dict[str, dict[float, float]]] = {}
    for n, key in enumerate(keys):
        if columns["metric"][n] == metric and math.isfinite(columns["step"][n]):
            curve = runs.setdefault(key, {}).setdefault(columns["run"][n], {})
            curve[columns["step"][n]] = columns["value"][n]
    split = len(keys[0]) > 1
    titles = list(dict.fromkeys(key[0] if split else "" for key in runs))
    arms = list(dict.fromkeys(", ".join(key[1:] if split else key) for key in runs))
    figure, axes = grid_of_panels(1, len(titles), height=2.0, sharey="all")
    for key, of_key in runs.items():
        ax = axes[0, titles.index(key[0] if split else "")]
        arm = ", ".join(key[1:] if split else key)
        at = sorted({step for curve in of_key.values() for step in curve})
        values = np.array([_filled(curve, at) for curve in of_key.values()])
        number = arms.index(arm)
        look = {"ls": arm_line(number), "marker": arm_marker(number), "ms": 3.5, "mfc": "white"}
        look["markevery"] = max(1, len(at) // 6)
        color = arm_color(number, len(arms))
        draw_band(ax, at, band_of(values.T), color, arm or said(metric), **look)
    every = np.array([v for of in runs.values() for curve in of.values() for v in curve.values()])
    lowest = min(every[np.isfinite(every)], default=0.0)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set(title=title, xlabel="training step", ylabel=said(metric))
        if lowest > 0:
            ax.set_yscale("log")
        if any(len(of_key) > 1 for of_key in runs.values()):
            explain_band(ax)
    fit(figure, axes[0])
    return figure


def _filled(curve: Mapping[float, float], at: Sequence[float]) -> list[float]:
    """Return the values of a run at these steps, the last one known where it has none."""
    values, last = [], math.nan
    for step in at:
        last = curve.get(step, last)
        values.append(last)
    return values


def _dots(columns: Mapping[str, Sequence[Any]], keys: Sequence[Key]) -> Figure:
    """Draw a panel for each metric: a dot for each run, a bar at the median of its combination."""
    metrics = list(dict.fromkeys(columns["metric"]))[:MOST_PANELS]
    combinations = list(dict.fromkeys(keys))
    narrowest = min(max(2.0, 0.35 * len(combinations)), WIDTHS["text"])
    longest = max(len(line) for combination in combinations for line in (*combination, "all"))
    height = 1.7 + min(0.07 * longest, 2.5)  # of names that stand upright
    figure, axes = grid_of_panels(1, len(metrics), height=height, narrowest=narrowest)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for x, combination in enumerate(combinations):
            values = [
                columns["value"][n]
                for n, key in enumerate(keys)
                if key == combination and columns["metric"][n] == metric
            ]
            ax.plot([x] * len(values), values, "o", ms=4, color=MEASURED, alpha=0.6)
            if values:
                ax.plot([x - 0.25, x + 0.25], [np.median(values)] * 2, color=MUTED, lw=1.5)
        labels = ["\n".join(combination) or "all" for combination in combinations]
        ax.set_xticks(range(len(labels)), labels, rotation=90)
        ax.set(title=metric, xlim=(-0.6, len(labels) - 0.4), ylabel="measured", xlabel="settings")
    fit(figure, list(axes.flat[: len(metrics)]), legend=False)
    return figure
