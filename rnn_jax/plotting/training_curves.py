"""Draw what is recorded over the steps of training: losses, and norms of gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rnn_jax.plotting.style import (
    BOUND,
    MEASURED,
    MUTED,
    STYLE,
    draw_band,
    fit,
    grid_of_panels,
)

MIN_POINTS = 20
"""Least number of points of a curve, unless there are fewer steps."""


def learning_curves(
    panels: Mapping[str, Mapping[str, np.ndarray]], *, baseline: float, smooth: int = 10
) -> Figure:
    """Draw bits per character over steps, with and without clipping.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` bits per character.
      baseline: the unigram entropy, drawn across.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, len(panels), width=3.0, height=2.5, sharey="all")
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
    """Draw the global gradient norm before clipping, over steps.

    Args:
      panels: title -> arm ("clipped", "not clipped") -> `[steps, seeds]` norms.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, len(panels), width=3.0, height=2.5, sharey="all")
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


def _training_curves(
    axes: Any, panels: Mapping[str, Mapping[str, np.ndarray]], smooth: int
) -> None:
    """Draw a panel each; the second arm is dashed, so that it does not hide the first one."""
    styles = ((MEASURED, "-"), (BOUND, "--"))
    for ax, (title, arms) in zip(axes, panels.items(), strict=True):
        for (color, line), (arm, curves) in zip(styles, arms.items(), strict=True):
            stride = max(1, min(smooth, len(curves) // MIN_POINTS))
            averaged = _averaged(curves, stride)
            percentiles = np.percentile(averaged, (10, 50, 90), axis=1, method="nearest")
            at = (np.arange(len(averaged)) + 0.5) * stride
            draw_band(ax, at, percentiles, color, f"{arm}, median and 10–90 %", ls=line)
        ax.set(title=title, xlabel="training step")


def _averaged(curves: np.ndarray, stride: int) -> np.ndarray:
    """Return means of `stride` steps each: `[steps // stride, seeds]`."""
    steps = len(curves) // stride * stride
    return curves[:steps].reshape(-1, stride, *curves.shape[1:]).mean(1)
