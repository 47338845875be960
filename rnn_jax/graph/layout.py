"""Where to draw the nodes of one step: in layers, computed from left to right.

After Sugiyama, Tagawa and Toda, Methods for visual understanding of hierarchical system structures
(1981): a layer for each depth; an edge over several layers holds a place of its own in each that it
passes, so that no edge goes through a node; nodes stand as near to their neighbours as order and
spacing allow.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_jax.graph.graph import Graph, Node

Point = tuple[float, float]
"""A place in a picture, (x, y) in inches."""
Slot = tuple[str, int]
"""A node, or an edge that passes through, in a layer."""

PULL = {"input": -1.0, "parameter": -0.5, "output": 1.0}
"""How far above its neighbours a node of a kind is drawn, in slots: inputs below, outputs above."""
SWEEPS, STARTS, SLOTS = 50, 16, 1000


@dataclass(frozen=True)
class Layout:
    """Positions in inches, the first layer at x = 0.

    Attributes:
      at: centres of nodes, by id.
      routes: points that an edge passes between its ends, by (source, target).
      exits: points that a state passes on its way to the right border, by id.
      width: distance from the first layer to the right border.
    """

    at: dict[str, Point]
    routes: dict[tuple[str, str], list[Point]]
    exits: dict[str, list[Point]]
    width: float


def layered(
    graph: Graph, widths: dict[str, float], gap: float = 0.55, rise: float = 0.72
) -> Layout:
    """Lay one step out.

    Args:
      graph: graph of `step_graph`.
      widths: width of each node, in inches.
      gap: distance between layers, where the edges run.
      rise: distance between the centres of two nodes, or a node and an edge, in a layer.
    """
    layer = _layers(graph)
    border = max(layer.values()) + 1
    handed_on = [node.id for node in graph.of_kind("state") if node.step == 0]
    ends = {(e.source, e.target): (layer[e.source], layer[e.target]) for e in graph.edges}
    ends |= {(state, f"exit of {state}"): (layer[state], border) for state in handed_on}

    slots: dict[int, list[Slot]] = defaultdict(list)
    for node, depth in layer.items():
        slots[depth].append((node, depth))
    links: list[tuple[Slot, Slot]] = []
    passed: dict[tuple[str, str], list[Slot]] = {}
    for (source, target), (start, end) in ends.items():
        leaves = target not in layer
        # Edges of one source share their way: it is the same value.
        between = [(f"from {source}", depth) for depth in range(start + 1, end + leaves)]
        passed[source, target] = between
        chain = [(source, start), *between, *([] if leaves else [(target, end)])]
        links += itertools.pairwise(chain)
        for slot in between:
            if slot not in slots[slot[1]]:
                slots[slot[1]].append(slot)
    # A state leaves on the right at the height where it enters on the left: steps can then be set
    # side by side.
    links += [
        ((f"from {n.at(0).id}", border), (n.id, 0)) for n in graph.of_kind("state") if n.step == -1
    ]
    nodes = {(node, layer[node]): graph.nodes[node] for node in layer}
    height = _heights(slots, list(dict.fromkeys(links)), nodes, rise)

    x: dict[int, float] = {}
    half: dict[int, float] = {}
    left = 0.0
    for depth in range(border + 1):
        half[depth] = max([widths[n] / 2 for n, d in layer.items() if d == depth], default=0.0)
        x[depth] = left + half[depth] if depth else 0.0
        left = x[depth] + half[depth] + gap

    def straight_through(slot: Slot) -> list[Point]:
        depth = slot[1]
        return [(x[depth] - half[depth], height[slot]), (x[depth] + half[depth], height[slot])]

    routes = {
        pair: [p for s in between for p in straight_through(s)] for pair, between in passed.items()
    }
    exits = {state: routes.pop((state, f"exit of {state}"))[:-1] for state in handed_on}
    at = {node: (x[depth], height[node, depth]) for node, depth in layer.items()}
    return Layout(at, routes, exits, x[border])


def _layers(graph: Graph) -> dict[str, int]:
    """Return the layer of each node: its depth from the sources."""
    # Values of x and parameters alone are drawn as late as possible, next to their readers: at its
    # own depth, U x would stand far from the sum that it goes into.
    reads, read_by = defaultdict(list), defaultdict(list)
    for edge in graph.edges:
        reads[edge.target].append(edge.source)
        read_by[edge.source].append(edge.target)
    depth: dict[str, int] = {}
    early: set[str] = set()
    for node in graph.nodes.values():
        depth[node.id] = max((depth[source] + 1 for source in reads[node.id]), default=0)
        if node.kind in ("parameter", "input") or (
            node.kind == "operation" and early.issuperset(reads[node.id])
        ):
            early.add(node.id)
    for name in reversed(graph.nodes):
        if name in early and read_by[name]:
            depth[name] = min(depth[target] for target in read_by[name]) - 1
    return depth


def _heights(
    slots: dict[int, list[Slot]],
    links: list[tuple[Slot, Slot]],
    nodes: dict[Slot, Node],
    rise: float,
) -> dict[Slot, float]:
    """Return the best heights of a few random starts, in inches."""
    # Best is what a reader likes: few crossings, x below, y above, short edges. To find the fewest
    # crossings is NP-hard, hence the starts; large graphs take fewer of them.
    starts = max(3, min(STARTS, SLOTS // sum(map(len, slots.values()))))
    found = [_relaxed(slots, links, nodes, np.random.default_rng(seed)) for seed in range(starts)]

    def cost(height: dict[Slot, float]) -> float:
        misplaced = 0.0
        for slot, node in nodes.items():
            if node.kind in ("input", "output"):
                way = PULL[node.kind]
                beyond = [
                    other for other in slots[slot[1]] if way * (height[other] - height[slot]) > 0
                ]
                misplaced += len(beyond) * (3.0 if node.kind == "input" else 1.0)
        length = sum(abs(height[a] - height[b]) for a, b in links)
        return 2.0 * _crossings(links, height) + misplaced + length

    best = min(found, key=cost)
    return {slot: rise * value for slot, value in best.items()}


def _relaxed(slots: Any, links: Any, nodes: Any, rng: Any) -> dict[Slot, float]:
    """Return heights at which everything is near its neighbours, from a random start."""
    neighbours, parts, beside = defaultdict(list), defaultdict(list), defaultdict(list)
    for a, b in links:
        for one, other in ((a, b), (b, a)):
            beside[one].append(other)
            if _body(one, nodes) != _body(other, nodes):
                # Letters follow what they go into, and hardly move it.
                light = other in nodes and nodes[other].kind in PULL
                neighbours[_body(one, nodes)].append((other, 0.15 if light else 1.0))
    for slot in itertools.chain.from_iterable(slots.values()):
        parts[_body(slot, nodes)].append(slot)
    pull = {slot: PULL.get(node.kind, 0.0) for slot, node in nodes.items()}
    height = {slot: 3 * pull.get(slot, 0.0) + rng.normal() for s in slots.values() for slot in s}

    def desired(slot: Slot) -> float:
        # An edge over several layers is one body: its parts draw each other into a line.
        body = _body(slot, nodes)
        own = sum(height[part] for part in parts[body]) / len(parts[body])
        near = neighbours[body]
        if not near:
            return own
        mean = sum(height[other] * w for other, w in near) / sum(w for _, w in near)
        return own / 3 + 2 * mean / 3 + pull.get(slot, 0.0)

    depths = sorted(slots)
    for sweep in range(SWEEPS):
        ordering = sweep < SWEEPS / 2
        for depth in depths if sweep % 2 else reversed(depths):
            wanted = {slot: desired(slot) for slot in slots[depth]}
            order = sorted(slots[depth], key=wanted.__getitem__ if ordering else height.__getitem__)
            spaced = _spaced([wanted[slot] for slot in order])
            height |= dict(zip(order, spaced, strict=True))
            if ordering and sweep % 5 == 4:
                _switch(order, beside, height)
    for _ in range(3):
        for body, body_parts in parts.items():
            if body not in pull or not pull[body]:
                _straighten(body_parts, slots, beside, height)
    return height


def _straighten(parts: list[Slot], slots: Any, beside: Any, height: dict[Slot, float]) -> None:
    """Give the parts of a body one height, a neighbour's if there is room and edges are shorter."""
    own = set(parts)
    near = [height[other] for part in parts for other in beside[part] if other not in own]
    room = [
        (height[other] - height[part], height[other])
        for part in parts
        for other in slots[part[1]]
        if other != part
    ]
    above = min([h - 1 for way, h in room if way > 0], default=np.inf)
    below = max([h + 1 for way, h in room if way < 0], default=-np.inf)

    def length() -> float:
        return sum(abs(height[a] - height[b]) / (1 + (b in own)) for a in parts for b in beside[a])

    for candidate in [*near, above, below]:
        if np.isfinite(candidate) and below - 1e-9 <= candidate <= above + 1e-9:
            before, kept = length(), [height[part] for part in parts]
            height |= dict.fromkeys(parts, candidate)
            if length() > before - 1e-9:
                height |= dict(zip(parts, kept, strict=True))


def _switch(order: list[Slot], beside: dict[Slot, list[Slot]], height: dict[Slot, float]) -> None:
    """Let those next to each other in a layer change places where that saves crossings."""
    for below, above in itertools.pairwise(list(order)):
        saved = 0
        for one, other in itertools.product(beside[below], beside[above]):
            if one[1] == other[1]:
                saved += int(height[one] > height[other]) - int(height[one] < height[other])
        if saved > 0 and height[below] < height[above]:
            height[below], height[above] = height[above], height[below]


def _body(slot: Slot, nodes: dict[Slot, Node]) -> Slot:
    """Return the body of a slot, which has one height: a node, or an edge in all its layers."""
    return slot if slot in nodes else (slot[0], -1)


def _spaced(wanted: list[float]) -> list[float]:
    """Return the nearest heights, by least squares, that are in the same order and 1 apart."""
    # Isotonic regression by pooling adjacent violators: neighbours that come too close are pooled
    # and take the mean of what they want.
    blocks: list[tuple[float, int]] = []
    for n, value in enumerate(wanted):
        mean, count = value - n, 1
        while blocks and blocks[-1][0] >= mean:
            before, others = blocks.pop()
            mean, count = (mean * count + before * others) / (count + others), count + others
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    return [mean + n for n, mean in enumerate(means)]


def _crossings(links: Any, height: Any) -> int:
    by_layer = defaultdict(list)
    for a, b in links:
        by_layer[a[1]].append((height[a], height[b]))
    count = 0
    for pairs in by_layer.values():
        ends = np.array(pairs)
        before = np.sign(ends[:, None, 0] - ends[None, :, 0])
        after = np.sign(ends[:, None, 1] - ends[None, :, 1])
        count += int((before * after < 0).sum()) // 2
    return count
