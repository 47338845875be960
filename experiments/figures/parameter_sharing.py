"""Draw the accuracies of networks that share parameters over time, and that do not."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    MaxNLocator,
    PercentFormatter,
)

from rnn_jax.plotting.style import (
    BOUND,
    MEASURED,
    PRODUCT,
    STYLE,
    fit,
    grid_of_panels,
)


def accuracies(
    by_examples: Mapping[str, np.ndarray],
    by_position: Mapping[str, Mapping[str, np.ndarray]],
    *,
    sizes: np.ndarray,
    positions: np.ndarray,
    held_out: Mapping[str, np.ndarray],
    chance: float,
) -> Figure:
    """Accuracy by the number of training examples, and by the position of what is asked for.

    Args:
      by_examples: network -> accuracies `[sizes, seeds]`, from 0 to 1.
      by_position: panel title -> network -> accuracies `[seeds, positions]`.
      sizes: numbers of training examples.
      positions: integers.
      held_out: panel title -> positions that were never trained on, which are shaded.
      chance: the accuracy of a guess, drawn across.
    """
    colors = (MEASURED, BOUND, PRODUCT)
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, 1 + len(by_position), width=3.3, height=2.7, sharey="all")
        for color, (network, curves) in zip(colors, by_examples.items(), strict=False):
            _spread(axes[0, 0], sizes, curves.T, color, network, marker="o")
        axes[0, 0].set(title="by training examples", xlabel="training sentences", xscale="log")
        axes[0, 0].set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes[0, 0].minorticks_off()
        for ax, (title, networks) in zip(axes[0, 1:], by_position.items(), strict=True):
            for color, (network, curves) in zip(colors, networks.items(), strict=False):
                _spread(ax, positions, curves, color, network, marker=".")
            label = "never trained on"
            for position in held_out.get(title, ()):
                ax.axvspan(position - 0.5, position + 0.5, color="0.88", lw=0, label=label)
                label = ""
            ax.set(title=title, xlabel="words in front of the year")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        for ax in axes[0]:
            ax.axhline(chance, color="black", lw=1, ls="--", label=f"chance, {chance:.1%}")
        axes[0, 0].set(ylabel="accuracy on fresh sentences", ylim=(-0.02, 1.02))
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1))
        fit(figure, axes[0, ::-1])
    return figure


def _spread(ax: Axes, x, curves: np.ndarray, color: str, label: str, marker: str) -> None:
    """Median and 10-90 % of `[seeds, len(x)]`."""
    low, middle, high = np.percentile(curves, (10, 50, 90), axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
    ax.plot(x, middle, color=color, marker=marker, ms=4, label=f"{label}, median and 10–90 %")
