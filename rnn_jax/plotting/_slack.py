"""Draw by how much bounds are above what they bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.errors import invalid
from rnn_jax.plotting._bands import draw_band
from rnn_jax.plotting._decades import steps_on
from rnn_jax.plotting._norms import LAG
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line
from rnn_jax.plotting._panels import one_panel
from rnn_jax.plotting._tables import band_by_lag, measured_and_bounds


def slack(
    log_norms: Any,
    bounds: Mapping[str, Any] | None = None,
    *,
    title: str = "",
    legend: bool = True,
    ax: Axes | None = None,
) -> Any:
    """Draw ln bound − ln measured by lag t − k, for bounds by name: below zero one is violated.

    Each bound is the median and 10–90 % of all seeds and t, in nats. Where the median norm is zero
    the slack is endless, and there is a mark at the top.

    Args:
      log_norms, bounds, title, legend, ax: as for `norms`; there is one bound at least.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: no bound, and what `norms` raises.
    """
    measured, named = measured_and_bounds(log_norms, bounds)
    if not named:
        expected = "the ln of a bound, by its name"
        raise invalid("bounds", "none", expected, "Pass bounds={'product': product_bound(J)}.")

    def draw(ax: Axes) -> None:
        for number, (name, bound) in enumerate(named.items()):
            _draw_slack(ax, name, difference(bound, measured), number, len(named))
        ax.axhline(0, color=MUTED, lw=1, ls=":", label="bound = measured")
        ax.set(title=title, xlabel=LAG, ylabel="ln bound − ln measured  (nats)")
        steps_on(ax.xaxis)

    return one_panel(ax, draw, legend=legend)


def difference(bound: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return ln bound − ln measured: +∞ where a norm is zero, 0 where its bound is zero as well."""
    with np.errstate(invalid="ignore"):
        found = bound - measured
    both = (bound == measured) & np.isinf(measured)
    return np.where(both, 0.0, found)


def _draw_slack(ax: Axes, name: str, table: np.ndarray, number: int, count: int) -> None:
    """Draw one bound's slack, and marks where it is endless."""
    band = band_by_lag(table).T
    lag, color = np.arange(band.shape[1]), arm_color(number, count)
    endless = lag[band[1] == np.inf]
    shown = np.where(np.isfinite(band), band, np.nan)
    line = {"ls": arm_line(number), "marker": "." if len(lag) < 3 else None}
    draw_band(ax, lag, shown, color, name, **line)
    if endless.size:
        (points,) = ax.plot(endless, np.ones(endless.size), "^", ms=3, color=color)
        points.set(transform=ax.get_xaxis_transform(), clip_on=False)
        points.set_label(f"{name}: measured 0")
