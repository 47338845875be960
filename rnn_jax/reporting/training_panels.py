"""Panels of training: learning curves of any number of arms, and what telemetry has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.reporting.norms_by_lag import percentiles
from rnn_jax.reporting.panels import Axis, Line, Lines, Panel, Scale, Slider

STYLES = ("line", "dashed", "dotted")
SMOOTHED_TO = 200
"""Points of a training curve: means over as many steps as this takes."""
MOST_BANDS = 6
"""Arms up to which each has its band."""
LOG_FROM = 30
"""Ratio of the largest to the smallest loss from which their axis is logarithmic."""
PER_STEP = {
    "omega": ("Ω = Σ_t (r_t − 1)², r_t = ‖∂L/∂s_{t−1}‖ / ‖∂L/∂s_t‖", "Ω", "log"),
    "decay_rate": ("Decay rate of the gradient", "nats per step", "linear"),
    "horizon": ("Effective horizon of the gradient", "steps", "log"),
}
"""Metrics of telemetry that are drawn over the steps of training: heading, label and scale."""


class Curve(NamedTuple):
    """Values over steps.

    Attributes:
      view: which of several frames it stands in.
      label: its name there.
      values: `[n, networks]`.
      steps: `[n]`; None for one value a step.
    """

    view: str
    label: str
    values: Any
    steps: Any = None


def curves_panel(
    title: str,
    y: str,
    curves: Sequence[Curve],
    *,
    scale: Any = "linear",
    across: Mapping[str, float] | None = None,
) -> Lines:
    """Return curves, medians over networks with their 10–90 % band.

    Args:
      title, y: heading, and label of the axis.
      curves: of any number of arms.
      scale: of y; "loss" for one that fits the medians.
      across: numbers to compare with, drawn across by their names.
    """
    labels = list(dict.fromkeys(curve.label for curve in curves))
    views: dict[str, list[Line]] = {}
    averaged = 1
    many = len(labels) > MOST_BANDS
    for curve in curves:
        number = labels.index(curve.label)
        line, each = _line(curve, STYLES[number % len(STYLES)], number)
        line = line._replace(band=None) if many else line
        averaged = max(averaged, each)
        views.setdefault(curve.view, []).append(line)
    if scale == "loss":
        scale, limits = _range_of_losses([line.y for lines in views.values() for line in lines])
    else:
        limits = None
    for lines in views.values():
        ends = [np.asarray(line.x) for line in lines if len(np.asarray(line.x))]
        if not ends:
            continue
        first, last = min(x[0] for x in ends), max(x[-1] for x in ends)
        for name, value in (across or {}).items():
            if np.isfinite(value):
                level = np.full(2, float(value))
                at = np.array([first, last])
                lines.append(Line(name, level, at, style="dashed", color=-1))
    notes = []
    if max((np.shape(curve.values)[1] for curve in curves), default=1) > 1:
        bands = "" if many else ", bands the range from 10 to 90 % of them"
        notes.append(f"Lines are medians over networks{bands}.")
    if averaged > 1:
        notes.append(f"Points are means of {averaged} steps where there is a value for each step.")
    if limits is not None:
        notes.append("What leaves the frame is seen after a double click.")
    note = " ".join(notes)
    return Lines(title, "training step", y, views, scale=scale, limits=limits, note=note)


def _range_of_losses(losses: Sequence[Any]) -> tuple[Scale, tuple[float, float] | None]:
    """Return the scale of an axis of losses, and what of it is shown: medians, not their bands.

    Logarithmic where all are positive and the largest is 30 times the smallest.
    """
    known = np.concatenate([np.zeros(0), *losses])
    known = known[np.isfinite(known)]
    if not known.size:
        return "linear", None
    low, high = float(known.min()), float(known.max())
    if low > 0 and high > LOG_FROM * low:
        return "log", (low / 1.3, high * 1.3)
    margin = 0.05 * max(high - low, 1e-3 * max(abs(high), 1e-30))
    return "linear", (low - margin, high + margin)


def _line(curve: Curve, style: str, color: int) -> tuple[Line, int]:
    """Return a curve as a line, and of how many steps each of its points is the mean."""
    values, each = np.asarray(curve.values, float), 1
    steps = np.arange(len(values)) if curve.steps is None else np.asarray(curve.steps)
    if curve.steps is None and len(values) > SMOOTHED_TO:
        each = -(-len(values) // SMOOTHED_TO)
        whole = len(values) // each * each
        with np.errstate(invalid="ignore"):  # ∞ − ∞
            values = values[:whole].reshape(-1, each, values.shape[1]).mean(1)
        steps = steps[:whole].reshape(-1, each).mean(1)
    low, middle, high = percentiles(values, (10, 50, 90), axis=1)
    band = (low, high) if values.shape[1] > 1 else None
    return Line(curve.label, middle, steps, band, style=style, color=color), each


def telemetry_panels(record: Mapping[str, Any], *, name: str = "") -> list[Panel]:
    """Return what telemetry measured: ‖∂L/∂s_t‖ under a slider, and the rest over steps.

    Args:
      record: `state_log_norms [steps, networks, T]`, other metrics `[steps, networks]`, matrices
        `spectral_norm/W [steps, networks, ..]`. Steps without a measurement, NaN, are left out.
      name: of the network, where there are several; it stands in the headings.
    """
    of = f" of {name}" if name else ""
    norms = np.asarray(record["state_log_norms"])
    measured = np.flatnonzero(~np.isnan(norms).all((1, 2)))
    low, middle, high = percentiles(norms[measured], (10, 50, 90), axis=1)
    band = (low, high) if norms.shape[1] > 1 else None
    over = f"Median over {norms.shape[1]} networks, and 10–90 %. " if band else ""
    states = Axis("t", "state t of the window", np.arange(1, norms.shape[2] + 1))
    panels: list[Panel] = [
        Slider(
            f"Gradient at the states over training{of}",
            states,
            "‖∂L/∂s_t‖",
            measured,
            middle,
            band,
            note=f"{over}L is the loss of a batch, s_t the state that step t makes; "
            "the slider goes through the steps of training.",
        )
    ]
    for key, (title, label, scale) in PER_STEP.items():
        if key in record:
            values = np.asarray(record[key])
            at = np.flatnonzero(~np.isnan(values).all(1))
            curve = Curve("", label, values[at], None if len(at) == len(values) else at)
            panels.append(curves_panel(f"{title}{of}", label, [curve], scale=scale))
    matrices = list(_matrices(record))
    if matrices:
        title = f"Recurrent matrices{of}"
        panels.append(curves_panel(title, "‖W‖₂ and ρ(W)", matrices, across={"1": 1.0}))
    return panels


def _matrices(record: Mapping[str, Any]) -> list[Curve]:
    """Return ‖W‖₂ and ρ(W) of each matrix, those of several gates by their numbers."""
    symbols = {"spectral_norm": "‖{}‖₂", "spectral_radius": "ρ({})"}
    curves = []
    for key in sorted(record):
        kind, _, name = key.partition("/")
        if kind in symbols:
            values = np.asarray(record[key])
            values = values.reshape(*values.shape[:2], -1)
            several = values.shape[2] > 1
            for n in range(values.shape[2]):
                matrix = f"{name}[{n}]" if several else name
                curves.append(Curve("", symbols[kind].format(matrix), values[..., n]))
    return curves
