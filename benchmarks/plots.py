"""How costs grow, drawn: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from rnn_jax.plotting._palette import MARKERS, PALETTE
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import house


def growth_exponent(sizes: np.ndarray, values: np.ndarray, last: int = 3) -> float:
    """Return p of values ~ sizes^p, least squares through the `last` sizes; NaN below two."""
    points = [(n, v) for n, v in sorted(zip(sizes, values, strict=True)) if v > 0][-last:]
    if len(points) < 2:
        return float("nan")
    x, y = np.log(np.array(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def growth(
    columns: Mapping[str, Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]]],
    *,
    title: str,
    letters: Mapping[str, str] | None = None,
) -> Figure:
    """Draw costs against sizes on logarithmic scales, each line with its exponent at its end.

    Args:
      columns: title of a column, whose horizontal axis it names -> quantity -> method -> sizes and
        values, `[n]` each. All columns have the same quantities, one row of panels for each.
      title: title of the figure.
      letters: the letter of a column's size, for the exponents; "n" by default.
    """
    letters = letters or {}
    quantities = list(next(iter(columns.values())))
    methods = list(dict.fromkeys(m for c in columns.values() for q in c.values() for m in q))
    styles = dict(zip(methods, zip(PALETTE, MARKERS, strict=False), strict=False))
    with house():
        shape = (len(quantities), len(columns))
        size = (max(3.6 * shape[1] + 0.6, 8.0), 2.7 * shape[0] + 0.9)
        figure = ShownFigure(figsize=size, layout="constrained")
        axes = figure.subplots(*shape, squeeze=False, sharey="row", sharex="col")
        for column, (name, panels) in enumerate(columns.items()):
            for row, (quantity, lines) in enumerate(panels.items()):
                ax = axes[row, column]
                _panel(ax, lines, styles, letters.get(name, "n"))
                if column == 0:
                    ax.set_ylabel(quantity)
            axes[-1, column].set_xlabel(name)
        for row in axes:
            _apart(row)
        handles = [
            Line2D([], [], color=color, marker=marker, ms=4, label=method)
            for method, (color, marker) in styles.items()
        ]
        # Long names, two lines of them.
        ncols = -(-len(handles) // 2) if len(handles) > 4 else len(handles)
        figure.legend(handles=handles, loc="outside lower center", ncols=ncols)
        figure.suptitle(title)
    return figure


def _panel(ax: Axes, lines, styles, letter: str) -> None:
    ax.set(xscale="log", yscale="log")
    ticks: set[int] = set()
    for method, (sizes, values) in lines.items():
        if len(sizes) == 0:
            continue
        color, marker = styles[method]
        ax.plot(sizes, values, color=color, marker=marker, ms=4)
        ticks |= {int(n) for n in sizes}
        p = growth_exponent(sizes, values)
        if np.isfinite(p):
            exponent = f"${letter}^{{{max(p, 0) if abs(p) < 0.05 else p:.1f}}}$"
            ax.annotate(
                exponent,
                (sizes[-1], values[-1]),
                (5, 0),
                textcoords="offset points",
                color=color,
                va="center",
                fontsize=8,
            )
    apart = np.log(max(ticks) / min(ticks)) / 7
    shown: list[int] = []
    for n in sorted(ticks, reverse=True):
        if not shown or np.log(shown[-1] / n) >= apart:
            shown.append(n)
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    room = max(ticks) / min(ticks)
    ax.set_xlim(min(ticks) / room**0.04, max(ticks) * room**0.14)


def _apart(axes) -> None:
    """Move exponents that would stand on each other up and down."""
    for ax in axes:
        low, high = np.log(ax.get_ylim())
        least = (high - low) * 0.07
        by_end: dict[float, list] = {}
        for text in ax.texts:
            by_end.setdefault(round(float(text.xy[0]), 6), []).append(text)
        for texts in by_end.values():
            texts.sort(key=lambda text: text.xy[1])
            at = np.log([text.xy[1] for text in texts])
            moved = at.copy()
            for i in range(1, len(moved)):
                moved[i] = max(moved[i], moved[i - 1] + least)
            moved += (at - moved).mean()
            height = ax.get_window_extent().height * 72 / ax.figure.dpi
            for text, shift in zip(texts, (moved - at) / (high - low) * height, strict=True):
                text.set_position((5, shift))
