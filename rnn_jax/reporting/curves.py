"""Lines with bands and errors, and lines that a slider chooses among."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_jax.reporting.drawing import (
    BAND_OPACITY,
    MEASURED,
    Figure,
    axis,
    color_of,
    reading,
)
from rnn_jax.reporting.panels import Line, Lines, Slider
from rnn_jax.reporting.shown import LN10, decades, escape, every, gaps, left_out, said_of_gaps

DASHES = {"line": "solid", "dashed": "dash", "dotted": "dot", "points": "solid"}
MAX_POINTS, MAX_STEPS, MAX_SLIDER_POINTS = 1000, 100, 400
"""Most points of a line, and most steps of a slider and points at each, that are shown."""
LEGEND_MARK = 9
"""Letters for which the mark of a line in the legend takes room."""
SINGLE = 40
"""Points up to which a line has marks, so that those between gaps are seen."""


def draw_lines(panel: Lines) -> Figure:
    """Return lines as a figure, a view for each group."""
    views = []
    for name, lines in panel.views.items():
        traces: list[dict[str, Any]] = []
        numbers = [n if line.color is None else line.color for n, line in enumerate(lines)]
        count = max(numbers, default=0) + 1
        for line, number in zip(lines, numbers, strict=True):
            traces += _traces(line, panel.x, panel.scale, color_of(number, count))
        views.append((name, traces))
    lines = [line for group in panel.views.values() for line in group]
    ends = [np.asarray(end) for line in lines for end in (line.y, *(line.band or ()))]
    longest = max((len(np.asarray(line.y)) for line in lines), default=0)
    entry = lambda line: len(line.label) + LEGEND_MARK
    y = axis(panel.y, panel.scale)
    if panel.limits is not None:
        y["range"] = [_position(limit, panel.scale) for limit in panel.limits]
    return Figure(
        views=views,
        layout={
            "xaxis": axis(panel.x),
            "yaxis": y,
            "legend": _legend(),
            "showlegend": len({line.label for line in lines}) > 1,
        },
        control="list" if len(views) > 1 else "",
        notes=[panel.note, said_of_gaps(ends, panel.scale)],
        dropped=[left_out(longest, MAX_POINTS, "points of the longest line")],
        letters=max((sum(map(entry, lines)) for lines in panel.views.values()), default=0),
    )


def draw_slider(panel: Slider) -> Figure:
    """Return lines of which a slider draws one, in one frame for all."""
    values, steps = np.asarray(panel.values), np.asarray(panel.steps)
    rows, at = every(len(steps), MAX_STEPS), every(values.shape[1], MAX_SLIDER_POINTS)
    x = np.arange(values.shape[1]) if panel.x.values is None else np.asarray(panel.x.values)
    ends = () if panel.band is None else tuple(np.asarray(end) for end in panel.band)
    views = []
    for row in rows:
        band = (ends[0][row, at], ends[1][row, at]) if ends else None
        line = Line(panel.y, values[row, at], x[at], band)
        traces = _traces(line, panel.x.letter, panel.scale, color_of(MEASURED, 1))
        views.append((str(steps[row]), traces))
    frame = np.concatenate([decades(v, panel.scale)[rows].ravel() for v in (values, *ends)])
    y = axis(panel.y, panel.scale)
    y["range"] = _room(frame, panel.scale)
    span = [float(x[0]), float(x[-1])] if len(x) > 1 else None
    return Figure(
        views=views,
        layout={"xaxis": axis(panel.x.label, range=span), "yaxis": y, "showlegend": False},
        control="slider",
        notes=[panel.note, said_of_gaps([values], panel.scale)],
        dropped=[
            left_out(len(steps), MAX_STEPS, "steps"),
            left_out(values.shape[1], MAX_SLIDER_POINTS, f"values of {panel.x.letter}"),
        ],
    )


def _traces(line: Line, letter: str, scale: str, color: str) -> list[dict[str, Any]]:
    """Return a line, and before it its band."""
    y = np.asarray(line.y)
    x = np.arange(len(y)) if line.x is None else np.asarray(line.x)
    at = every(len(y), MAX_POINTS)
    group = escape(line.label)
    is_points = line.style == "points"
    mark = "+markers" if 2 < len(at) <= SINGLE or len(at) == 1 else ""
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": group,
        "legendgroup": group,
        "mode": "markers" if is_points else f"lines{mark}",
        "x": x[at],
        "y": decades(y[at], scale),
        "line": {"color": color, "width": 2, "dash": DASHES[line.style]},
        "marker": {"color": color, "size": 7 if is_points else 4},
        "hovertemplate": f"{escape(letter)}: %{{x}}<br>%{{fullData.name}}: "
        f"{reading('y', scale)}<extra></extra>",
    }
    if scale == "ln":
        trace["customdata"] = gaps(y[at], "ln")
    if line.errors is not None:
        trace["error_y"] = {"array": gaps(np.asarray(line.errors)[at], "linear"), "width": 2}
    if line.band is None:
        return [trace]
    low, high = (decades(np.asarray(end)[at], scale) for end in line.band)
    outline = _outline(x[at].astype(float), low, high)
    band = {
        "type": "scatter",
        "name": f"{group}, band",
        "legendgroup": group,
        "mode": "none",
        "x": outline[0],
        "y": outline[1],
        "fill": "toself",
        "fillcolor": color,
        "opacity": BAND_OPACITY,
        "hoverinfo": "skip",
        "showlegend": False,
    }
    return [band, trace]


def _outline(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outlines of a band, one for each stretch without a gap, with NaN between."""
    whole = np.isfinite(low) & np.isfinite(high)
    cuts = np.flatnonzero(np.diff(whole.astype(int))) + 1
    xs: list[Any] = []
    ys: list[Any] = []
    for at in np.split(np.arange(len(x)), cuts):
        if len(at) and whole[at[0]]:
            xs += [x[at], x[at][::-1], [np.nan]]
            ys += [high[at], low[at][::-1], [np.nan]]
    if not xs:
        return np.zeros(0), np.zeros(0)
    return np.concatenate(xs), np.concatenate(ys)


def _room(drawn: np.ndarray, scale: str) -> list[float] | None:
    """Return the ends of an axis about all that is drawn; None where nothing is."""
    finite = drawn[np.isfinite(drawn)].astype(float)
    if not finite.size:
        return None
    ends = np.array([finite.min(), finite.max()])
    if scale == "log":
        ends = np.log10(ends)
    margin = 0.05 * max(ends[1] - ends[0], 1e-3 * max(abs(ends[1]), 1e-30))
    return [float(ends[0] - margin), float(ends[1] + margin)]


def _position(limit: float, scale: str) -> float:
    """Return where a number stands on its axis, as plotly counts."""
    if scale == "log":
        return float(np.log10(limit))
    return float(limit) / (LN10 if scale == "ln" else 1)


def _legend() -> dict[str, Any]:
    return {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
