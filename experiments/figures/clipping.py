"""Draw what clipping does: thresholds, norms before and after, and trainings without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.common.numbers import Result
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import BOUND, MEASURED, MUTED, PRODUCT
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

SHOWN = 3
"""Trainings in the figure of those without clipping."""

LINES = {"path": "--", "distance": "-."}
LENGTHS = (
    ("path", "path, Σ ‖Δθ‖", "o-", MEASURED),
    ("distance", "distance from the start", "s-", PRODUCT),
)


def thresholds(result: Result, ways: Sequence[str], solved: float) -> Figure:
    """Return, by threshold, how many seeds solve the task and how far they walk."""
    with house():
        figure, axes = grid_of_panels(2, len(ways), height=1.75, sharey="row")
        for column, way in enumerate(ways):
            of, levels = result[way], result[way]["thresholds"][:-1]
            share = (of["solved"][-1] >= solved).mean(-1)
            above, below = axes[:, column]
            style = {"color": MEASURED, "mfc": "white"}
            above.plot(levels, share[:-1], "o-", label="clipped", **style)
            above.axhline(share[-1], color=BOUND, ls="--", label="not clipped, part that solves it")
            for name, label, marker, color in LENGTHS:
                middle = np.median(of[name], -1)
                below.plot(levels, middle[:-1], marker, color=color, mfc="white", label=label)
                dashed = f"{label.split(',')[0]}, not clipped"
                below.axhline(middle[-1], color=color, ls=LINES[name], label=dashed)
            above.set(title=way, ylim=(-0.05, 1.05), ylabel="part of the seeds that solve it")
            below.set(title=way, yscale="log", ylabel="length, median")
            for ax in (above, below):
                ax.set(xlabel="threshold", xscale="log")
        fit(figure, axes.flat)
    return figure


def norms(result: Result, ways: Sequence[str]) -> Figure:
    """Return the distribution of norms over a training, before and after clipping."""
    with house():
        figure, axes = grid_of_panels(1, len(ways), height=2.1, sharey="all")
        for ax, way in zip(axes[0], ways, strict=True):
            of, levels = result[way], result[way]["thresholds"][:-1]
            for name, color, marker in (("before", BOUND, "o"), ("after", MEASURED, "s")):
                _, under, middle, over, high = np.median(of[name], -1)[:, :-1]
                ax.fill_between(levels, under, over, color=color, alpha=0.2, lw=0)
                label = f"{name} clipping: median, 10–90 % of the steps"
                style = {"color": color, "marker": marker, "mfc": "white", "ms": 3}
                ax.plot(levels, middle, label=label, **style)
                ax.plot(levels, high, ls=":", label=f"largest, {name}", **style)
            if way == ways[0]:
                ax.plot(levels, levels, color=MUTED, lw=1, ls="--", label="threshold")
            ax.set(title=way, xlabel="threshold", ylabel="gradient norm")
            ax.set(xscale="log", yscale="log")
        fit(figure, axes[0])
    return figure


def without(of: Result) -> Figure:
    """Return losses and norms of seeds that fail without clipping, and of the same with it."""
    none, clipped = of["series"]["none"], of["series"]["clipped"]
    final = none["mean_loss"][-1]
    chosen = np.argsort(np.where(np.isnan(final), np.inf, final))[::-1][:SHOWN]
    level = float(clipped["threshold"])
    with house():
        figure, axes = grid_of_panels(2, len(chosen), height=1.6, sharey="row")
        for column, seed in enumerate(chosen):
            for series, color, ls, label in (
                (clipped, MEASURED, "-", f"clipped to {level:g}"),
                (none, BOUND, "--", "not clipped"),
            ):
                style = {"color": color, "ls": ls, "lw": 0.8, "label": label}
                axes[0, column].plot(series["loss"][:, seed], **style)
                axes[1, column].plot(series["grad_norm"][:, seed], **style)
            largest = int(np.nanargmax(none["grad_norm"][:, seed]))
            axes[1, column].plot(
                largest, none["grad_norm"][largest, seed], "v", color=BOUND, ms=5, label="largest"
            )
            for ax, unit in zip(axes[:, column], ("training loss", "gradient norm"), strict=True):
                ax.set(title=f"seed {seed}", yscale="log", xlabel="training step", ylabel=unit)
                ax.xaxis.set_major_locator(MaxNLocator(nbins=4))
        fit(figure, axes.flat)
    return figure
