"""What a figure of a paper has to keep: type that can be read, nothing cut, every axis named."""

import functools
import itertools

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

LEAST_TYPE, LEAST_SCRIPT = 7.0, 5.0
"""Points, of every text and of the scripts of its formulas."""
SCRIPT = 0.7
"""What matplotlib multiplies a size by for a sub- or superscript."""
TOUCH = 1.5
"""Pixels by which boxes may meet, at 100 dots an inch."""


def draw(figure):
    """The renderer of a figure at 100 dots an inch that has been drawn on it."""
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def as_drawn(function):
    """A function of a figure that asks it what it does where it is drawn: by its own settings."""

    @functools.wraps(function)
    def ask(figure, *arguments, **options):
        with matplotlib.rc_context(getattr(figure, "_settings", {})):
            return function(figure, *arguments, **options)

    return ask


def texts_of(figure):
    """Every text that is seen, those of ticks, legends and colour bars too."""
    unseen = {
        label
        for ax in figure.findobj(Axes)
        for axis in (ax.xaxis, ax.yaxis)
        for label in _labels(axis.majorTicks + axis.minorTicks) - tick_labels(axis)
    }
    return [text for text in figure.findobj(Text) if is_seen(text) and text not in unseen]


def is_seen(text):
    """Whether there is anything to see of a text that is not a tick's."""
    return text.get_visible() and bool(text.get_text().strip())


def tick_labels(axis):
    """The labels of the ticks that an axis draws; it keeps others, beyond its limits."""
    return _labels(axis._update_ticks()) if axis.get_visible() and axis.axes.axison else set()


def _labels(ticks):
    return {label for tick in ticks for label in (tick.label1, tick.label2)}


@as_drawn
def smallest_type(figure):
    """Points of the smallest text, and of the smallest script of a formula."""
    draw(figure)
    sizes = [text.get_fontsize() for text in texts_of(figure)]
    scripts = [
        SCRIPT * text.get_fontsize()
        for text in texts_of(figure)
        if "$" in text.get_text() and set("^_") & set(text.get_text())
    ]
    return min(sizes), min(scripts, default=np.inf)


def panels_of(figure):
    """Axes with data; colour bars and insets are none."""
    return [
        ax
        for ax in figure.axes
        if ax.get_visible() and not hasattr(ax, "_colorbar") and ax.get_label() != "inset_axes"
    ]


@as_drawn
def assert_fits_a_page(figure, width=None, letters=True):
    """Type, canvas, overlaps, axis labels, colour bars, letters."""
    renderer = draw(figure)
    size, script = smallest_type(figure)
    assert size >= LEAST_TYPE, [
        (t.get_text(), t.get_fontsize()) for t in texts_of(figure) if t.get_fontsize() < LEAST_TYPE
    ]
    assert script >= LEAST_SCRIPT - 1e-6
    if width is not None:
        assert abs(figure.get_figwidth() - width) < 1e-6
    assert_nothing_is_cut(figure, renderer)
    assert_nothing_overlaps(figure, renderer)
    panels = panels_of(figure)
    for ax in panels:
        assert ax.get_xlabel().strip() or _is_twin(ax), ax.get_title()
        assert ax.get_ylabel().strip(), ax.get_title()
    for ax in figure.axes:
        if hasattr(ax, "_colorbar"):
            assert (ax.get_ylabel() or ax.get_xlabel()).strip()
    if letters and len(panels) > 1:
        named = [ax.get_title(loc="left") for ax in panels if not _is_twin(ax)]
        assert all(title.startswith("(") for title in named), named
        assert len(set(named)) == len(named)


def _is_twin(ax):
    """Whether an Axes lies on another one."""
    at = ax.get_position().bounds
    earlier = itertools.takewhile(lambda other: other is not ax, ax.figure.axes)
    return any(np.allclose(other.get_position().bounds, at) for other in earlier)


def assert_nothing_is_cut(figure, renderer):
    """All texts and legends are on the canvas."""
    width, height = figure.bbox.width, figure.bbox.height
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    for part in (*texts_of(figure), *legends):
        box = part.get_window_extent(renderer)
        what = part.get_text() if isinstance(part, Text) else "legend"
        assert box.x0 >= -TOUCH, (what, box)
        assert box.x1 <= width + TOUCH, (what, box)
        assert box.y0 >= -TOUCH, (what, box)
        assert box.y1 <= height + TOUCH, (what, box)


def boxes_of(figure, renderer):
    """(owner, name, box) of titles, labels, tick labels and legends of a figure."""
    found = []
    for ax in figure.axes:
        texts = [ax.title, ax._left_title, ax._right_title, ax.xaxis.label, ax.yaxis.label]
        texts += [*tick_labels(ax.xaxis), *tick_labels(ax.yaxis)]
        texts += [ax.xaxis.offsetText, ax.yaxis.offsetText]
        for text in texts:
            if is_seen(text):
                found.append((ax, text.get_text(), text.get_window_extent(renderer)))
    for legend in figure.legends:
        found.append((None, "legend", legend.get_window_extent(renderer)))
    return found


def assert_nothing_overlaps(figure, renderer):
    """No label, title or legend lies on another one or on the frame of another panel."""
    boxes = boxes_of(figure, renderer)
    for (_, a, one), (_, b, other) in itertools.combinations(boxes, 2):
        assert not _overlap(one, other), (a, b)
    frames = [(ax, ax.get_window_extent(renderer)) for ax in figure.axes]
    for owner, name, box in boxes:
        for ax, frame in frames:
            inside = ax is owner or ax in getattr(owner, "child_axes", ())
            holds = owner is not None and owner in ax.child_axes
            twin = owner is not None and np.allclose(
                owner.get_position().bounds, ax.get_position().bounds
            )
            if not (inside or holds or twin):
                assert not _overlap(box, frame), (name, ax.get_title())


def _overlap(one, other):
    """Whether two boxes share more than an edge."""
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > TOUCH and high > TOUCH
