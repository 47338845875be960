"""Draw tables of norms over (t, k): by lag against their bounds, and as maps.

Norms come as natural logarithms and are drawn in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_jax.plotting.style import (
    BOUND,
    MEASURED,
    PRODUCT,
    STYLE,
    fit,
    grid_of_panels,
    powers_of_ten,
)


def band_by_lag(log_norms: np.ndarray, percentiles: Sequence[float] = (10, 50, 90)) -> np.ndarray:
    """Return percentiles by lag t − k of tables `[..., T+1, T+1]`: `[lag, 3]`."""
    T = log_norms.shape[-1] - 1
    diagonals = [np.diagonal(log_norms, -lag, -2, -1).ravel() for lag in range(T + 1)]
    # A percentile is picked, not interpolated: between -inf and a number there is nothing.
    return np.stack([np.percentile(d, percentiles, method="nearest") for d in diagonals])


def decay(panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> Figure:
    """Draw ‖∂s_t/∂s_k‖₂ of the state s by lag, against its bounds.

    Args:
      panels: column title, which may say what s is -> row title -> tables `[seeds, T+1, T+1]` of
        natural logs: `measured`, `product_bound`, and, where the theorem has one, `power_bound`.
    """
    rows = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(len(rows), len(panels), width=3.1, height=2.6, sharey="row")
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
    """Draw one cell's norms by lag, and its bounds; where the median is 0, a mark on the axis."""
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
    powers_of_ten(ax.yaxis)


def heatmaps(panels: Mapping[str, Mapping[str, np.ndarray]], *, span: float = 12.0) -> Figure:
    """Draw ‖∂E_t/∂s_k‖ over (t, k): state 0 is the initial one, E_t is read from state t.

    Args:
      panels: column title -> row title -> natural logs `[T, T+1]`, E_{t+1} and s_k at [t, k].
      span: decades shown below the largest value of all panels; what is smaller has one colour.
    """
    rows = list(next(iter(panels.values())))
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = grid_of_panels(len(rows), len(panels), width=2.6, height=2.6, sharey="all")
        tables = [table for by_row in panels.values() for table in by_row.values()]
        finite = np.concatenate([table[np.isfinite(table)] for table in tables])
        top = finite.max() / np.log(10) if finite.size else 0.0
        for column, (title, by_row) in enumerate(panels.items()):
            for row, (phase, table) in enumerate(by_row.items()):
                ax = axes[row, column]
                t, k = np.arange(1, len(table) + 1), np.arange(len(table) + 1)
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
        powers_of_ten(bar.ax.yaxis)
        fit(figure, axes.flat, legend=False)
    return figure
