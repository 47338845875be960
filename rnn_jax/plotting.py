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

from rnn_jax.plotting_layout import fit

MEASURED, BOUND, PRODUCT, MUTED = "#1f5fa8", "#c2410c", "#5b8c2a", "#8a8f98"
MIN_WIDTH = 4.4
"""Inches of a figure, so that there is room for its legend."""
MIN_POINTS = 20
"""Of a curve over the steps of training, unless there are fewer steps."""
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
    """‖∂s_t/∂s_k‖₂ of the state s by lag, against its bounds.

    Args:
      panels: column title, which may say what s is -> row title -> tables `[seeds, T+1, T+1]` of
        natural logs: `measured`, `product_bound`, and, where the theorem has one, `power_bound`.
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
            ax.set_ylabel(r"$\|\partial s_t / \partial s_k\|_2$")
        for row, phase in enumerate(rows):
            measured = [band_by_lag(by_row[phase]["measured"]) for by_row in panels.values()]
            # ln 1, at lag 0, is always there.
            finite = np.concatenate([[0.0], *(band[np.isfinite(band)] for band in measured)])
            low, high = finite.min(), finite.max()
            # The bounds may leave the frame; what is measured must not be squeezed by them.
            room = max(high - low, 1.0)
            axes[row, 0].set_ylim(*(np.array([low - 0.05 * room, high + 0.6 * room]) / np.log(10)))
        fit(figure, axes.flat)
    return figure


def _decay_panel(ax: Axes, tables: Mapping[str, np.ndarray]) -> None:
    low, middle, high = band_by_lag(tables["measured"]).T / np.log(10)
    lag = np.arange(len(middle))
    gone = lag[middle == -np.inf]
    if "power_bound" in tables:
        bound = band_by_lag(tables["power_bound"]).T[1] / np.log(10)
        ax.plot(lag, bound, "--", color=BOUND, label=r"bound $(\lambda_W \lambda_\varphi)^{t-k}$")
    product = band_by_lag(tables["product_bound"]).T[1] / np.log(10)
    ax.plot(lag, product, ":", color=PRODUCT, lw=1.8, label=r"bound $\prod_i \|J_i\|_2$")
    ax.fill_between(lag, low, high, color=MEASURED, alpha=0.25, lw=0, label="10–90 %")
    marker = "." if gone.size else None
    ax.plot(lag, middle, color=MEASURED, marker=marker, label="measured, median")
    if gone.size:
        (points,) = ax.plot(gone, np.zeros(gone.size), "v", ms=3, color=MEASURED, label="median 0")
        points.set(transform=ax.get_xaxis_transform(), clip_on=False)
    _powers_of_ten(ax.yaxis)


def heatmaps(panels: Mapping[str, Mapping[str, np.ndarray]], *, span: float = 12.0) -> Figure:
    """‖∂E_t/∂s_k‖ over (t, k): state 0 is the initial one, and E_t is read from state t.

    Args:
      panels: column title -> row title -> natural logs `[T, T+1]`, E_{t+1} and s_k at [t, k].
      span: decades shown below the largest value of all panels; what is smaller has one colour.
    """
    rows = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = _grid(len(rows), len(panels), width=2.6, height=2.6, sharey="all")
        tables = [table for by_row in panels.values() for table in by_row.values()]
        finite = np.concatenate([table[np.isfinite(table)] for table in tables])
        top = finite.max() / np.log(10) if finite.size else 0.0
        for column, (title, by_row) in enumerate(panels.items()):
            for row, (phase, table) in enumerate(by_row.items()):
                ax, (t, k) = (
                    axes[row, column],
                    (np.arange(1, len(table) + 1), np.arange(len(table) + 1)),
                )
                shown = np.maximum(table / np.log(10), top - span)
                shown = np.ma.masked_where((k > t[:, None]) | np.isnan(shown), shown)
                image = ax.pcolormesh(
                    k, t, shown, vmin=top - span, vmax=top, shading="nearest", rasterized=True
                )
                ax.set(title=f"{title}\n{phase}" if row == 0 else phase, aspect="equal")
                for axis in (ax.xaxis, ax.yaxis):
                    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        for ax in axes[-1]:
            ax.set_xlabel("state  k")
        for ax in axes[:, 0]:
            ax.set_ylabel("loss at step  t")
        bar = figure.colorbar(image, ax=axes, shrink=0.8, extend="min")
        bar.set_label(r"$\|\partial E_t / \partial s_k\|_2$, median over seeds")
        _powers_of_ten(bar.ax.yaxis)
        fit(figure, axes.flat, legend=False)
    return figure


def learning_curves(
    panels: Mapping[str, Mapping[str, np.ndarray]], *, baseline: float, smooth: int = 10
) -> Figure:
    """Bits per character over steps, with and without clipping.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` bits per character.
      baseline: the unigram entropy, drawn across.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        for ax in axes[0]:
            ax.axhline(baseline, color=MUTED, lw=1, ls=":", label="unigram entropy")
        axes[0, 0].set_ylabel("bits per character")
        curves = np.concatenate([c.ravel() for arms in panels.values() for c in arms.values()])
        lowest = min(curves[np.isfinite(curves)], default=baseline)
        highest = max(1.6 * baseline, 1.3 * lowest, lowest + 0.1)
        axes[0, 0].set_ylim(0.95 * min(lowest, baseline), highest)
        fit(figure, axes[0])
    return figure


def gradient_norms(panels: Mapping[str, Mapping[str, np.ndarray]], *, smooth: int = 10) -> Figure:
    """Global gradient norm before clipping, over steps.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` norms.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        axes[0, 0].set(ylabel="gradient norm before clipping")
        norms = np.concatenate([c.ravel() for arms in panels.values() for c in arms.values()])
        if np.any(np.isfinite(norms) & (norms > 0)):
            axes[0, 0].set(yscale="log")
            axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes[0, 0].yaxis.set_major_formatter("{x:g}")
            axes[0, 0].yaxis.set_minor_formatter(NullFormatter())
        fit(figure, axes[0])
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
        fit(figure, axes[0, ::-1])
    return figure


def _spread(ax: Axes, x, curves: np.ndarray, color: str, label: str, marker: str) -> None:
    """Median and 10-90 % of `[seeds, len(x)]`."""
    low, middle, high = np.percentile(curves, (10, 50, 90), axis=0)
    ax.fill_between(x, low, high, color=color, alpha=0.25, lw=0)
    ax.plot(x, middle, color=color, marker=marker, ms=4, label=f"{label}, median and 10–90 %")


def _training_curves(axes, panels: Mapping[str, Mapping[str, np.ndarray]], smooth: int) -> None:
    """A panel each; the second arm is dashed, so that it does not hide the first one."""
    styles = ((MEASURED, "-"), (BOUND, "--"))
    for ax, (title, arms) in zip(axes, panels.items(), strict=True):
        for (color, line), (arm, curves) in zip(styles, arms.items(), strict=True):
            stride = max(1, min(smooth, len(curves) // MIN_POINTS))
            _band(ax, _averaged(curves, stride), stride, color, arm, line)
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
    size = (max(width * columns, MIN_WIDTH), height * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def _powers_of_ten(axis) -> None:
    def shown(exponent: float, _) -> str:
        whole = abs(exponent - round(exponent)) < 1e-6
        return f"$10^{{{round(exponent)}}}$" if whole else f"{10**exponent:.2g}"

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(FuncFormatter(shown))
