"""The style of all figures: sizes of a page, type that can be read there, and whose word counts.

Values that a user has set, which are those that are not matplotlib's defaults, stay as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import matplotlib
from cycler import cycler

from rnn_jax.errors import choose
from rnn_jax.plotting._palette import PALETTE

Width = Literal["column", "text"]
WIDTHS: Mapping[str, float] = {"column": 3.3, "text": 6.75}
"""Inches: one column of a page, and all of its text."""
HEIGHT = 2.5
"""Height of one panel with its legend, in inches."""

# "small" is 0.833 of the font size, 7.16 points, whose superscripts have 0.7 of that, 5.0.
COLORS: dict[Any, Any] = {"axes.prop_cycle": cycler(color=PALETTE), "image.cmap": "viridis"}
STYLE: dict[Any, Any] = {
    **COLORS,
    "font.size": 8.6,
    "figure.titlesize": "medium",
    "figure.dpi": 120,
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "axes.labelpad": 3,
    "axes.titlepad": 5,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "legend.fontsize": "small",
    "legend.title_fontsize": "small",
    "legend.frameon": False,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "pdf.fonttype": 42,
    "svg.hashsalt": "rnn_jax",
}


class Style(dict[Any, Any]):
    """rcParams by name, and a context manager that sets them."""

    def __init__(self, settings: Mapping[Any, Any]):
        super().__init__(settings)
        self._entered = contextlib.ExitStack()

    def __enter__(self) -> Style:
        self._entered.enter_context(matplotlib.rc_context(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.pop_all().__exit__(*error)


def style(width: Width = "text") -> Style:
    """Return the rcParams of a figure for one column of a page (3.3 in) or its text (6.75 in).

    At that width labels and titles have 8.6 points, ticks and legends 7.2, and sub- and
    superscripts of formulas, which matplotlib sets at 0.7 of the text about them, 5.0 at least; a
    script of a script would have less. Fonts in a PDF are TrueType.

    A setting of your own, one that differs from matplotlib's default, is left out and so holds;
    one that you set to that very default cannot be told from it.

    ```python
    import matplotlib.pyplot as plt

    with style("column"):
        figure, ax = plt.subplots(layout="constrained")
    ```

    Args:
      width: "column" or "text".

    Returns:
      A dict for `matplotlib.rc_context` or `rcParams.update`, which is a context manager itself.

    Raises:
      ValueError: another width.
    """
    inches = choose("width", width, WIDTHS)
    ours = STYLE | {"figure.figsize": (inches, HEIGHT)}
    sizes = [[each, HEIGHT] for each in WIDTHS.values()]
    chosen = {k: v for k, v in ours.items() if is_default(k) or matplotlib.rcParams[k] == v}
    if list(matplotlib.rcParams["figure.figsize"]) in sizes:  # a style around this one
        chosen["figure.figsize"] = (inches, HEIGHT)
    return Style(chosen)


def is_default(name: Any) -> bool:
    """Return whether a setting is matplotlib's own, so that the house may change it."""
    return bool(matplotlib.rcParams[name] == matplotlib.rcParamsDefault[name])


@contextlib.contextmanager
def house(also: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Set the style, and `also` what a figure needs, where the user has set nothing else."""
    with matplotlib.rc_context(defaults_of({**STYLE, **(also or {})})):
        yield


@contextlib.contextmanager
def house_colors() -> Iterator[None]:
    """Set colours alone, for an Axes whose type and lines are the user's."""
    with matplotlib.rc_context(defaults_of(COLORS)):
        yield


def defaults_of(settings: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return those settings that the user has not set."""
    return {name: value for name, value in settings.items() if is_default(name)}


def figure_size(panels: int) -> tuple[float, float | None]:
    """Return width and, where it is the user's and of one panel, height of a figure in inches."""
    if not is_default("figure.figsize"):
        width, height = matplotlib.rcParams["figure.figsize"]
        return float(width), float(height) if panels == 1 else None
    return WIDTHS["text" if panels > 1 else "column"], None
