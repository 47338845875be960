"""Grids of panels at the width of a page, and the one panel that a user's Axes may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.errors import invalid
from rnn_jax.plotting._fit import fit, legend_inside
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import HEIGHT, figure_size, house, house_colors

MIN_WIDTH = {True: 1.55, False: 2.0}
"""Least width of a panel in inches, with and without numbers that it shares with its neighbour."""
FOR_LEGEND = 0.4
"""Height in inches of two rows of a legend."""

Share = Literal["all", "row", False]


def grid_of_panels(
    rows: int,
    columns: int,
    *,
    height: float = 1.75,
    sharey: Share = False,
    width: float | None = None,
    narrowest: float | None = None,
) -> tuple[ShownFigure, Any]:
    """Return a figure as wide as its page and its panels `[rows, columns]`.

    Columns that have no room beside the others go on below them.

    Args:
      rows, columns: of panels.
      height: of a panel in inches.
      sharey: panels with one vertical axis: "all", those of a "row", or none.
      width: of the figure in inches; that of the user, or of the page, by default.
      narrowest: least width of a panel in inches.
    """
    page, given = figure_size(rows * columns)
    page = width or page
    least = narrowest or MIN_WIDTH[bool(sharey)]
    beside = max(1, min(columns, int(page / least)))
    beside = -(-columns // -(-columns // beside))  # rows of equal length
    blocks = -(-columns // beside)
    size = (page, given or height * rows * blocks + FOR_LEGEND)
    figure = ShownFigure(figsize=size, layout="constrained")
    places = figure.subplots(rows * blocks, beside, squeeze=False)
    axes = np.empty((rows, columns), dtype=object)
    used = set()
    for row in range(rows):
        for column in range(columns):
            block, place = divmod(column, beside)
            axes[row, column] = places[block * rows + row, place]
            used.add(axes[row, column])
    for ax in places.flat:
        if ax not in used:
            ax.remove()
    _share(axes, sharey, beside)
    return figure, axes


def _share(axes: Any, sharey: Share, beside: int) -> None:
    """Make panels share their vertical axes; those beside another one leave its numbers out."""
    for row in range(len(axes)):
        for column in range(axes.shape[1]):
            first = {"all": axes[0, 0], "row": axes[row, 0]}.get(str(sharey))
            if first is None:
                continue
            if axes[row, column] is not first:
                axes[row, column].sharey(first)
            if column % beside:
                axes[row, column].tick_params(labelleft=False)


def one_panel(
    ax: Axes | None, draw: Callable[[Axes], Any], *, legend: bool = True, height: float = HEIGHT
) -> Any:
    """Draw a figure of one panel and return it, or draw into `ax` and return that.

    In an Axes of the user's, type and lines are the user's, and a legend is added where it fits.
    """
    if ax is not None:
        (ax,) = panels_given(ax, 1)
        with house_colors():
            draw(ax)
            if legend:
                legend_inside(ax)
        return ax
    with house():
        figure, axes = grid_of_panels(1, 1, height=height - FOR_LEGEND)
        draw(axes[0, 0])
        fit(figure, axes[0], legend=legend)
    return figure


def several_panels(
    axes: Axes | Sequence[Axes] | None,
    draw: Callable[[Sequence[Axes]], Any],
    count: int,
    *,
    legend: bool = True,
    shape: tuple[int, int] | None = None,
    **grid: Any,
) -> Any:
    """Draw a figure of some panels and return it, or draw into `axes` and return what was given.

    Args:
      axes: None, or as many Axes as there are panels.
      draw: is given the panels.
      count: number of panels.
      legend: whether there is one.
      shape: rows and columns; one row by default.
      grid: as for `grid_of_panels`.
    """
    if axes is not None:
        given = panels_given(axes, count)
        with house_colors():
            draw(given)
            if legend:
                legend_inside(given[0])
        return axes
    with house():
        figure, grid_axes = grid_of_panels(*(shape or (1, count)), **grid)
        draw(list(grid_axes.flat))
        fit(figure, grid_axes.flat, legend=legend)
    return figure


def panels_given(axes: Any, count: int) -> list[Axes]:
    """Return the Axes that a user gives as a list.

    Raises:
      ValueError: something else, or another number of them.
    """
    given = list(np.ravel(np.array(axes, dtype=object)))
    if len(given) != count or not all(isinstance(ax, Axes) for ax in given):
        got = f"{len(given)} of {', '.join(sorted({type(ax).__name__ for ax in given}))}"
        expected = "an Axes of matplotlib" if count == 1 else f"{count} Axes, one for each panel"
        raise invalid("ax", got, expected, "Pass those of figure.subplots(), or nothing.")
    return given
