"""Arrays in, Figure out: nothing here trains, shows or saves.

Norms come as natural logarithms and are drawn on a log scale in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

MEASURED, BOUND, PRODUCT, MUTED = "#1f5fa8", "#c2410c", "#5b8c2a", "#8a8f98"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "rnn_jax",
}


def band_by_lag(log_norms: np.ndarray, percentiles: Sequence[float] = (10, 50, 90)) -> np.ndarray:
    """Percentiles over everything but the lag t − k of tables `[..., T+1, T+1]`: `[lag, 3]`."""
    T = log_norms.shape[-1] - 1
    diagonals = [np.diagonal(log_norms, -lag, -2, -1).ravel() for lag in range(T + 1)]
    # A percentile is picked, not interpolated: between -inf and a number there is nothing.
    return np.stack([np.percentile(d, percentiles, method="nearest") for d in diagonals])


def decay(panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> Figure:
    """‖∂h_t/∂h_k‖₂ by lag, against its bounds.

    Args:
      panels: column title -> row title -> tables `[seeds, T+1, T+1]` of natural logs: `measured`,
        `product_bound`, and, where the theorem has one, `power_bound`.
    """
    rows = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(len(rows), len(panels), width=3.1, height=2.6, sharey="row")
        for column, (cell, by_row) in enumerate(panels.items()):
            for row, (phase, tables) in enumerate(by_row.items()):
                ax = axes[row, column]
                _decay_panel(ax, tables)
                ax.set_title(f"{cell}\n{phase}" if row == 0 else phase)
                if row == len(rows) - 1:
                    ax.set_xlabel("lag  t − k  (steps)")
        for ax in axes[:, 0]:
            ax.set_ylabel(r"$\|\partial h_t / \partial h_k\|_2$")
        for row, phase in enumerate(rows):
            measured = [band_by_lag(by_row[phase]["measured"]) for by_row in panels.values()]
            low, high = (f([f(b[np.isfinite(b)]) for b in measured]) for f in (np.min, np.max))
            # The bounds may leave the frame; what is measured must not be squeezed by them.
            room = max(high - low, 1.0)
            axes[row, 0].set_ylim(*(np.array([low - 0.05 * room, high + 0.6 * room]) / np.log(10)))
        _legend_below(figure, axes)
    return figure


def _decay_panel(ax: Axes, tables: Mapping[str, np.ndarray]) -> None:
    low, middle, high = band_by_lag(tables["measured"]).T / np.log(10)
    lag = np.arange(len(middle))
    if "power_bound" in tables:
        bound = band_by_lag(tables["power_bound"]).T[1] / np.log(10)
        ax.plot(lag, bound, "--", color=BOUND, label=r"bound $(\lambda_W \lambda_\varphi)^{t-k}$")
    product = band_by_lag(tables["product_bound"]).T[1] / np.log(10)
    ax.plot(lag, product, ":", color=PRODUCT, lw=1.8, label=r"bound $\prod_i \|J_i\|_2$")
    ax.fill_between(lag, low, high, color=MEASURED, alpha=0.25, lw=0, label="10–90 %")
    ax.plot(lag, middle, color=MEASURED, label="measured, median")
    _powers_of_ten(ax.yaxis)


def heatmaps(panels: Mapping[str, Mapping[str, np.ndarray]], *, span: float = 12.0) -> Figure:
    """‖∂E_t/∂h_k‖ over (t, k).

    Args:
      panels: column title -> row title -> natural logs `[T, T+1]` at [t, k].
      span: decades shown below the largest value of all panels; what is smaller has one colour.
    """
    rows = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _grid(len(rows), len(panels), width=2.6, height=2.6, sharey="all")
        finite = [t[np.isfinite(t)].max() for by_row in panels.values() for t in by_row.values()]
        top = max(finite) / np.log(10)
        for column, (title, by_row) in enumerate(panels.items()):
            for row, (phase, table) in enumerate(by_row.items()):
                ax, T = axes[row, column], table.shape[0]
                read = np.arange(T + 1)[None, :] <= np.arange(T)[:, None] + 1
                shown = np.ma.masked_where(~read, np.maximum(table / np.log(10), top - span))
                image = ax.pcolormesh(shown, vmin=top - span, vmax=top, rasterized=True)
                ax.set(title=f"{title}\n{phase}" if row == 0 else phase, aspect="equal")
        for ax in axes[-1]:
            ax.set_xlabel("state  k")
        for ax in axes[:, 0]:
            ax.set_ylabel("loss at step  t")
        bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="min")
        bar.set_label(r"$\|\partial E_t / \partial h_k\|_2$, median over seeds")
        _powers_of_ten(bar.ax.yaxis)
    return figure


def learning_curves(
    panels: Mapping[str, Mapping[str, np.ndarray]], *, baseline: float, smooth: int = 10
) -> Figure:
    """Bits per character over steps, with and without clipping.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` bits per character.
      baseline: the unigram entropy, drawn across.
      smooth: steps averaged for each point.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        for ax in axes[0]:
            ax.axhline(baseline, color=MUTED, lw=1, ls=":", label="unigram entropy")
        axes[0, 0].set_ylabel("bits per character")
        lowest = min(np.nanmin(c) for arms in panels.values() for c in arms.values())
        axes[0, 0].set_ylim(lowest * 0.95, baseline * 1.6)
        _legend_below(figure, axes)
    return figure


def gradient_norms(panels: Mapping[str, Mapping[str, np.ndarray]], *, smooth: int = 10) -> Figure:
    """Global gradient norm before clipping, over steps.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` norms.
      smooth: steps averaged for each point.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        axes[0, 0].set(yscale="log", ylabel="gradient norm before clipping")
        axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter(NullFormatter())
        _legend_below(figure, axes)
    return figure


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
        figure, axes = _grid(1, 1 + len(by_position), width=3.3, height=2.7, sharey="all")
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
        _legend_below(figure, axes[:, ::-1])
    return figure


def _spread(ax: Axes, x, curves: np.ndarray, color: str, label: str, marker: str) -> None:
    """Median and 10-90 % of `[seeds, len(x)]`."""
    low, middle, high = np.percentile(curves, (10, 50, 90), axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
    ax.plot(x, middle, color=color, marker=marker, ms=4, label=f"{label}, median and 10–90 %")


def _legend_below(figure: Figure, axes) -> None:
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _training_curves(axes, panels: Mapping[str, Mapping[str, np.ndarray]], smooth: int) -> None:
    """A panel each; the second arm is dashed, so that it does not hide the first one."""
    styles = ((MEASURED, "-"), (BOUND, "--"))
    for ax, (title, arms) in zip(axes, panels.items(), strict=True):
        for (color, line), (arm, curves) in zip(styles, arms.items(), strict=True):
            _band(ax, _averaged(curves, smooth), smooth, color, arm, line)
        ax.set(title=title, xlabel="training step")


def _band(ax: Axes, curves: np.ndarray, stride: int, color: str, label: str, line: str) -> None:
    steps = (np.arange(len(curves)) + 0.5) * stride
    low, middle, high = np.percentile(curves, (10, 50, 90), axis=1, method="nearest")
    ax.fill_between(steps, low, high, color=color, alpha=0.2, lw=0)
    ax.plot(steps, middle, line, color=color, label=f"{label}, median and 10–90 %")


def _averaged(curves: np.ndarray, stride: int) -> np.ndarray:
    """Means of `stride` steps each: `[steps // stride, seeds]`."""
    steps = len(curves) // stride * stride
    return curves[:steps].reshape(-1, stride, *curves.shape[1:]).mean(1)


def _grid(rows: int, columns: int, *, width: float, height: float, sharey: Literal["all", "row"]):
    figure = Figure(figsize=(width * columns, height * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _powers_of_ten(axis) -> None:
    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda exponent, _: f"$10^{{{exponent:g}}}$"))
