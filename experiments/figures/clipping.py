"""Draw what clipping does: thresholds, norms before and after, and trainings without it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments.common.numbers import Result
from rnn_jax.plotting.style import (
    BOUND,
    MEASURED,
    MUTED,
    PRODUCT,
    STYLE,
    fit,
    grid_of_panels,
)

SHOWN = 3
"""Trainings in the figure of those without clipping."""

LENGTHS = (
    ("path", "path, Σ ‖Δθ‖", "o-", MEASURED),
    ("distance", "distance from the start", "s-", PRODUCT),
)


def thresholds(result: Result, ways: Sequence[str], solved: float) -> Figure:
    """Return, by threshold, how many seeds solve the task and how far they walk."""
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(2, len(ways), width=3.3, height=2.0, sharey="row")
        for column, way in enumerate(ways):
            of, levels = result[way], result[way]["thresholds"][:-1]
            share = (of["solved"][-1] >= solved).mean(-1)
            above, below = axes[:, column]
            style = {"color": MEASURED, "mfc": "white"}
            above.plot(levels, share[:-1], "o-", label="clipped", **style)
            above.axhline(share[-1], color=BOUND, ls="--", label="not clipped")
            for name, label, marker, color in LENGTHS:
                middle = np.median(of[name], -1)
                below.plot(levels, middle[:-1], marker, color=color, mfc="white", label=label)
                below.axhline(middle[-1], color=color, ls="--")
            axes[0, column].set(title=way, ylim=(-0.05, 1.05))
            axes[1, column].set(xlabel="threshold", yscale="log")
            for ax in axes[:, column]:
                ax.set_xscale("log")
        axes[0, 0].set_ylabel("part of the seeds\nthat solve it")
        axes[1, 0].set_ylabel("length, median")
        fit(figure, axes.flat)
    return figure


def norms(result: Result, ways: Sequence[str]) -> Figure:
    """Return the distribution of norms over a training, before and after clipping."""
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, len(ways), width=3.3, height=2.6, sharey="all")
        for ax, way in zip(axes[0], ways, strict=True):
            of, levels = result[way], result[way]["thresholds"][:-1]
            for name, color in (("before", BOUND), ("after", MEASURED)):
                _, under, middle, over, high = np.median(of[name], -1)[:, :-1]
                ax.fill_between(levels, under, over, color=color, alpha=0.2, lw=0)
                label = f"{name} clipping: median, 10–90 % of the steps"
                ax.plot(levels, middle, color=color, label=label)
                ax.plot(levels, high, color=color, ls=":", label=f"largest, {name}")
            if way == ways[0]:
                ax.plot(levels, levels, color=MUTED, lw=1, ls="--", label="threshold")
            ax.set(title=way, xlabel="threshold", xscale="log", yscale="log")
        axes[0, 0].set_ylabel("gradient norm")
        fit(figure, axes[0])
    return figure


def without(of: Result) -> Figure:
    """Return losses and norms of seeds that fail without clipping, and of the same with it."""
    none, clipped = of["series"]["none"], of["series"]["clipped"]
    final = none["mean_loss"][-1]
    chosen = np.argsort(np.where(np.isnan(final), np.inf, final))[::-1][:SHOWN]
    level = float(clipped["threshold"])
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(2, len(chosen), width=2.6, height=1.8, sharey="row")
        for column, seed in enumerate(chosen):
            for series, color, label in (
                (clipped, MEASURED, f"clipped to {level:g}"),
                (none, BOUND, "not clipped"),
            ):
                axes[0, column].plot(series["loss"][:, seed], color=color, lw=0.8, label=label)
                axes[1, column].plot(series["grad_norm"][:, seed], color=color, lw=0.8)
            largest = int(np.nanargmax(none["grad_norm"][:, seed]))
            axes[1, column].plot(
                largest, none["grad_norm"][largest, seed], "v", color=BOUND, ms=5, label="largest"
            )
            axes[0, column].set(title=f"seed {seed}", yscale="log")
            axes[1, column].set(xlabel="training step", yscale="log")
        axes[0, 0].set_ylabel("training loss")
        axes[1, 0].set_ylabel("gradient norm")
        fit(figure, axes.flat)
    return figure
