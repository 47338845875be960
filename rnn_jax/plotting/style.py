"""Style of all figures: colours, panels, one legend below them, titles that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

MEASURED, BOUND, PRODUCT, MUTED = "#1f5fa8", "#c2410c", "#5b8c2a", "#8a8f98"
COLORS = (MEASURED, BOUND, PRODUCT, "#6b4fa0", "#0f7f7f", "#b3831f")
MIN_WIDTH = 4.4
"""Least width of a figure in inches, so that there is room for its legend."""
ROW = 0.19
"""Height in inches of a row of a legend, two of which a figure has room for."""
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "rnn_jax",
}
PIECES = re.compile(r"\$[^$]*\$\S*\s*|[^\s.:_/$]*[\s.:_/]+|[^\s.:_/$]+|\$")
"""Pieces of a title that are not broken: a formula, or a word up to the next space or sign."""


def fit(figure: Figure, axes: Iterable[Axes], *, legend: bool = True) -> None:
    """Break titles that are wider than their panels, and put one legend below them all."""
    axes = list(axes)
    if legend:
        legend_below(figure, axes)
    figure.draw_without_rendering()  # lays the panels out
    for ax in axes:
        break_lines(ax.title, ax.get_window_extent().width)


def legend_below(figure: Figure, axes: Iterable[Axes], **options: Any) -> Legend | None:
    """Return the legend of the figure: each label of any panel once, in as few rows as fit."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if not entries:
        return None
    renderer = FigureCanvasAgg(figure).get_renderer()
    # Only a legend that stands in the figure knows its width: it is put there and taken out again.
    for rows in range(1, len(entries) + 1):
        legend = figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=-(-len(entries) // rows),
            **options,
        )
        if rows == len(entries) or legend.get_window_extent(renderer).width <= figure.bbox.width:
            break
        legend.remove()
    # The panels keep their height.
    figure.set_figheight(figure.get_figheight() + ROW * max(rows - 2, 0))
    return legend


def break_lines(text: Text, width: float) -> None:
    """Break the lines of a text that are longer than `width`, in pixels."""
    renderer = FigureCanvasAgg(text.get_figure(root=True)).get_renderer()

    def fits(line: str) -> bool:
        formula = "$" in line
        size = renderer.get_text_width_height_descent(
            line.strip(), text.get_fontproperties(), formula
        )
        return size[0] <= width

    lines = text.get_text().split("\n")
    text.set_text("\n".join(part for line in lines for part in _broken(line, fits)))


def _broken(line: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Yield the parts of a line, each as long as fits."""
    current = ""
    for piece in PIECES.findall(line):
        if current and not fits(current + piece):
            yield current.rstrip()
            current = ""
        current += piece
        while len(current) > 1 and "$" not in current and not fits(current):
            cut = next(n for n in range(len(current) - 1, 0, -1) if n == 1 or fits(current[:n]))
            yield current[:cut]
            current = current[cut:]
    if current.strip() or not line:
        yield current.rstrip()


def grid_of_panels(
    rows: int, columns: int, *, width: float, height: float, sharey: Literal["all", "row", False]
) -> tuple[Figure, Any]:
    """Return a figure and its `[rows, columns]` panels, of a size in inches for each."""
    size = (max(width * columns, MIN_WIDTH), height * rows + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=sharey)


def draw_band(
    ax: Axes, x: Any, band: Any, color: str, label: str, alpha: float = 0.2, **line: Any
) -> None:
    """Draw a line and a band about it: `band` is (low, middle, high), each `[len(x)]`."""
    low, middle, high = band
    ax.fill_between(x, low, high, color=color, alpha=alpha, lw=0)
    ax.plot(x, middle, color=color, label=label, **line)


def band_of(curves: Any) -> np.ndarray:
    """Return the 10th, 50th and 90th percentiles over seeds of `[n, seeds]`: `[3, n]`.

    NaN counts as larger than any number: a seed that diverges does not hide the others.
    """
    known = np.where(np.isnan(curves), np.inf, curves)
    # Between an infinite value and another one there is nothing to interpolate.
    nearest = np.percentile(known, (10, 50, 90), axis=1, method="nearest")
    with np.errstate(invalid="ignore"):
        between = np.percentile(known, (10, 50, 90), axis=1)
    return np.where(np.isfinite(known).all(1), between, nearest)


def explain_band(ax: Axes) -> None:
    """Add to the legend what lines and bands of `band_of` are."""
    label = "lines: medians; bands: 10–90 % of the seeds"
    ax.fill_between([], [], color=MUTED, alpha=0.2, lw=0, label=label)


def arm_color(number: int, count: int) -> Any:
    """Return the colour of an arm: one of a few, or of many in their order."""
    if count <= len(COLORS):
        return COLORS[number]
    return matplotlib.colormaps["viridis"](number / (count - 1))


def powers_of_ten(axis: Any) -> None:
    """Label an axis of decimal logarithms by the numbers themselves."""

    def shown(exponent: float, _: Any) -> str:
        whole = abs(exponent - round(exponent)) < 1e-6
        return f"$10^{{{round(exponent)}}}$" if whole else f"{10**exponent:.2g}"

    axis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.set_major_formatter(FuncFormatter(shown))
