"""Heat maps: tables over two axes, in one range of colours."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_jax.reporting.drawing import Figure, axis, powers_of_ten, reading
from rnn_jax.reporting.panels import Axis, Heatmap
from rnn_jax.reporting.shown import decades, escape, every, gaps, left_out, said_of_gaps

SPAN = 12
"""Powers of ten below the largest entry that have colours of their own."""
BAR = 88
"""Height in pixels of the margin in which the bar of colours stands, below the page's buttons."""
MAX_CELLS, MAX_SIDE, MIN_SIDE = 300_000, 200, 20
"""Most entries of a panel, and most and fewest rows or columns that are shown of a table."""


def draw_heatmap(panel: Heatmap) -> Figure:
    """Return a heat map as a figure, a view for each table."""
    tables = {name: np.asarray(table) for name, table in panel.tables.items()}
    side = int(np.clip((MAX_CELLS / max(len(tables), 1)) ** 0.5, MIN_SIDE, MAX_SIDE))
    is_log = panel.scale == "ln"
    defined = [_defined(panel, table) for table in tables.values()]
    bottom, top, hides = _range(np.concatenate([np.zeros(0), *defined]), panel.scale)
    views = []
    for name, table in tables.items():
        rows, columns = (every(size, side) for size in table.shape)
        t, k = _values(panel.rows, table.shape[0])[rows], _values(panel.columns, table.shape[1])
        k = k[columns]
        z = table[np.ix_(rows, columns)]
        if panel.causal:
            z = np.where(k > t[:, None], np.array(np.nan, z.dtype), z)
        trace = {
            "type": "heatmap",
            "name": escape(name),
            "x": k,
            "y": t,
            "z": decades(z, panel.scale),
            **({"customdata": gaps(z, "ln")} if is_log else {}),
            "zmin": bottom,
            "zmax": top,
            "colorscale": "Viridis",
            "colorbar": _bar(is_log),
            "hoverongaps": False,
            "hovertemplate": f"{escape(panel.rows.letter)} = %{{y}}<br>"
            f"{escape(panel.columns.letter)} = %{{x}}<br>"
            f"{escape(panel.value)} = {reading('z', panel.scale)}<extra></extra>",
        }
        views.append((name, [trace]))
    shapes = np.array([table.shape for table in tables.values()] or [(0, 0)])
    hidden = f" over {SPAN} powers of ten; what is smaller has the darkest" if hides else ""
    layout = {
        "xaxis": axis(panel.columns.label, showgrid=False),
        "yaxis": axis(panel.rows.label, showgrid=False),
        "margin": {"l": 10, "r": 12, "t": BAR, "b": 10},
    }
    return Figure(
        views=views,
        layout=layout,
        control="list" if len(views) > 1 else "",
        notes=[panel.note, f"Colours: {panel.value}{hidden}.", said_of_gaps(defined, panel.scale)],
        dropped=[
            left_out(count, side, f"values of {of.letter}")
            for count, of in zip(shapes.max(0).tolist(), panel.axes, strict=True)
        ],
        square=panel.causal,
    )


def _values(of: Axis, count: int) -> np.ndarray:
    return np.arange(count) if of.values is None else np.asarray(of.values)[:count]


def _defined(panel: Heatmap, table: np.ndarray) -> np.ndarray:
    """Return the entries that mean something: those with k ≤ t, if the panel is causal."""
    if not panel.causal:
        return table.ravel()
    t, k = _values(panel.rows, table.shape[0]), _values(panel.columns, table.shape[1])
    return table[k <= t[:, None]]


def _range(entries: np.ndarray, scale: str) -> tuple[float, float, bool]:
    """Return the ends of the colours, and whether entries below have no colour of their own."""
    shown = decades(entries, scale)
    finite = shown[np.isfinite(shown)]
    if not finite.size:
        return -1.0, 0.0, False
    bottom, top = float(finite.min()), float(finite.max())
    hides = scale == "ln" and bottom < top - SPAN
    bottom = top - SPAN if hides else bottom
    return bottom, top if top > bottom else bottom + 1, hides


def _bar(is_log: bool) -> dict[str, Any]:
    """Return the bar of colours above the map, where it takes no width."""
    return {
        "orientation": "h",
        "thickness": 12,
        # In the margin that is left for it: where a bar makes room for itself, plotly puts the
        # title of the axis below in a wrong place, and a title of the bar onto the bar.
        "yref": "container",
        "y": 1.0,
        "yanchor": "top",
        "ypad": 30,
        "len": 0.9,
        "outlinewidth": 0,
        "ticks": "outside",
        **(powers_of_ten() if is_log else {}),
    }
