"""The figure of gradient flossing: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting.style import BOUND, MEASURED, MUTED, PRODUCT, STYLE, draw_band, legend_below

COLORS = (MUTED, MEASURED, PRODUCT, BOUND, "#7b4fa3")
BAND: dict[str, Any] = {"alpha": 0.18, "marker": ".", "ms": 3}


def flossing(
    steps: np.ndarray,
    losses: Mapping[str, np.ndarray],
    spectra: Mapping[str, Mapping[str, np.ndarray]],
    *,
    delay: int,
) -> Figure:
    """Draw loss by training step, and exponents by index; medians and 10-90 % over seeds.

    Args:
      steps: `[n]`, at which the loss was measured.
      losses: arm -> loss over that of a network without memory, `[n, seeds]`.
      spectra: panel title -> arm, or another name of the same order -> exponents `[N, seeds]`.
      delay: d; the rate −1/d, and the index d, are marked.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.2, 3.9), layout="constrained")
        first, *rest = figure.subplots(1, 1 + len(spectra))
        for color, (arm, curves) in zip(COLORS, losses.items(), strict=False):
            draw_band(first, steps, _percentiles(curves), color, arm, **BAND)
        first.axhline(1, color="black", lw=1, ls="--", label="no memory")
        first.set(xlabel="training step", ylabel="loss / that of no memory", yscale="log")
        first.set_title(f"the task, a delay of {delay}")
        for ax, (title, by_name) in zip(rest, spectra.items(), strict=True):
            for color, (name, exponents) in zip(COLORS, by_name.items(), strict=False):
                i = np.arange(1, len(exponents) + 1)
                draw_band(ax, i, _percentiles(exponents), color, name, **BAND)
            ax.axhline(-1 / delay, color="black", lw=1, ls=":")
            ax.axvline(delay, color="black", lw=1, ls=":")
            ax.text(1, -1 / delay, r"$-1/d$", va="bottom")
            ax.text(delay, -2.45, r"$d$ ", ha="right")
            ax.set(title=f"exponents {title}", xlabel="i", ylim=(-2.5, 0.2))
            if set(by_name) != set(losses):
                ax.legend(fontsize=8, loc="lower left")
        rest[0].set_ylabel(r"$\lambda_i$  (nats per step)")
        legend_below(figure, [first], fontsize=8)
    return figure


def _percentiles(curves: np.ndarray) -> np.ndarray:
    """Return 10, 50 and 90 % of `[n, seeds]`, without those that are NaN."""
    return np.nanpercentile(curves, (10, 50, 90), axis=1)
