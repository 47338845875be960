"""Boxes, arrows and a legend for pictures of graphs, in inches."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

from rnn_jax.graph.graph import Edge, Node, Path
from rnn_jax.graph.layout import Point
from rnn_jax.graph.letters import Letter
from rnn_jax.plotting import ShownFigure

Box = tuple[Point, tuple[float, float]]
"""Centre, and (width, height)."""

COLORS = {
    "input": ("#dbeafe", "#1f5fa8"),
    "state": ("#dcfce7", "#2f7d32"),
    "hidden": ("#ecfccb", "#5b7f1f"),
    "parameter": ("#ffedd5", "#c2410c"),
    "operation": ("#f6f7f9", "#8a8f98"),
    "output": ("#ede9fe", "#6d3fc0"),
    "loss": ("#fef9c3", "#a16207"),
}
"""Fill and edge by kind of node."""
MEANING = {
    "input": "input",
    "state": "state",
    "hidden": "hidden layer",
    "parameter": "shared parameters",
    "operation": "operation",
    "output": "output",
    "loss": "loss of a step",
}
ARROW, GRADIENT = "#5b6270", "#e11d48"
HEIGHT, FONT, SMALL, MARGIN = 0.44, 13, 10, 0.25
STYLE: dict[Any, Any] = {"svg.hashsalt": "rnn_jax", "mathtext.fontset": "cm", "font.size": FONT}


@cache
def text_width(text: str, size: float = FONT) -> float:
    """Return the width of the longest line, in inches."""
    extents = [TextPath((0, 0), line, size=size).get_extents() for line in text.split("\n")]
    return max(extent.width for extent in extents) / 72


def box_width(label: str) -> float:
    """Return the width of a box around a label."""
    return max(HEIGHT, text_width(label) + 0.24)


def box_height(label: str) -> float:
    """Return the height of a box around a label of one line or more."""
    return HEIGHT + 0.25 * label.count("\n")


def svg_id(name: str) -> str:
    """Return a node's or an edge's name in an SVG: without spaces."""
    return re.sub(r"[^\w.>+-]+", "_", name)


class Canvas:
    """A figure that grows with its drawing."""

    def __init__(self, path: Path | None = None):
        """Start an empty figure; `path` is to be highlighted."""
        self._path = path or Path(frozenset(), frozenset())
        self._figure = ShownFigure()
        self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.axis("off")
        self._corners: list[Point] = []
        self._kinds: set[str] = set()

    def node(self, node: Node, at: Point, width: float) -> None:
        """Draw a box with its label, round unless it is an operation or parameters."""
        self._kinds.add(node.kind)
        height = box_height(node.label)
        fill, edge = COLORS[node.kind]
        on_path = node.id in self._path.nodes
        style: dict[str, Any] = {
            "facecolor": fill,
            "edgecolor": GRADIENT if on_path else edge,
            "linewidth": 2.2 if on_path else 1.1,
            "zorder": 3,
            "gid": svg_id(node.id),
        }
        if node.kind in ("operation", "parameter"):
            corner = (at[0] - width / 2, at[1] - height / 2)
            box = FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.08", **style)
            self._axes.add_patch(box)
        else:
            self._axes.add_patch(Ellipse(at, width, height, **style))
        text: dict[str, Any] = {"ha": "center", "zorder": 4}
        self._axes.text(
            *at, node.label, va="center" if "\n" in node.label else "center_baseline", **text
        )
        if node.kind == "operation" and node.name:
            self._axes.text(
                at[0],
                at[1] + height / 2 + 0.03,
                Letter(node.name).tex(),
                va="bottom",
                color="#374151",
                **text,
            )
            self._include((at[0], at[1] + height / 2 + 0.2))
        self._include((at[0] - width / 2, at[1] - height / 2))
        self._include((at[0] + width / 2, at[1] + height / 2))

    def flow(self, points: Sequence[Point], edge: Edge) -> None:
        """Draw an edge through points, level at each of them."""
        vertices, codes = _level(points)
        self._arrow(Curve(vertices, codes), edge)
        for point in points:
            self._include(point)
        if edge.mark:
            (x0, y0), (x, y) = points[-2:]
            part = 0.72
            level = y0 + (y - y0) * (3 * part**2 - 2 * part**3)
            self._mark((x0 + part * (x - x0), level), edge.mark)

    def curve(self, start: Box, control: Point, end: Box, edge: Edge) -> None:
        """Draw an edge from box to box, bent towards `control`."""
        a, b = _border(start, control), _border(end, control)
        self._arrow(Curve([a, control, b], [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]), edge)
        self._include(((a[0] + 2 * control[0] + b[0]) / 4, (a[1] + 2 * control[1] + b[1]) / 4))

    def loop(self, way: Sequence[Point], corners: Sequence[Point], color: str) -> None:
        """Draw a dashed arrow, level along `way` and then round `corners`."""
        vertices, codes = _level(way)
        radius = 0.12
        for before, corner, after in zip(
            [way[-1], *corners], corners[:-1], corners[1:], strict=False
        ):
            vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
            codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
        vertices.append(corners[-1])
        codes.append(Curve.LINETO)
        self._axes.add_patch(
            FancyArrowPatch(
                path=Curve(vertices, codes),
                arrowstyle="-|>",
                mutation_scale=11,
                color=color,
                linestyle=(0, (4, 2.5)),
                linewidth=1.3,
                zorder=1,
            )
        )
        for corner in corners:
            self._include(corner)

    def line(self, start: Point, end: Point, color: str) -> None:
        """Draw a dotted line behind everything."""
        xs, ys = zip(start, end, strict=True)
        self._axes.plot(xs, ys, color=color, linestyle=":", linewidth=1.6, zorder=0.5)

    def figure(self, gradient: str | None = None, loop: bool = False) -> Figure:
        """Return the figure, with a legend of the kinds of nodes in it."""
        handles: list[Patch | Line2D] = [
            Patch(facecolor=fill, edgecolor=edge, label=MEANING[kind])
            for kind, (fill, edge) in COLORS.items()
            if kind in self._kinds
        ]
        if loop:
            handed_on = "handed to the next step"
            handles.append(Line2D([], [], color=COLORS["state"][1], ls="--", label=handed_on))
        if gradient:
            handles.append(Line2D([], [], color=GRADIENT, lw=2.4, label=gradient))
        xs, ys = zip(*self._corners, strict=True)
        left, right = min(xs) - MARGIN, max(xs) + MARGIN
        bottom, top = min(ys) - MARGIN, max(ys) + MARGIN
        widths = [text_width(str(handle.get_label()), SMALL) + 0.65 for handle in handles]
        columns = max(1, min(len(handles), int((right - left) / max(widths))))
        rows = -(-len(handles) // columns)
        columns = -(-len(handles) // rows)
        bottom -= 0.24 * rows + 0.1
        missing = max(0.0, max(widths) + 0.4 - (right - left))
        left, right = left - missing / 2, right + missing / 2
        self._figure.set_size_inches(right - left, top - bottom)
        self._axes.set(xlim=(left, right), ylim=(bottom, top))
        self._figure.legend(
            handles=handles,
            loc="lower center",
            ncols=columns,
            frameon=False,
            fontsize=SMALL,
            handlelength=1.6,
            columnspacing=1.4,
            borderpad=0.2,
        )
        return self._figure

    def _arrow(self, curve: Curve, edge: Edge) -> None:
        """Draw an arrow forwards; on the path of a gradient, backwards."""
        on_path = edge in self._path.edges
        shared = edge.source.startswith("parameter")
        color = GRADIENT if on_path else COLORS["parameter"][1] if shared else ARROW
        self._axes.add_patch(
            FancyArrowPatch(
                path=curve,
                arrowstyle="<|-" if on_path else "-|>",
                mutation_scale=15 if on_path else 10,
                color=color,
                linewidth=2.4 if on_path else 1.0,
                linestyle="-" if edge.differentiable else ":",
                zorder=2 if on_path else 1.5,
                gid=svg_id(f"{edge.source}->{edge.target}"),
            )
        )

    def _mark(self, at: Point, mark: str) -> None:
        self._axes.text(
            *at,
            mark,
            ha="center",
            va="center",
            fontsize=SMALL,
            style="italic",
            color="#374151",
            zorder=2.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )

    def _include(self, point: Point) -> None:
        self._corners.append(point)


def _level(points: Sequence[Point]):
    """Return vertices and codes of a curve through points that is level at each."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if (x0, y0) == (x1, y1):
            continue
        middle = (x0 + x1) / 2
        vertices += [(middle, y0), (middle, y1), (x1, y1)]
        codes += [Curve.CURVE4] * 3
    return vertices, codes


def _border(box: Box, towards: Point) -> Point:
    """Return where a line from the centre of a rounded box leaves it."""
    (x, y), (width, height) = box
    dx, dy = towards[0] - x, towards[1] - y
    # The box is a segment with a radius around it: the line leaves it where it is one radius away
    # from the nearest point of the segment.
    reach = (width - height) / 2
    inner = min(max(dx, -reach), reach) if reach > 0 else 0.0
    length = ((dx - inner) ** 2 + dy**2) ** 0.5 or 1.0
    radius = height / 2 + 0.02
    return x + inner + radius * (dx - inner) / length, y + radius * dy / length


def _towards(start: Point, end: Point, distance: float) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = (dx**2 + dy**2) ** 0.5
    part = min(distance, length / 2) / length if length else 0.0
    return start[0] + part * dx, start[1] + part * dy
