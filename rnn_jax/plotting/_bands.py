"""Medians and bands over seeds, of numbers that may be infinite or missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.plotting._palette import MUTED

BAND = "lines: medians; bands: 10–90 % of the seeds"


def draw_band(
    ax: Axes, x: Any, band: Any, color: Any, label: str, alpha: float = 0.2, **line: Any
) -> None:
    """Draw a line and a band about it: `band` is (low, middle, high), each `[len(x)]`."""
    low, middle, high = band
    ax.fill_between(x, low, high, color=color, alpha=alpha, lw=0)
    ax.plot(x, middle, color=color, label=label, **line)


def band_of(curves: Any) -> np.ndarray:
    """Return the 10th, 50th and 90th percentiles over seeds of `[n, seeds]`: `[3, n]`.

    NaN counts as larger than any number: a seed that diverges does not hide the others.
    """
    known = np.where(np.isnan(curves), np.inf, curves)
    # Between an infinite value and another one there is nothing to interpolate.
    nearest = np.percentile(known, (10, 50, 90), axis=1, method="nearest")
    with np.errstate(invalid="ignore"):
        between = np.percentile(known, (10, 50, 90), axis=1)
    return np.where(np.isfinite(known).all(1), between, nearest)


def band_without_nan(values: Any, percentiles: Sequence[float] = (10, 50, 90)) -> np.ndarray:
    """Return percentiles of the values that are known, `[len(percentiles)]`; NaN if none is.

    A percentile is picked, not interpolated: between -inf and a number there is nothing.
    """
    known = np.asarray(values)[~np.isnan(values)]
    if not known.size:
        return np.full(len(percentiles), np.nan)
    return np.percentile(known, percentiles, method="nearest")


def explain_band(ax: Axes) -> None:
    """Add to the legend what lines and bands of `band_of` are."""
    ax.fill_between([], [], color=MUTED, alpha=0.2, lw=0, label=BAND)
