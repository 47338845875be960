"""Panels of norms over (t, k): maps of them, and their decay by lag against its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.reporting.drawing import BOUND, MEASURED, PRODUCT
from rnn_jax.reporting.panels import Axis, Heatmap, Line, Lines
from rnn_jax.reporting.shown import LN10

STATES = "States count from 0, the initial one: step t makes s_t, and E_t is read from s_t."
BOUNDS = {
    "power": ("bound (λ_W λ_φ)^(t−k)", "dashed", BOUND),
    "product": ("bound Π‖J_i‖", "dotted", PRODUCT),
}
"""Label, style and colour of the bounds that have them; others are named by their names."""
ROOM = 0.6
"""Of the range of what is measured: how far above it the frame goes on, for bounds to be seen."""


def percentiles(tables: Any, at: Any = 50, axis: int = 0) -> np.ndarray:
    """Return percentiles that are entries of `tables`, since between −∞ and a number is nothing.

    Of no entries they are NaN.
    """
    tables = np.asarray(tables)
    if not tables.shape[axis]:
        rest = np.delete(tables.shape, axis)
        return np.full((*np.shape(at), *rest), np.nan)
    return np.percentile(tables, at, axis=axis, method="nearest")


def state_map(tables: Mapping[str, Any], *, note: str = "") -> Heatmap:
    """Return a map of ‖∂s_t/∂s_k‖, medians of ln norms `[networks, T+1, T+1]` by name."""
    return Heatmap(
        "Norms of ∂s_t/∂s_k over (t, k)",
        "‖∂s_t/∂s_k‖",
        {name: percentiles(table) for name, table in tables.items()},
        Axis("t", "state t"),
        Axis("k", "state k"),
        causal=True,
        note=f"{STATES} {_over(tables)}{note}",
    )


def loss_map(tables: Mapping[str, Any], *, note: str = "") -> Heatmap:
    """Return a map of ‖∂E_t/∂s_k‖, medians of ln norms `[networks, T, T+1]`, E_{t+1} at [:, t]."""
    medians = {name: percentiles(table) for name, table in tables.items()}
    T = max((len(table) for table in medians.values()), default=0)
    return Heatmap(
        "Norms of ∂E_t/∂s_k over (t, k)",
        "‖∂E_t/∂s_k‖",
        medians,
        Axis("t", "loss at step t", np.arange(1, T + 1)),
        Axis("k", "state k"),
        causal=True,
        note=f"{STATES} {_over(tables)}{note}",
    )


def _over(tables: Mapping[str, Any]) -> str:
    """Return the sentence about what a median is taken over."""
    networks = max((len(table) for table in tables.values()), default=0)
    return f"Medians over {networks} networks or sequences. " if networks > 1 else ""


def by_lag(tables: Any) -> np.ndarray:
    """Return percentiles 10, 50 and 90 by lag t − k of `[networks, T+1, T+1]`: `[3, T+1]`."""
    tables = np.asarray(tables)
    lags = range(tables.shape[-1])
    of = [np.diagonal(tables, -lag, -2, -1).ravel() for lag in lags]
    return np.stack([percentiles(diagonal, (10, 50, 90)) for diagonal in of], axis=1)


def decay(groups: Mapping[str, Mapping[str, Any]], *, note: str = "") -> Lines:
    """Return ‖∂s_t/∂s_k‖ by lag against its bounds.

    Args:
      groups: name -> tables `[networks, T+1, T+1]` of natural logarithms: `measured`, and bounds by
        their names, "power" and "product" among them.
      note: a further sentence.
    """
    views, finite = {}, [np.zeros(1)]  # ln 1, at lag 0, is always there
    for name, tables in groups.items():
        low, middle, high = by_lag(tables["measured"])
        finite.append(np.concatenate([low, middle, high]))
        measured = "measured, median and 10–90 %"
        lines = [Line(measured, middle, band=(low, high), color=MEASURED)]
        others = [bound for bound in tables if bound != "measured"]
        for number, bound in enumerate(others):
            label, style, color = BOUNDS.get(bound, (f"bound: {bound}", "dashed", 3 + number))
            middle = by_lag(tables[bound])[1]
            lines.append(Line(label, middle, style=style, color=color))
        views[name] = lines
    entries = np.concatenate(finite)
    entries = entries[np.isfinite(entries)]
    room = max(float(entries.max() - entries.min()), LN10)
    return Lines(
        "Decay by lag, against bounds",
        "lag t − k (steps)",
        "‖∂s_t/∂s_k‖",
        views,
        scale="ln",
        limits=(float(entries.min()) - 0.05 * room, float(entries.max()) + ROOM * room),
        note="Lines are medians over all pairs (t, k) of a lag, of all networks or sequences. "
        f"Bounds may leave the frame; a double click shows all of them. {note}".strip(),
    )
