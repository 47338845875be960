"""Graph in, Figure out: the computational graph of a cell, folded and unfolded, for a slide.

Nothing here traces, shows or saves. Lengths are inches, so that a figure grows with its graph and
its letters stay legible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rnn_jax.errors import invalid, optional

# ruff: noqa: E402 - said of what is missing before it is imported
optional("matplotlib", "pip install matplotlib, or the extra [experiments]")

import matplotlib
from matplotlib.figure import Figure

from rnn_jax.graph import Edge, Graph, Node, Path, gradient_path
from rnn_jax.graph.canvas import COLORS, HEIGHT, STYLE, Canvas, Point, box_height, box_width
from rnn_jax.graph.grid import clear_curve, key, unfolded_grid
from rnn_jax.graph.layout import Layout, layered

LANE = 0.2


def draw_folded(graph: Graph) -> Figure:
    """Draw one step with its operations, and the state that it hands to the next.

    Args:
      graph: graph of `graph.step_graph`.

    Raises:
      ValueError: an unfolded graph.
    """
    if graph.steps is not None:
        raise invalid("graph", "an unfolded graph", "one step", "Use draw_unfolded.")
    with matplotlib.rc_context(STYLE):
        widths = {node.id: box_width(node.label) for node in graph.nodes.values()}
        layout = layered(graph, widths)
        canvas = Canvas()
        for node in graph.nodes.values():
            canvas.node(node, layout.at[node.id], widths[node.id])
        _edges_of_step(canvas, graph, layout, widths)
        _loops(canvas, graph, layout, widths)
        return canvas.figure(loop=True)


def draw_unfolded(
    graph: Graph,
    gradient_from: int | None = None,
    gradient_to: int | None = None,
    leaf: str | None = None,
) -> Figure:
    """Draw all steps, and the path of one gradient.

    Args:
      graph: graph of `graph.unfolded_graph`, of states also with some nodes left out.
      gradient_from: t of ∂E_t/∂h_k, whose path is highlighted; no path by default.
      gradient_to: k of ∂E_t/∂h_k.
      leaf: name of one leaf of the state; all leaves by default.

    Raises:
      ValueError: a graph of one step; only one of t and k; what `graph.gradient_path` raises.
    """
    if graph.steps is None or graph.step is None:
        raise invalid("graph", "one step", "an unfolded graph", "Use draw_folded.")
    if (gradient_from is None) != (gradient_to is None):
        raise invalid(
            "gradient_from, gradient_to",
            f"{gradient_from}, {gradient_to}",
            "t and k, or neither",
            "Give the step of the loss and the step of the state.",
        )
    path, legend = None, None
    if gradient_from is not None and gradient_to is not None:
        path = gradient_path(graph, gradient_from, gradient_to, leaf)
        legend = _gradient_label(graph, path, gradient_from, gradient_to, leaf)
    with matplotlib.rc_context(STYLE):
        draw = _draw_operations if graph.of_kind("operation") else _draw_states
        canvas = Canvas(path)
        draw(canvas, graph)
        return canvas.figure(gradient=legend)


def _draw_operations(canvas: Canvas, graph: Graph) -> None:
    """Draw every step like the first, whose state enters the next where its own stood."""
    assert graph.step is not None
    assert graph.steps is not None
    (loss,) = (node for node in graph.of_kind("loss") if node.step == 1)
    loss = loss.at(0)
    edges = (*graph.step.edges, *(Edge(y.id, loss.id) for y in graph.step.of_kind("output")))
    one = Graph(graph.step.nodes | {loss.id: loss}, edges)
    widths = {node.id: box_width(node.label) for node in one.nodes.values()}
    layout = layered(one, widths)
    for t in range(1, graph.steps + 1):
        shift = (t - 1) * (layout.width + 0.5)
        for node in one.nodes.values():
            if (node.kind, node.step) != ("state", -1) or t == 1:
                x, y = layout.at[node.id]
                canvas.node(node.later(t), (x + shift, y), widths[node.id])
        _edges_of_step(canvas, one, layout, widths, t)


def _edges_of_step(
    canvas: Canvas, graph: Graph, layout: Layout, widths: Mapping[str, float], t: int | None = None
) -> None:
    """Draw the edges of one step, or of step t of several."""
    shift = 0.0 if t is None else (t - 1) * (layout.width + 0.5)
    arriving = defaultdict(list)
    for edge in graph.edges:
        way = [layout.at[edge.source], *layout.routes[edge.source, edge.target]]
        arriving[edge.target].append((way[-1][1], edge, way))
    for target, ways in arriving.items():
        ways.sort(key=lambda found: found[0])
        spread = min(0.11, 0.3 / len(ways))
        for n, (_, edge, way) in enumerate(ways):
            x, y = layout.at[target]
            end = (x - widths[target] / 2, y + spread * (n - (len(ways) - 1) / 2))
            points = [(way[0][0] + widths[edge.source] / 2, way[0][1]), *way[1:], end]
            points = [(px + shift, py) for px, py in points]
            shown = edge
            if t is not None:
                source, node = graph.nodes[edge.source], graph.nodes[target]
                shown = edge._replace(source=source.later(t).id, target=node.later(t).id)
                if (source.kind, source.step) == ("state", -1) and t > 1:
                    points = _from_step_before(source, layout, widths, shift) + points
            canvas.flow(points, shown)


def _from_step_before(
    state: Node, layout: Layout, widths: Mapping[str, float], shift: float
) -> list[Point]:
    """Return the points from where one step computes a state to where the next reads it."""
    own = state.at(0).id
    (x, y), back = layout.at[own], shift - layout.width - 0.5
    way = [(x + widths[own] / 2, y), *layout.exits[own]]
    entry = (layout.at[state.id][0] - widths[state.id] / 2 + shift, layout.at[state.id][1])
    return [*((px + back, py) for px, py in way), entry]


def _loops(canvas: Canvas, graph: Graph, layout: Layout, widths: Mapping[str, float]) -> None:
    """Draw each leaf of the state from where it is computed back to where it is read."""
    # Loops are nested: the leaf that leaves highest takes the innermost lane, so that none crosses
    # another on its way over the top.
    top = max(y for _, y in layout.at.values()) + HEIGHT
    before = {node.id: node for node in graph.of_kind("state") if node.step == -1}
    ends = [
        (layout.exits[own][-1], own, state)
        for state in before.values()
        if (own := state.at(0).id) in layout.exits
    ]
    for lane, ((x, y), own, state) in enumerate(sorted(ends, key=lambda end: -end[0][1])):
        at, entry = layout.at[own], layout.at[state.id]
        way = [(at[0] + widths[own] / 2, at[1]), *layout.exits[own][:-1], (x, y)]
        left, right = entry[0] - widths[state.id] / 2, x + 0.1 + LANE * lane
        far, high = left - 0.3 - LANE * lane, top + LANE * (lane + 1)
        corners = [(right, y), (right, high), (far, high), (far, entry[1]), (left, entry[1])]
        canvas.loop(way, corners, COLORS["state"][1])


def _draw_states(canvas: Canvas, graph: Graph) -> None:
    """Draw a column for each step, and the shared parameters once more at each."""
    # The grid says which parameters are read together, and needs the width of their box, which is
    # that of their common label: so it is asked twice, first for the groups with any width.
    groups: dict[str, str] = {}
    widths = {node.id: box_width(node.label) for node in graph.nodes.values()}
    assert graph.step is not None
    widths |= {node.id: box_width(node.label) for node in graph.step.nodes.values()}
    for shared in unfolded_grid(graph, defaultdict(lambda: 0.5, widths)).shared:
        groups[key(shared.parameters)] = _listed(shared.parameters)
    widths |= {group: box_width(label) for group, label in groups.items()}
    grid = unfolded_grid(graph, widths)
    boxes = {id: (at, (widths[id], HEIGHT)) for id, at in grid.at.items()}
    # A graph may be given without some nodes, such as the outputs of all steps but the last.
    step = graph.step
    reads = lambda s, t: [
        id for target in s.targets if (id := step.nodes[target].at(t).id) in boxes
    ]
    places = {(s, t): at for s in grid.shared for t, at in enumerate(s.at, start=1) if reads(s, t)}
    boxes |= {
        f"{group} @ {t}": (at, (widths[group], box_height(groups[group])))
        for (s, t), at in places.items()
        if (group := key(s.parameters))
    }
    for shared in grid.shared:
        ends = [at for (of, _), at in places.items() if of is shared]
        if len(ends) > 1:
            canvas.line(ends[0], ends[-1], COLORS["parameter"][1])
    for id, at in grid.at.items():
        canvas.node(graph.nodes[id], at, widths[id])
    for (shared, t), at in places.items():
        group = key(shared.parameters)
        box = replace(shared.parameters[0], id=f"{group} @ {t}", label=groups[group])
        canvas.node(box, at, widths[group])
        for target in reads(shared, t):
            _straight(canvas, Edge(box.id, target), boxes)
    for edge in graph.edges:
        if graph.nodes[edge.source].kind != "parameter":
            _straight(canvas, edge, boxes)


def _straight(canvas: Canvas, edge: Edge, boxes: Any) -> None:
    start, end = boxes[edge.source], boxes[edge.target]
    others = [box for id, box in boxes.items() if id not in (edge.source, edge.target)]
    control = clear_curve(start[0], end[0], others)
    canvas.curve(start, control, end, edge)


def _listed(parameters: Sequence[Node]) -> str:
    """Return `W, U, b`, in lines of a few."""
    labels = [node.label for node in parameters]
    lines = -(-len(labels) // 5)
    each = -(-len(labels) // lines)
    return ",\n".join(", ".join(labels[i : i + each]) for i in range(0, len(labels), each))


def _gradient_label(graph: Graph, path: Path, t: int, k: int, leaf: str | None) -> str:
    state = [n for n in graph.of_kind("state") if n.step == k and leaf in (None, n.name)]
    below = ", ".join(node.label.strip("$") for node in state)
    below = f"({below})" if len(state) > 1 else below
    (loss,) = (node for node in graph.of_kind("loss") if node.step == t)
    ratio = rf"$\partial {loss.label.strip('$')}\, /\, \partial {below}$"
    return f"path of the gradient {ratio}" if path.nodes else f"{ratio} = 0: no path"
