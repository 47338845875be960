"""Make everything fit a figure: titles, labels, letters and one legend below the panels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from rnn_jax.plotting._broken_lines import broken_text, width_of
from rnn_jax.plotting._letters import letters as add_letters

TWO_ROWS = 0.4
"""Height in inches of a legend that a figure has room for."""
LINE = 0.12
"""Height in inches that a legend has to be lower by for its labels to be broken."""
MOST_COLUMNS, NARROWEST = 8, 0.9
"""Columns of a legend, and the inches a label has at least where labels are broken to fit one."""
LEAST_HEIGHT, TALL = 0.55, 2.2
"""Of a panel, by how high it is meant to be, up to so many inches."""
MOST_ROUNDS = 8
"""Of making a figure taller, in the first half, and of breaking its texts."""
MARGIN = 0.04
"""Inches between a title and the letter before it."""
MAX_INSIDE = (0.9, 0.6)
"""Parts of an Axes of the user's that a legend may take."""


def fit(figure: Figure, axes: Iterable[Axes], *, legend: bool = True, letters: bool = True) -> None:
    """Break titles and labels that are too long, add letters, and one legend below all panels.

    The figure grows taller where titles and legend would leave the panels too little.
    """
    axes = list(axes)
    meant = figure.get_figheight() / max(_rows(axes), 1)
    if letters and len(axes) > 1:
        add_letters(sorted(axes, key=_place))
    if legend:
        legend_below(figure, axes)
    whole = {text: text.get_text() for ax in axes for text in _texts_of(ax)}
    with warnings.catch_warnings():
        # It may be too low as yet, which is what is mended here.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        for turn in range(MOST_ROUNDS):
            lay_out(figure)
            broken = [break_texts(ax, whole) for ax in axes]
            lowest = min(ax.get_window_extent().height for ax in axes) / figure.dpi
            lacking = LEAST_HEIGHT * min(meant, TALL) - lowest
            if lacking > 0 and turn < MOST_ROUNDS // 2:
                figure.set_figheight(figure.get_figheight() + (lacking + 0.05) * _rows(axes))
            elif not any(broken):
                break


def _place(ax: Axes) -> tuple[int, int]:
    """Return row and column of a panel, by which a page is read: columns may go on below others."""
    spec = ax.get_subplotspec()
    return (spec.rowspan.start, spec.colspan.start) if spec is not None else (0, 0)


def lay_out(figure: Figure) -> None:
    """Give panels their places, as drawing the figure does."""
    engine = figure.get_layout_engine()
    if engine is None:
        figure.draw_without_rendering()
    else:
        engine.execute(figure)


def _rows(axes: Sequence[Axes]) -> int:
    """Return how many panels stand above each other."""
    specs = [ax.get_subplotspec() for ax in axes]
    return len({spec.rowspan.start for spec in specs if spec is not None}) or 1


def _texts_of(ax: Axes) -> tuple[Text, Text, Text]:
    return ax.title, ax.xaxis.label, ax.yaxis.label


def break_texts(ax: Axes, whole: Mapping[Text, str]) -> bool:
    """Break title and labels of a panel, given as a whole, by its size; say if any has changed."""
    box, renderer = ax.get_window_extent(), FigureCanvasAgg(_root(ax)).get_renderer()
    changed = False
    title_width = box.width - 2 * MARGIN * _root(ax).dpi
    for text, length in zip(_texts_of(ax), (title_width, box.width, box.height), strict=True):
        broken = broken_text(whole[text], length, text.get_fontproperties(), renderer)
        changed |= broken != text.get_text()
        text.set_text(broken)
    return changed


def _root(ax: Axes) -> Any:
    return ax.get_figure(root=True)


def legend_below(figure: Figure, axes: Iterable[Axes], **options: Any) -> Legend | None:
    """Return the legend of the figure: each label of any panel once, as low as it can be made.

    Labels are broken where that takes less room, or where they are wider than the figure. The
    figure grows with a legend of more than two rows, so that the panels keep their height.
    """
    entries: dict[str, list[Any]] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, []).append(handle)
    if not entries:
        return None
    handles, labels = [same[0] for same in entries.values()], list(entries)
    make = lambda labels, columns: figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, **options
    )
    broken, columns = _lowest(figure, labels, make)
    for same, label in zip(entries.values(), broken, strict=True):
        for handle in same:
            handle.set_label(label)
    legend = make(broken, columns)
    height = legend.get_window_extent(FigureCanvasAgg(figure).get_renderer()).height / figure.dpi
    figure.set_figheight(figure.get_figheight() + max(height - TWO_ROWS, 0))
    return legend


def _lowest(
    figure: Figure, labels: list[str], make: Callable[[list[str], int], Legend]
) -> tuple[list[str], int]:
    """Return labels, broken where they have to be, and columns of the lowest legend that fits."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    # Only a legend that stands in the figure knows its width: it is put there and taken out again.
    probe = make(labels, 1)
    font = probe.get_texts()[0].get_fontproperties()
    widest = max(width_of(label, font, renderer) for label in labels)
    beside = probe.get_window_extent(renderer).width - widest  # of the handle, and what is about it
    probe.remove()
    found: list[tuple[float, int, list[str], int]] = []
    for columns in range(1, min(len(labels), MOST_COLUMNS) + 1):
        room = max(figure.bbox.width / columns - beside, 1)
        shown = [labels]
        if widest > room and (columns == 1 or room > NARROWEST * figure.dpi):
            shown.append([broken_text(label, room, font, renderer) for label in labels])
        for candidate in shown:
            legend = make(candidate, columns)
            size = legend.get_window_extent(renderer)
            legend.remove()
            last_resort = columns == 1 and candidate is shown[-1]
            in_two = all(label.count("\n") < 2 for label in candidate)
            if last_resort or (size.width <= figure.bbox.width and in_two):
                cost = size.height + (LINE * figure.dpi if candidate is not labels else 0)
                found.append((cost, len(found), candidate, columns))
    return min(found)[2:]


def legend_inside(ax: Axes) -> None:
    """Add a legend to an Axes of the user's, unless it has one or there is no room for it.

    The artists keep their labels, so that the user can put a legend anywhere else.
    """
    handles, labels = ax.get_legend_handles_labels()
    if not labels or ax.get_legend() is not None:
        return
    renderer = FigureCanvasAgg(_root(ax)).get_renderer()
    box = ax.get_window_extent()
    for columns in range(1, len(labels) + 1):
        legend = ax.legend(handles, labels, loc="best", ncols=columns)
        size = legend.get_window_extent(renderer)
        wide = size.width > MAX_INSIDE[0] * box.width
        if not wide and size.height <= MAX_INSIDE[1] * box.height:
            return
        legend.remove()
        if wide:
            return
