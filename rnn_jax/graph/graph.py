"""Nodes, edges and paths of a computational graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from rnn_jax.errors import check_integer, describe, invalid
from rnn_jax.graph.letters import Letter

Kind = Literal["parameter", "input", "state", "hidden", "operation", "output", "loss"]


@dataclass(frozen=True)
class Node:
    """A value, or the operation that computes it.

    Attributes:
      id: unique name: `parameter W`, `state h @ 2`, `operation 7 @ 2`.
      kind: role of the value; "hidden" is a layer within the step, which is not handed on.
      label: text of its box, in mathematics: a letter, or an operation's sign.
      name: letter in plain characters; of an operation, the `jax.named_scope` of its result.
      step: step that it belongs to, 0 for the state before the first; None for parameters. In a
        graph of one step, -1 is the state before it and 0 all else.
      letter: letter that `label` is made of; None for operations.
    """

    id: str
    kind: Kind
    label: str
    name: str = ""
    step: int | None = None
    letter: Letter | None = None

    def at(self, step: int, time: str | None = None) -> Node:
        """Return this node at another step, which is written as `time`."""
        label = self.letter.tex(time or str(step)) if self.letter else self.label
        return replace(self, id=f"{self.id.split(' @ ')[0]} @ {step}", label=label, step=step)

    def later(self, steps: int) -> Node:
        """Return this node some steps later; parameters as they are."""
        return self if self.step is None else self.at(self.step + steps)


class Edge(NamedTuple):
    """`target` is computed from `source`.

    Attributes:
      source: id of the node that is read.
      target: id of the node that reads it.
      mark: sign of the operand where operands differ: "−" in a difference, "÷" in a quotient.
      differentiable: whether a gradient goes back along it.
    """

    source: str
    target: str
    mark: str = ""
    differentiable: bool = True


class Path(NamedTuple):
    """Nodes, by their ids, and edges of a graph that lie on the way of a gradient."""

    nodes: frozenset[str]
    edges: frozenset[Edge]


@dataclass(frozen=True)
class Graph:
    """A computational graph.

    Attributes:
      nodes: nodes by id, each before those that are computed from it.
      edges: edges, each from a value to one computed from it.
      steps: number of steps that it shows; None for one step, folded.
      step: graph of the one step that an unfolded graph repeats.
    """

    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    steps: int | None = None
    step: Graph | None = None

    def of_kind(self, *kinds: Kind) -> list[Node]:
        """Return the nodes of these kinds."""
        return [node for node in self.nodes.values() if node.kind in kinds]

    def reach(self, sources: Iterable[str], *, differentiable: bool = False) -> frozenset[str]:
        """Return the nodes that depend on `sources`, these included.

        Args:
          sources: ids of nodes.
          differentiable: whether to follow only edges that gradients go back along.
        """
        forward = _neighbours(self.edges, lambda e: (e.source, e.target), differentiable)
        return _closure(sources, forward)


def gradient_path(graph: Graph, t: int, k: int, leaf: str | None = None) -> Path:
    """Return the path of ∂E_t/∂h_k: nodes and edges on directed paths from the state k to E_t.

    The leaves of a state are independent variables, as in `gradients.decompose`: the derivative
    with respect to an LSTM's c_k holds h_k fixed, so that what lies between them is on no path.

    Args:
      graph: graph of `unfolded_graph`.
      t: step of the loss, from 1.
      k: step of the state, from 0, the initial state, to t.
      leaf: `name` of one leaf of the state; all of them by default.

    Returns:
      The path; empty where E_t does not depend on the state at k, or is not differentiable in it.

    Raises:
      ValueError: a graph of one step; t or k that are not in it; no such leaf.
    """
    if not isinstance(graph, Graph):
        raise invalid("graph", describe(graph), "a graph over steps", "Draw unfolded_graph(...).")
    if graph.steps is None:
        raise invalid("graph", "one step", "a graph over steps", "Draw unfolded_graph(...).")
    t = check_integer("t", t, most=graph.steps, remedy="Unfold over more steps.")
    k = check_integer("k", k, least=0, most=t, remedy="E_t does not depend on later states.")
    state = [node for node in graph.of_kind("state") if node.step == k]
    chosen = {node.id for node in state if leaf in (None, node.name)}
    if not chosen:
        names = ", ".join(node.name for node in state) or "none: the state is empty"
        raise invalid("leaf", leaf, f"a leaf of the state: {names}", "Pick one of these.")
    (loss,) = (node.id for node in graph.of_kind("loss") if node.step == t)
    beside = {node.id for node in state}
    edges = [e for e in graph.edges if e.differentiable and e.target not in beside]
    after = _closure(chosen, _neighbours(edges, lambda e: (e.source, e.target)))
    before = _closure([loss], _neighbours(edges, lambda e: (e.target, e.source)))
    on_path = after & before
    return Path(on_path, frozenset(e for e in edges if {e.source, e.target} <= on_path))


def _neighbours(
    edges: Iterable[Edge],
    ends: Callable[[Edge], tuple[str, str]],
    differentiable: bool = False,
) -> dict[str, list[str]]:
    neighbours = defaultdict(list)
    for edge in edges:
        if edge.differentiable or not differentiable:
            start, end = ends(edge)
            neighbours[start].append(end)
    return neighbours


def _closure(sources: Iterable[str], neighbours: dict[str, list[str]]) -> frozenset[str]:
    found, waiting = set(sources), list(sources)
    while waiting:
        for neighbour in neighbours.get(waiting.pop(), ()):
            if neighbour not in found:
                found.add(neighbour)
                waiting.append(neighbour)
    return frozenset(found)
