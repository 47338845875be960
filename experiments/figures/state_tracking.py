"""Draw how often the last state is right, by the length of the sequence."""

from __future__ import annotations

import matplotlib
from matplotlib.figure import Figure

from experiments.common.numbers import Result
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

MARKERS = "osD^vPX*"


def accuracies(result: Result) -> Figure:
    """Return a panel for each task: the part of the sequences by length, for each cell."""
    lengths = result["lengths"]
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(
            1, len(result["accuracy"]), width=3.3, height=2.8, sharey="all"
        )
        for ax, (task, cells) in zip(axes[0], result["accuracy"].items(), strict=True):
            for number, (cell, right) in enumerate(cells.items()):
                style = {"marker": MARKERS[number % len(MARKERS)], "ms": 4, "mfc": "white"}
                color = arm_color(number, len(cells))
                draw_band(ax, lengths, band_of(right), color, cell, alpha=0.12, lw=1.2, **style)
            guess = float(result["guess"][task])
            ax.axhline(guess, color=MUTED, lw=1, ls=":", label="a guess")
            ax.axvline(lengths[0], color=MUTED, lw=1, ls="--", label="trained on")
            ax.set(title=task, xlabel="T", xscale="log", ylim=(-0.03, 1.03))
            ax.set_xticks(lengths, [str(T) for T in lengths])
            ax.set_xticks([], minor=True)
        axes[0, 0].set_ylabel("last state right")
        explain_band(axes[0, 0])
        fit(figure, axes[0])
    return figure
