"""Draw norms of products of Jacobians by lag, against their bounds.

Norms come as natural logarithms and are drawn in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.plotting._decades import powers_of_ten, steps_on
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import LINES, arm_color, cycle
from rnn_jax.plotting._panels import grid_of_panels, one_panel
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import house
from rnn_jax.plotting._tables import band_by_lag, measured_and_bounds

LAG = "lag  t − k  (steps)"
BOUND_LINES = LINES[1:]


def norms(
    log_norms: Any,
    *,
    bounds: Mapping[str, Any] | None = None,
    state: str = "s",
    title: str = "",
    legend: bool = True,
    ax: Axes | None = None,
) -> Any:
    """Draw ‖∂s_t/∂s_k‖ by lag t − k: the median, 10–90 % of all seeds and t, and bounds by name.

    Seeds whose norm is NaN are left out. Where the median norm is zero, there is a mark on the
    axis. The axis shows what is measured; bounds may leave it at the top.

    Args:
      log_norms: natural logarithms, one table `[T+1, T+1]` at [t, k] or some, `[seeds, T+1, T+1]`
        or `[T+1, T+1, *batch]`, as `gradients.jacobian_log_norms` returns them; or what
        `gradients.check_bounds` returns, norms and bounds together.
      bounds: name in the legend -> ln of the bound, tables alike, one or one for each seed.
      state: letter of the state.
      title: title of the panel.
      legend: whether lines are explained.
      ax: Axes of a figure of yours to draw into; where its legend has no room in it there is none.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: arrays that are no such tables, bounds of another T, an `ax` that is none.
    """
    measured, named = measured_and_bounds(log_norms, bounds)

    def draw(ax: Axes) -> None:
        draw_norms(ax, measured, named)
        ax.set(title=title, xlabel=LAG, ylabel=norm_of(state))
        ax.set_ylim(*limits_of([measured]))

    return one_panel(ax, draw, legend=legend)


def norm_of(state: str) -> str:
    """Return ‖∂s_t/∂s_k‖₂ as a formula."""
    return rf"$\|\partial {state}_t / \partial {state}_k\|_2$"


def decay(panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]) -> ShownFigure:
    """Draw ‖∂s_t/∂s_k‖₂ of the state s by lag, against its bounds.

    Args:
      panels: column title, which may say what s is -> row title -> tables `[seeds, T+1, T+1]` of
        natural logs: `measured`, `product_bound`, and, where the theorem has one, `power_bound`.
    """
    rows = list(next(iter(panels.values())))
    with house():
        figure, axes = grid_of_panels(len(rows), len(panels), height=1.9, sharey="row")
        for column, (cell, by_row) in enumerate(panels.items()):
            for row, (phase, tables) in enumerate(by_row.items()):
                ax = axes[row, column]
                bounds = {
                    label: np.asarray(tables[key]) for key, label in BOUNDS.items() if key in tables
                }
                draw_norms(ax, np.asarray(tables["measured"]), bounds, list(BOUNDS.values()))
                ax.set(title=f"{cell}\n{phase}", xlabel=LAG, ylabel=norm_of("s"))
        for row, phase in enumerate(rows):
            axes[row, 0].set_ylim(*limits_of([p[phase]["measured"] for p in panels.values()]))
        fit(figure, axes.flat)
    return figure


BOUNDS = {
    "power_bound": r"bound $(\lambda_W \lambda_\varphi)^{t-k}$",
    "product_bound": r"bound $\prod_i \|J_i\|_2$",
}


def draw_norms(
    ax: Axes,
    measured: np.ndarray,
    bounds: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
) -> None:
    """Draw norms by lag, and their bounds; where the median is 0, a mark on the axis.

    `names` are those of all panels of a figure, in which a bound has one colour and line.
    """
    names = list(bounds) if names is None else names
    low, middle, high = band_by_lag(measured).T / np.log(10)
    lag = np.arange(len(middle))
    gone = lag[middle == -np.inf]
    colors = [color for color in cycle() if color != cycle()[0]] or cycle()
    for name, bound in bounds.items():
        number = names.index(name)
        color = colors[number] if number < len(colors) else arm_color(number, len(names))
        at_median = band_by_lag(bound).T[1] / np.log(10)
        line = BOUND_LINES[number % len(BOUND_LINES)]
        ax.plot(lag, at_median, ls=line, color=color, label=name)
    ax.fill_between(lag, low, high, color=cycle()[0], alpha=0.25, lw=0, label="10–90 %")
    marker = "." if gone.size or len(lag) == 1 else None
    ax.plot(lag, middle, color=cycle()[0], marker=marker, label="measured, median")
    if gone.size:
        mark_at_bottom(ax, gone, "median 0")
    ax.set_xlim(-0.02 * max(len(lag) - 1, 1), 1.02 * max(len(lag) - 1, 1))
    powers_of_ten(ax.yaxis)
    steps_on(ax.xaxis)


def mark_at_bottom(ax: Axes, at: Any, label: str, color: Any = None) -> None:
    """Draw whole triangles on the lower edge of a panel, for what lies endlessly below it."""
    (points,) = ax.plot(at, np.zeros(len(at)), "v", ms=3, color=color or cycle()[0], label=label)
    points.set(transform=ax.get_xaxis_transform(), clip_on=False)


def limits_of(measured: Any) -> tuple[float, float]:
    """Return limits in decades that show medians and bands: bounds may leave the frame."""
    bands = [band_by_lag(tables) for tables in measured]
    # ln 1, at lag 0, is always there.
    finite = np.concatenate([[0.0], *(band[np.isfinite(band)] for band in bands)])
    low, high = finite.min(), finite.max()
    room = max(high - low, 1.0)
    return (low - 0.05 * room) / np.log(10), (high + 0.6 * room) / np.log(10)
