"""Draw the accuracies of networks that share parameters over time, and that do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    MaxNLocator,
    PercentFormatter,
)

from experiments.common.numbers import Result
from rnn_jax.plotting._bands import draw_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import PALETTE, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house


def accuracies(result: Result, arms: Sequence[str]) -> Figure:
    """Draw accuracy by the number of training sentences, and by the position of the year.

    Args:
      result: measurements of `experiments.parameter_sharing`.
      arms: the year anywhere, and positions held out, which are shaded in the second one's panel.
    """
    positions, sizes, chance = (result[name] for name in ("positions", "sizes", "chance"))
    by_label = {str(label): result[label] for label in result["labels"]}
    with house():
        figure, axes = grid_of_panels(1, 1 + len(arms), height=2.1, sharey="all")
        for number, (label, of) in enumerate(by_label.items()):
            _draw(axes[0, 0], sizes, of[arms[0]]["accuracy"].mean(-1).T, number, label)
        axes[0, 0].set(title="by training examples", xlabel="training sentences", xscale="log")
        axes[0, 0].set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
        axes[0, 0].minorticks_off()
        for ax, arm in zip(axes[0, 1:], arms, strict=True):
            for number, (label, of) in enumerate(by_label.items()):
                _draw(ax, positions, of[arm]["accuracy"][-1], number, label)
            label = "never trained on"
            for position in result["held_out"] if arm == arms[1] else ():
                ax.axvspan(position - 0.5, position + 0.5, color="0.88", lw=0, label=label)
                label = ""
            title = f"{sizes[-1]:,} sentences, {arm}"
            ax.set(title=title, xlabel="words in front of the year")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        for ax in axes[0]:
            ax.axhline(chance, color="black", lw=1, ls=":", label=f"chance, {float(chance):.1%}")
            ax.set(ylabel="accuracy on fresh sentences", ylim=(-0.02, 1.02))
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
        fit(figure, axes[0])
    return figure


def _draw(ax: Axes, x: np.ndarray, curves: np.ndarray, number: int, label: str) -> None:
    """Draw median and 10-90 % of `[seeds, len(x)]`."""
    percentiles, label = np.percentile(curves, (10, 50, 90), axis=0), f"{label}, median and 10–90 %"
    look = {"marker": arm_marker(number), "ms": 3.5, "mfc": "white", "ls": arm_line(number)}
    draw_band(ax, x, percentiles, PALETTE[number], label, alpha=0.25, **look)
