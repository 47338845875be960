"""What all figures of a report have in common: colours, axes, how a number is read."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from rnn_jax.errors import optional
from rnn_jax.reporting.shown import escape

COLORS = ("#1878cc", "#f06000", "#186c60", "#9c0000", "#18306c", "#3c0c18")
"""Colours of lines, those of `rnn_jax.plotting` that are seen on white as thin lines: told apart by
readers who see two primary colours, too. Dashes also differ."""
MEASURED, BOUND, PRODUCT, MUTED = 0, 1, 2, "#80858d"
"""Numbers of the colours that a kind of line always has, and the grey of what is drawn across."""
TEXT = "#1a1a1a"
BAND_OPACITY = 0.22


class Figure(NamedTuple):
    """What the page draws.

    Attributes:
      views: label and traces of each, of which one is drawn at a time.
      layout: of all views.
      control: how a view is chosen: by a slider, from a list, or not at all, where there is one.
      notes: sentences below the heading.
      dropped: sentences, without their full stops, about what is left out.
      square: whether the frame is as high as it is wide.
      letters: length of the longest legend, in letters, which takes room below the frame.
    """

    views: list[tuple[str, list[dict[str, Any]]]]
    layout: dict[str, Any]
    control: Literal["slider", "list", ""]
    notes: list[str]
    dropped: list[str]
    square: bool = False
    letters: int = 0


def shared_layout() -> dict[str, Any]:
    """Return what every figure's layout begins with."""
    return {
        "autosize": True,
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": TEXT},
        "margin": {"l": 10, "r": 12, "t": 34, "b": 10},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": "white", "font": {"color": TEXT}, "align": "left"},
        "uirevision": "kept",  # what a reader has zoomed stays when the view changes
    }


def axis(label: str, scale: str = "linear", **more: Any) -> dict[str, Any]:
    """Return an axis; one of logarithms is labelled by the powers of ten themselves."""
    scales: dict[str, dict[str, Any]] = {
        "ln": powers_of_ten(),
        "log": {"type": "log", "exponentformat": "power", "nticks": 6},
    }
    return {
        "title": {"text": escape(label), "standoff": 8},
        "automargin": True,
        "gridcolor": "#e3e3e3",
        "linecolor": "#777777",
        "showline": True,
        "zeroline": False,
        "ticks": "outside",
        **scales.get(scale, {}),
        **more,
    }


def powers_of_ten() -> dict[str, str]:
    """Return how ticks at decimal logarithms are labelled."""
    return {"tickprefix": "10<sup>", "ticksuffix": "</sup>"}


def reading(letter: str, scale: str) -> str:
    """Return how hovering tells a number; a logarithm is told as a power of ten, and as it is."""
    if scale == "ln":
        return f"10<sup>%{{{letter}:.2f}}</sup> (ln: %{{customdata:.4f}})"
    return f"%{{{letter}:.6g}}"


def color_of(number: int, count: int) -> str:
    """Return the colour of a line: grey, one of a few, or of many in their order."""
    if number < 0:
        return MUTED
    if count <= len(COLORS):
        return COLORS[number % len(COLORS)]
    colors = optional("plotly.colors", 'pip install "plotly>=6"')
    at = 0.88 * number / max(count - 1, 1)  # without the yellow, which white hides
    return colors.sample_colorscale("Viridis", min(at, 1.0))[0]
