"""Where to draw the nodes of a network unfolded over time, without its operations.

Time runs to the right, a column a step; x_t is below, hidden layers and the leaves of the state
above it, each higher and later than those that it is computed from, then y_t and E_t. Parameters
stand at each step, those together that are read by the same values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from rnn_jax.graph.graph import Graph, Node
from rnn_jax.graph.layout import Point

SHIFT, ROW = 0.95, 1.05
"""Distance from one leaf of the state to the next, to the right and upwards, in inches."""


@dataclass(frozen=True)
class Shared:
    """Parameters that the same nodes read: one box for all, at `at[t - 1]` in step t."""

    parameters: tuple[Node, ...]
    targets: tuple[str, ...]
    at: tuple[Point, ...]


@dataclass(frozen=True)
class Grid:
    """Centres of nodes, by id, and the boxes of shared parameters, in inches."""

    at: dict[str, Point]
    shared: tuple[Shared, ...]


def unfolded_grid(graph: Graph, widths: Mapping[str, float], gap: float = 0.75) -> Grid:
    """Lay out an unfolded graph without operations.

    Args:
      graph: graph of `unfolded_graph`.
      widths: width of each node's box, and of each box of parameters by its `key`, in inches.
      gap: distance between steps.
    """
    assert graph.step is not None
    assert graph.steps is not None
    one = graph.step
    inside = ("hidden", "state")
    leaves = [node for node in one.nodes.values() if node.kind in inside and node.step == 0]
    row = {leaf.id: n + 1 for n, leaf in enumerate(leaves)}
    x = {leaf.id: SHIFT * n for n, leaf in enumerate(leaves)}
    top = len(leaves) + 1
    for node in one.of_kind("input"):
        row[node.id], x[node.id] = 0, 0.0
    for n, node in enumerate(one.of_kind("output")):
        row[node.id], x[node.id] = top + n, SHIFT * max(len(leaves) - 1, 0)

    boxes: dict[tuple[str, ...], tuple[float, float, float]] = {}
    for targets, parameters in _groups(one).items():
        lowest = min(targets, key=lambda target: row[target])
        y = row[lowest] - 0.5 if row[lowest] > 1 else -0.85
        beside = [box for box in boxes.values() if box[1] == y]
        half = widths[key(parameters)] / 2
        left = max([b[0] + b[2] + 0.15 for b in beside], default=x[lowest] + 0.45)
        boxes[targets] = (left + half, y, half)
    right = max([x[node] + widths[node] / 2 for node in x] + [b[0] + b[2] for b in boxes.values()])
    width = right + gap
    at: dict[str, Point] = {}
    for node in graph.nodes.values():
        if node.step is None:
            continue
        if node.kind == "loss":
            last = one.of_kind("output")[-1].id
            at[node.id] = (x[last] + width * node.step, ROW * (row[last] + 1))
        else:
            same = node.at(0).id
            at[node.id] = (x[same] + width * node.step, ROW * row[same])
    shared = [
        Shared(
            parameters,
            targets,
            tuple(
                (boxes[targets][0] + width * t, ROW * boxes[targets][1])
                for t in range(1, graph.steps + 1)
            ),
        )
        for targets, parameters in _groups(one).items()
    ]
    return Grid(at, tuple(shared))


def key(parameters: Iterable[Node]) -> str:
    """Return the name of a box of parameters."""
    return "+".join(node.id for node in parameters)


def _groups(one: Graph) -> dict[tuple[str, ...], tuple[Node, ...]]:
    """Return `{ids of the nodes that read them: parameters}`."""
    read_by = defaultdict(list)
    for edge in one.edges:
        read_by[edge.source].append(edge.target)
    groups = defaultdict(list)
    for node in one.of_kind("parameter"):
        if read_by[node.id]:
            groups[tuple(sorted(set(read_by[node.id])))].append(node)
    return {targets: tuple(nodes) for targets, nodes in groups.items()}


def clear_curve(
    start: Point, end: Point, boxes: Iterable[tuple[Point, tuple[float, float]]], room: float = 0.07
) -> Point:
    """Return the control point of a curve from `start` to `end` that keeps away from boxes.

    Args:
      start: first point.
      end: last point, another one.
      boxes: centre, and (width, height), of each box to keep away from.
      room: distance to keep from each, in inches.

    Returns:
      The control point of the straightest quadratic Bézier curve that touches no box; if there is
      none, of the one that touches them least.
    """
    # The straight line is tried first, then ever more bent ones on both sides: a straight edge from
    # x_t to a state two rows up would run through the state between.
    a, b = np.array(start), np.array(end)
    across = np.array([a[1] - b[1], b[0] - a[0]])
    s = np.linspace(0, 1, 33)[:, None]
    best, least = (a + b) / 2, np.inf
    for bend in sorted(np.linspace(-1.2, 1.2, 33), key=abs):
        control = (a + b) / 2 + bend * across
        points = (1 - s) ** 2 * a + 2 * s * (1 - s) * control + s**2 * b
        touched = sum(
            int((np.abs(points - np.array(centre)) < np.array(size) / 2 + room).all(1).sum())
            for centre, size in boxes
        )
        if touched < least:
            best, least = control, touched
    return float(best[0]), float(best[1])
