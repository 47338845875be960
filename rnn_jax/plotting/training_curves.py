"""Draw what is recorded over the steps of training: losses, and norms of gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from rnn_jax.plotting.style import (
    MUTED,
    STYLE,
    arm_color,
    band_of,
    draw_band,
    fit,
    grid_of_panels,
)

MIN_POINTS = 20
"""Least number of points of a curve, unless there are fewer steps."""
LINES = ("-", "--", "-.", ":")
HELD_OUT = {"marker": "o", "ms": 3, "mfc": "white", "lw": 1.0}

Curves = Mapping[str, Mapping[str, np.ndarray]]
"""`title -> arm -> [steps, seeds]`."""


def learning_curves(
    panels: Curves,
    *,
    held_out: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]] | None = None,
    baseline: float | None = None,
    unit: str = "loss",
    baseline_label: str = "without memory",
    limits: tuple[float, float] | None = None,
    smooth: int = 10,
) -> Figure:
    """Draw losses over steps, of any number of arms: on training batches, and on held-out data.

    Each curve is the median over seeds, with a band from the 10th to the 90th percentile.

    Args:
      panels: title -> arm -> `[steps, seeds]`.
      held_out: title -> arm -> (steps before each evaluation `[n]`, `[n, seeds]`), for arms of
        `panels`; drawn in the arm's colour, with circles.
      baseline: a loss to compare with, drawn across; None or NaN for none.
      unit: what the losses are measured in, the label of the axis.
      baseline_label: name of the baseline in the legend.
      limits: lowest and highest loss shown; by default, the range where losses fall.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    baseline = math.nan if baseline is None else baseline
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        for ax, title in zip(axes[0], panels, strict=True):
            _held_out_curves(ax, panels[title], (held_out or {}).get(title, {}))
            if np.isfinite(baseline):
                ax.axhline(baseline, color=MUTED, lw=1, ls=":", label=baseline_label)
        axes[0, 0].set_ylabel(unit)
        curves = [curves for arms in panels.values() for curves in arms.values()]
        curves += [v for arms in (held_out or {}).values() for _, v in arms.values()]
        if limits is None:
            _limit_losses(axes[0, 0], np.concatenate([np.ravel(c) for c in curves]), baseline)
        else:
            axes[0, 0].set_ylim(*limits)
        fit(figure, axes[0])
    return figure


def gradient_norms(panels: Curves, *, clip_norm: float | None = None, smooth: int = 10) -> Figure:
    """Draw the global gradient norm before clipping, over steps, of any number of arms.

    Args:
      panels: title -> arm -> `[steps, seeds]` norms.
      clip_norm: norm that gradients are clipped to, drawn across; None or inf for none.
      smooth: steps averaged for each point, fewer where there are not many.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = grid_of_panels(1, len(panels), width=3.0, height=2.5, sharey="all")
        _training_curves(axes[0], panels, smooth)
        if clip_norm is not None and np.isfinite(clip_norm):
            for ax in axes[0]:
                label = f"clipped to {clip_norm:g}"
                ax.axhline(clip_norm, color=MUTED, lw=1, ls=":", label=label)
        axes[0, 0].set(ylabel="gradient norm before clipping")
        norms = np.concatenate([c.ravel() for arms in panels.values() for c in arms.values()])
        if np.any(np.isfinite(norms) & (norms > 0)):
            axes[0, 0].set(yscale="log")
            axes[0, 0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes[0, 0].yaxis.set_major_formatter("{x:g}")
            axes[0, 0].yaxis.set_minor_formatter(NullFormatter())
        fit(figure, axes[0])
    return figure


def _training_curves(axes: Any, panels: Curves, smooth: int) -> None:
    """Draw a panel each; arms differ in their lines too, so that none hides another."""
    for ax, (title, arms) in zip(axes, panels.items(), strict=True):
        for number, (arm, curves) in enumerate(arms.items()):
            stride = max(1, min(smooth, len(curves) // MIN_POINTS))
            averaged = _averaged(curves, stride)
            at = (np.arange(len(averaged)) + 0.5) * stride
            line = {"ls": LINES[number % len(LINES)], "label": arm}
            _draw(ax, at, averaged, arm_color(number, len(arms)), **line)
        if any(curves.shape[1] > 1 for curves in arms.values()):
            ax.fill_between(
                [], [], color=MUTED, alpha=0.2, lw=0, label="10–90 % of the seeds; lines: medians"
            )
        ax.set(title=title, xlabel="training step")


def _held_out_curves(ax: Any, arms: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
    """Draw the evaluations of each arm that has some."""
    for number, arm in enumerate(arms):
        if arm in held_out:
            at, values = held_out[arm]
            color = arm_color(number, len(arms))
            _draw(ax, at, values, color, label=f"{arm}, held out", **HELD_OUT)


def _draw(ax: Any, at: np.ndarray, curves: np.ndarray, color: Any, **line: Any) -> None:
    """Draw `[n, seeds]` at n steps; of one seed, a line without a band."""
    if len(curves):
        draw_band(ax, at, band_of(curves), color, **line)


def _limit_losses(ax: Any, losses: np.ndarray, baseline: float) -> None:
    """Show the range where losses fall; those that explode leave at the top."""
    finite = losses[np.isfinite(losses)]
    if np.isfinite(baseline):
        lowest = min(finite, default=baseline)
        highest = max(1.6 * baseline, 1.3 * lowest, lowest + 0.1)
        lowest = min(lowest, baseline)
    elif finite.size:
        lowest, highest = finite.min(), np.percentile(finite, 98)
    else:
        return
    margin = 0.05 * (highest - lowest) or 1.0
    ax.set_ylim(lowest - margin, highest + margin)


def _averaged(curves: np.ndarray, stride: int) -> np.ndarray:
    """Return means of `stride` steps each: `[steps // stride, seeds]`."""
    steps = len(curves) // stride * stride
    return curves[:steps].reshape(-1, stride, *curves.shape[1:]).mean(1)
