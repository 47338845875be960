"""Draw tables over (t, k) as maps.

Norms come as natural logarithms and are drawn in powers of ten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from rnn_jax.errors import check_positive, invalid
from rnn_jax.plotting._decades import power_of_ten, powers_of_ten
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._panels import grid_of_panels, one_panel
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import house
from rnn_jax.plotting._tables import as_numbers

TABLE = "a table [T, T+1], [T+1, T+1] or [T, T] of ln norms, with batch axes behind or none"
LOSS_TO_STATE = r"$\|\partial E_t / \partial s_k\|_2$"
HATCHES = {"zero": "////", "not finite": "xxxx"}
NO_GRID = {"axes.grid": False}


def heatmap(
    table: Any,
    *,
    first: tuple[int, int] | None = None,
    label: str = LOSS_TO_STATE,
    span: float = 12.0,
    title: str = "",
    legend: bool = True,
    ax: Axes | None = None,
) -> Any:
    """Draw one table of norms over (t, k), with its colour bar.

    Cells of k > t, where there is no gradient, stay empty. Norms that are zero and ones that are
    not finite are hatched, and those below the colour bar have its lowest colour; the legend says
    so.

    Args:
      table: natural logarithms at [t, k]: `[T, T+1]`, as `state_log_norms` of `gradients.decompose`
        (or all that it returns); `[T+1, T+1]`, as of `gradients.jacobian_log_norms`. Of more axes,
        `[t, k, *batch]`, the median over the batch is drawn.
      first: t and k of the first row and column; by default (1, 0) where k has one more than t, as
        for losses and states, and (0, 0) for a square table.
      label: what is drawn, beside the colour bar.
      span: decades shown below the largest value.
      title, legend, ax: as for `norms`; the colour bar takes its room from `ax`.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: no table, a span that is not positive, an `ax` that is none.
    """
    check_positive("span", span)
    values = one_table(table)
    t0, k0 = first or ((1, 0) if values.shape[1] == values.shape[0] + 1 else (0, 0))

    def draw(ax: Axes) -> None:
        top = top_of([values])
        image = draw_map(ax, values, top, span, (t0, k0))
        ax.set(title=title, xlabel="state  k", ylabel="step  t")
        bar = _figure_of(ax).colorbar(image, ax=ax)
        name_bar(bar, label)
        explain_cells(ax, [values], top, span, (t0, k0))

    return _without_grid(ax, draw, legend)


def _without_grid(ax: Axes | None, draw: Any, legend: bool) -> Any:
    """Draw one panel that has no grid, whoever's it is."""
    if ax is not None:
        return one_panel(ax, draw, legend=legend)
    with house(NO_GRID):
        return one_panel(None, draw, legend=legend, height=2.95)


def _figure_of(ax: Axes) -> Any:
    """Return the figure or subfigure that a panel stands in."""
    return ax.get_figure(root=False)


def one_table(table: Any) -> np.ndarray:
    """Return a table `[t, k]`, the median over what other axes there are.

    Raises:
      ValueError: what is no table of that kind.
    """
    values = as_numbers("table", getattr(table, "state_log_norms", table), TABLE)
    fits = values.ndim >= 2 and values.size and 0 <= values.shape[1] - values.shape[0] <= 1
    if not fits:
        raise invalid("table", values, TABLE, "Pass decompose(...).state_log_norms, say.")
    flat = values.reshape(*values.shape[:2], -1)
    if flat.shape[2] == 1:
        return flat[..., 0]
    # Picked, not interpolated: between -inf and a number there is nothing.
    return np.percentile(flat, 50, axis=2, method="nearest")


def heatmaps(panels: Mapping[str, Mapping[str, np.ndarray]], *, span: float = 12.0) -> ShownFigure:
    """Draw ‖∂E_t/∂s_k‖ over (t, k): state 0 is the initial one, E_t is read from state t.

    Args:
      panels: column title -> row title -> natural logs `[T, T+1]`, E_{t+1} and s_k at [t, k].
      span: decades shown below the largest value of all panels; what is smaller has one colour.
    """
    rows = list(next(iter(panels.values())))
    tables = [np.asarray(table) for by_row in panels.values() for table in by_row.values()]
    with house(NO_GRID):
        figure, axes = grid_of_panels(
            len(rows), len(panels), height=2.1, sharey="all", narrowest=1.9
        )
        top = top_of(tables)
        for column, (title, by_row) in enumerate(panels.items()):
            for row, (phase, table) in enumerate(by_row.items()):
                ax = axes[row, column]
                image = draw_map(ax, np.asarray(table), top, span, (1, 0))
                ax.set(title=f"{title}\n{phase}", xlabel="state  k", ylabel="loss at step  t")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        name_bar(bar, f"{LOSS_TO_STATE}, median over seeds")
        explain_cells(axes[0, 0], tables, top, span, (1, 0))
        fit(figure, axes.flat)
    return figure


def top_of(tables: Sequence[np.ndarray]) -> float:
    """Return the largest finite value of tables of ln norms, in decades; 0 where there is none."""
    finite = np.concatenate([table[np.isfinite(table)] for table in tables])
    return float(finite.max() / np.log(10)) if finite.size else 0.0


def draw_map(ax: Axes, table: np.ndarray, top: float, span: float, first: tuple[int, int]) -> Any:
    """Draw a table of ln norms in decades from top − span to top; return the mesh.

    Zero has the colour under the map and NaN that over it, both white, and are hatched.
    """
    t, k = first[0] + np.arange(len(table)), first[1] + np.arange(table.shape[1])
    cells = kinds_of(table, first)
    shown = np.maximum(table / np.log(10), top - span)
    shown = np.where(
        cells["zero"], top - 2 * span, np.where(cells["not finite"], top + span, shown)
    )
    shown = np.ma.masked_where(cells["empty"], shown)
    colors = matplotlib.colormaps[matplotlib.rcParams["image.cmap"]].with_extremes(
        under="white", over="white", bad=(1, 1, 1, 0)
    )
    image = ax.pcolormesh(
        k, t, shown, cmap=colors, vmin=top - span, vmax=top, shading="nearest", rasterized=True
    )
    for kind, hatch in HATCHES.items():
        _hatch(ax, cells[kind], first, hatch)
    ax.grid(visible=False)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))
    return image


def kinds_of(table: np.ndarray, first: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return which cells have no gradient (k > t), which are zero and which are not finite."""
    t, k = first[0] + np.arange(len(table)), first[1] + np.arange(table.shape[1])
    empty = k > t[:, None]
    return {
        "empty": empty,
        "zero": (table == -np.inf) & ~empty,
        "not finite": (np.isnan(table) | (table == np.inf)) & ~empty,
    }


def _hatch(ax: Axes, cells: np.ndarray, first: tuple[int, int], hatch: str) -> None:
    """Hatch cells, each run of a row as one rectangle."""
    paths = []
    for row, marked in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(int), [0]])))
        low = first[0] + row - 0.5
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            left, right = first[1] + start - 0.5, first[1] + stop - 0.5
            corners = [(left, low), (right, low), (right, low + 1), (left, low + 1), (left, low)]
            paths.append(Path(corners, closed=True))
    if paths:
        joined = Path.make_compound_path(*paths)
        ax.add_patch(PathPatch(joined, fc="none", ec="0.45", lw=0, hatch=hatch))


def name_bar(bar: Any, label: str) -> None:
    """Name a colour bar of decades."""
    bar.set_label(label)
    powers_of_ten(bar.ax.yaxis)


def explain_cells(
    ax: Axes, tables: Sequence[np.ndarray], top: float, span: float, first: tuple[int, int]
) -> None:
    """Add to the legend what cells are whose value no colour tells, of those that there are."""
    kinds = [kinds_of(table, first) for table in tables]
    low = top - span
    below = [np.isfinite(table) & (table / np.log(10) < low - 1e-9) for table in tables]
    entries: dict[str, tuple[list[np.ndarray], dict[str, Any]]] = {
        "empty: k > t, no gradient": ([k["empty"] for k in kinds], {"fc": "white", "ec": "0.6"}),
        f"below {power_of_ten(round(low, 1))}": (
            below,
            {"fc": matplotlib.colormaps[matplotlib.rcParams["image.cmap"]](0.0)},
        ),
        "zero": ([k["zero"] for k in kinds], {"hatch": HATCHES["zero"]}),
        "not finite": ([k["not finite"] for k in kinds], {"hatch": HATCHES["not finite"]}),
    }
    for label, (cells, style) in entries.items():
        if any(each.any() for each in cells):
            look: dict[str, Any] = {"fc": "white", "ec": "0.45", "lw": 0.5, **style}
            ax.fill([], [], label=label, **look)  # nothing in the panel
