"""Draw what is recorded over the steps of training: losses, and norms of gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.plotting._bands import band_of, draw_band, explain_band
from rnn_jax.plotting._decades import one_two_five
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import several_panels
from rnn_jax.plotting._tables import as_numbers

MIN_POINTS = 20
"""Least number of points of a curve, unless there are fewer steps."""
ALONE = 3
"""Points of a curve that is too short to be seen without markers."""
PANELS = "[seeds, steps], a mapping arm -> [seeds, steps], or title -> arm -> [steps, seeds]"

Curves = Mapping[str, Mapping[str, np.ndarray]]
"""`title -> arm -> [steps, seeds]`."""


def learning_curves(
    panels: Any,
    *,
    held_out: Mapping[str, Any] | None = None,
    baseline: float | None = None,
    unit: str = "loss",
    ylabel: str | None = None,
    baseline_label: str = "without memory",
    limits: tuple[float, float] | None = None,
    smooth: int = 10,
    legend: bool = True,
    ax: Any = None,
) -> Any:
    """Draw losses over steps, of any number of arms: on training batches, and on held-out data.

    Each curve is the median over seeds, with a band from the 10th to the 90th percentile.

    Args:
      panels: curves of one panel: `[steps]` or `[seeds, steps]`, or name of an arm -> such an
        array; or of several: title -> arm -> `[steps, seeds]`, time first.
      held_out: of the same form, but each (steps before each evaluation `[n]`, values): `[n]` or
        `[seeds, n]` of one panel, and `[n, seeds]` of several; for arms of `panels`, drawn in the
        arm's colour with markers.
      baseline: a loss to compare with, drawn across; None or NaN for none.
      unit: what the losses are measured in, the label of the axis.
      ylabel: label of the axis in place of `unit`.
      baseline_label: name of the baseline in the legend.
      limits: lowest and highest loss shown; by default, the range where losses fall.
      smooth: steps averaged for each point, fewer where there are not many.
      legend: whether lines are explained.
      ax: Axes of a figure of yours to draw into, or a sequence of them for several panels.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: arrays that are no such curves, an `ax` that does not fit.
    """
    by_title = curves_of(panels)
    evaluated = _evaluations(held_out, by_title) if held_out else {}
    across = math.nan if baseline is None else float(baseline)

    def draw(axes: Any) -> None:
        _training_curves(axes, by_title, smooth)
        for panel, title in zip(axes, by_title, strict=True):
            _held_out_curves(panel, by_title[title], evaluated.get(title, {}))
            if np.isfinite(across):
                panel.axhline(across, color=MUTED, lw=1, ls=":", label=baseline_label)
            panel.set_ylabel(ylabel or unit)
        curves = [curves for arms in by_title.values() for curves in arms.values()]
        curves += [values for arms in evaluated.values() for _, values in arms.values()]
        shown = limits or _range_of(np.concatenate([np.ravel(c) for c in curves]), across)
        if shown:
            for panel in axes:
                panel.set_ylim(*shown)

    return several_panels(ax, draw, len(by_title), legend=legend, sharey="all", height=2.0)


def gradient_norms(
    panels: Any,
    *,
    clip_norm: float | None = None,
    smooth: int = 10,
    legend: bool = True,
    ax: Any = None,
) -> Any:
    """Draw the global gradient norm before clipping, over steps, of any number of arms.

    Args:
      panels: norms, of the forms of `learning_curves`.
      clip_norm: norm that gradients are clipped to, drawn across; None or inf for none.
      smooth, legend, ax: as for `learning_curves`.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: as `learning_curves`.
    """
    by_title = curves_of(panels)

    def draw(axes: Any) -> None:
        _training_curves(axes, by_title, smooth)
        norms = np.concatenate([c.ravel() for arms in by_title.values() for c in arms.values()])
        for panel in axes:
            if clip_norm is not None and np.isfinite(clip_norm):
                label = f"clipped to {clip_norm:g}"
                panel.axhline(clip_norm, color=MUTED, lw=1, ls=":", label=label)
            panel.set_ylabel("gradient norm before clipping")
            if np.any(np.isfinite(norms) & (norms > 0)):
                panel.set(yscale="log")
                one_two_five(panel.yaxis)

    return several_panels(ax, draw, len(by_title), legend=legend, sharey="all", height=2.0)


def curves_of(panels: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return title -> arm -> `[steps, seeds]`, from one panel or several.

    Raises:
      ValueError: what is neither arrays nor mappings of them, or nothing at all.
    """
    remedy = "Pass losses [seeds, steps], say."
    if not isinstance(panels, Mapping):
        return {"": {"": _steps_first("panels", panels)}}
    if not panels:
        raise invalid("panels", "nothing", PANELS, remedy)
    nested = [isinstance(value, Mapping) for value in panels.values()]
    if not any(nested):
        return {"": {str(arm): _steps_first(str(arm), values) for arm, values in panels.items()}}
    if not all(nested):
        raise invalid("panels", "curves and panels together", PANELS, remedy)
    return {
        str(title): {str(arm): _two_axes(str(arm), values) for arm, values in arms.items()}
        for title, arms in panels.items()
    }


def _steps_first(argument: str, values: Any) -> np.ndarray:
    """Return `[steps, seeds]` of `[steps]` or `[seeds, steps]`."""
    return _two_axes(argument, values, seeds_first=True)


def _two_axes(argument: str, values: Any, seeds_first: bool = False) -> np.ndarray:
    """Return `[steps, seeds]`, of one seed too. ValueError for arrays of other axes."""
    curves = as_numbers(argument, values, PANELS)
    if curves.ndim not in (1, 2):
        raise invalid(argument, curves, PANELS, "Take the mean over other axes.")
    if curves.ndim == 1:
        return curves[:, None]
    return curves.T if seeds_first else curves


def _evaluations(held_out: Mapping[str, Any], panels: Curves) -> dict[str, dict[str, Any]]:
    """Return title -> arm -> (steps, `[n, seeds]`), in the form that the panels came in."""
    if all(isinstance(value, Mapping) for value in held_out.values()):
        by_title, seeds_first = held_out, False
    else:
        by_title, seeds_first = {next(iter(panels)): held_out}, True
    return {
        title: {
            arm: (np.asarray(at), _two_axes(str(arm), values, seeds_first))
            for arm, (at, values) in arms.items()
        }
        for title, arms in by_title.items()
    }


def _training_curves(axes: Any, panels: Curves, smooth: int) -> None:
    """Draw a panel each; arms differ in their lines too, so that none hides another."""
    names = list(dict.fromkeys(arm for arms in panels.values() for arm in arms))
    for ax, (title, arms) in zip(axes, panels.items(), strict=True):
        for arm, curves in arms.items():
            number = names.index(arm)
            stride = max(1, min(smooth, len(curves) // MIN_POINTS))
            averaged = _averaged(curves, stride)
            at = (np.arange(len(averaged)) + 0.5) * stride
            line = {"ls": arm_line(number), "label": arm, **_markers(number, len(names), averaged)}
            _draw(ax, at, averaged, arm_color(number, len(names)), **line)
        if any(curves.shape[1] > 1 for curves in arms.values()):
            explain_band(ax)
        ax.set(title=title, xlabel="training step")


def _markers(number: int, count: int, curves: np.ndarray) -> dict[str, Any]:
    """Return markers for curves that are hard to see, and for arms that lines do not tell apart."""
    if len(curves) <= ALONE:
        return {"marker": arm_marker(number)}
    if count <= len({arm_line(n) for n in range(count)}):
        return {}
    every = max(1, len(curves) // 6)
    return {"marker": arm_marker(number), "markevery": (number % every, every), "ms": 3.5}


def _held_out_curves(ax: Any, arms: Mapping[str, Any], held_out: Mapping[str, Any]) -> None:
    """Draw the evaluations of each arm that has some."""
    for number, arm in enumerate(arms):
        if arm in held_out:
            at, values = held_out[arm]
            line = {"marker": arm_marker(number), "ms": 3.5, "mfc": "white", "lw": 1.0}
            label = f"{arm}, held out".lstrip(", ")
            _draw(ax, at, values, arm_color(number, len(arms)), label=label, **line)


def _draw(ax: Any, at: np.ndarray, curves: np.ndarray, color: Any, **line: Any) -> None:
    """Draw `[n, seeds]` at n steps; of one seed, a line without a band."""
    if curves.size:
        draw_band(ax, at, band_of(curves), color, **line)


def _range_of(losses: np.ndarray, baseline: float) -> tuple[float, float] | None:
    """Return the range where losses fall; those that explode leave at the top."""
    finite = losses[np.isfinite(losses)]
    if np.isfinite(baseline):
        lowest = min(finite, default=baseline)
        highest = max(1.6 * baseline, 1.3 * lowest, lowest + 0.1)
        lowest = min(lowest, baseline)
    elif finite.size:
        lowest, highest = finite.min(), np.percentile(finite, 98)
    else:
        return None
    margin = 0.05 * (highest - lowest) or 1.0
    return float(lowest - margin), float(highest + margin)


def _averaged(curves: np.ndarray, stride: int) -> np.ndarray:
    """Return means of `stride` steps each: `[steps // stride, seeds]`."""
    steps = len(curves) // stride * stride
    return curves[:steps].reshape(-1, stride, *curves.shape[1:]).mean(1)
