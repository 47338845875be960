"""A cell's computational graph, of one step and unfolded over several, from its own jaxpr."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from graphlib import TopologicalSorter
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_integer, choose, describe, invalid
from rnn_jax.graph.calls import body_to_inline
from rnn_jax.graph.graph import Edge, Graph, Kind, Node
from rnn_jax.graph.letters import Letter, free, letters
from rnn_jax.graph.operations import Operations, Value
from rnn_jax.graph.scopes import scope_names
from rnn_jax.transforms.program import Place, Program
from rnn_jax.types import Array, Params


def step_graph(cell: Cell, params: Params, x: Array) -> Graph:
    """Return the graph of one step, folded: how state, output and input depend on each other.

    An operation is named after the `jax.named_scope` whose result it is, as the cells of this
    package name their gates; a step without scopes has operations without names. A value that the
    step names by `jax.ad_checkpoint.checkpoint_name`, as `jordan` does its hidden layer, has a node
    of its own; a state that is one array is called h unless it is named so.

    The step is traced for one example and nothing is computed. What is drawn is exact to the
    equation, and to the slice where vectors are split and concatenated; a loop inside the step
    (`scan`, `while`) counts as one operation, each result of which depends on all that it reads.

    Args:
      cell: any cell.
      params: parameters of it; each leaf is one node, also where the step does not read it.
      x: one input, `[I]`; only its shape and dtype are read.

    Raises:
      ValueError: no cell; params that are not its; x that has more axes than one, or is no array of
        real numbers.
    """
    check_cell("cell", cell)
    is_array = hasattr(x, "dtype") and hasattr(x, "shape")
    if not is_array or len(x.shape) != 1 or jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise invalid("x", describe(x), "one input of one example, [I]", "Pass xs[0], or xs[0, 0].")
    state, closed, y = _traced(cell, params, x)
    program = Program(closed, body_to_inline)
    in_params, in_state = len(jax.tree.leaves(params)), len(jax.tree.leaves(state))

    named = _named(program)
    state_letters = letters(state, bare=[named.get(p, "h") for p in program.outputs[:in_state]])
    taken = {letter.base for letter in state_letters}
    x_letter = free(["x", "u", "input"], taken)
    y_letters = letters(y, bare=free(["y", "ŷ", "output"], taken).base)
    before = [_variable("state", letter, -1) for letter in state_letters]
    inputs = [
        *(_variable("parameter", letter, None) for letter in letters(params, bare="θ")),
        *before,
        _variable("input", x_letter, 0),
    ]
    outputs = [node.at(0, "t") for node in before]
    outputs += [_variable("output", letter, 0) for letter in y_letters]
    taken |= {letter.base for letter in (node.letter for node in (*inputs, *outputs)) if letter}
    hidden = {
        place: _variable("hidden", Letter(name), 0)
        for place, name in named.items()
        if place not in program.outputs and name not in taken
    }
    assert len(inputs) == len(program.inputs) == in_params + in_state + 1
    return _graph(program, inputs, outputs, scope_names(program), hidden)


def _traced(cell: Cell, params: Params, x: Array):
    """Return (state, jaxpr of the step, y); our error where params do not fit the cell and x."""
    # Whatever an exception here says, parameters that do not fit are its cause: `initial_state` and
    # the step have run for others.
    try:
        state = jax.eval_shape(cell.initial_state, params)
        closed, (after, y) = jax.make_jaxpr(cell.step, return_shape=True)(params, state, x)
    except ValueError as error:
        if re.match(r"^[\w.]+: got ", str(error)):
            raise
        raise _misfit(params, error) from error
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise _misfit(params, error) from error
    shape = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    if shape(state) != shape(after):
        got = f"params with which a step makes {shape(after)} of a state {shape(state)}"
        raise invalid("params", got, FITTING, "Pass cell.init(key, len(x)) of this cell.")
    return state, closed, y


def _misfit(params: Params, error: Any):
    words = " ".join(str(error).split())[:200]
    got = f"{type(params).__name__}, with which the step ends in {type(error).__name__}: {words}"
    return invalid("params", got, FITTING, "Pass cell.init(key, len(x)) of this cell.")


FITTING = "parameters that the cell's step takes with this x"


def unfolded_graph(
    cell: Cell,
    params: Params,
    x: Array,
    steps: int,
    *,
    detail: Literal["states", "operations"] = "states",
) -> Graph:
    """Return the network unfolded over steps 1 .. `steps`, parameters shared, E_t at each.

    Args:
      cell: any cell.
      params: parameters of it, each one node with edges to every step.
      x: one input, `[I]`; only its shape and dtype are read.
      steps: number of steps, at least 1.
      detail: "states" shows x_t, named layers, the leaves of the state, y_t and E_t, and an edge
        where one is computed from the other without a third between them; "operations" shows the
        operations too.

    Raises:
      ValueError: steps below 1; an unknown detail; what `step_graph` raises.
    """
    steps = check_integer("steps", steps, remedy="Pass how many steps to draw.")
    choose("detail", detail, dict.fromkeys(("states", "operations")))
    one = step_graph(cell, params, x)
    if detail == "states":
        one = without_operations(one)
    states = [node.letter.base for node in one.of_kind("state") if node.letter]
    # One step is repeated with its ids moved in time: the state after step t and the state before
    # step t + 1 then have one id, and are one node. Parameters have no time, and are shared.
    loss = Node("loss", "loss", "", "E", 0, free(["E", "L", "loss"], states))
    edges = [*_initial_state_edges(cell, params, one)]
    nodes = {node.id: node for node in one.of_kind("parameter")}
    nodes |= {node.id: node for node in (s.at(0) for s in one.of_kind("state") if s.step == -1)}
    for t in range(1, steps + 1):
        at_t = {node.id: node.later(t) for node in one.nodes.values()}
        nodes |= {node.id: node for node in at_t.values()}
        E = loss.at(t)
        nodes[E.id] = E
        edges += [e._replace(source=at_t[e.source].id, target=at_t[e.target].id) for e in one.edges]
        edges += [Edge(at_t[y.id].id, E.id) for y in one.of_kind("output")]
    return Graph(nodes, tuple(edges), steps, one)


def without_operations(graph: Graph) -> Graph:
    """Return the variables alone, with an edge where only operations lie between two of them."""
    if not isinstance(graph, Graph):
        raise invalid("graph", describe(graph), "a Graph", "Pass step_graph(cell, params, x).")
    incoming: dict[str, list[Edge]] = {node: [] for node in graph.nodes}
    for edge in graph.edges:
        incoming[edge.target].append(edge)
    # The variables that each node depends on, and whether a gradient goes back to them.
    reads: dict[str, dict[str, bool]] = {}
    for node in graph.nodes.values():
        found: dict[str, bool] = {}
        for edge in incoming[node.id]:
            whole = graph.nodes[edge.source].kind != "operation"
            for source, smooth in ({edge.source: True} if whole else reads[edge.source]).items():
                found[source] = found.get(source, False) or (smooth and edge.differentiable)
        reads[node.id] = found
    nodes = {n.id: n for n in graph.nodes.values() if n.kind != "operation"}
    edges = [Edge(source, node, "", ok) for node in nodes for source, ok in reads[node].items()]
    return Graph(nodes, tuple(edges))


def _named(program: Program) -> dict[Place, str]:
    """Return `{place: name}` of values that the step names by `checkpoint_name`, each once."""
    found = {e.writes[0]: e.params["name"] for e in program.equations if e.primitive.name == "name"}
    times = Counter(found.values())
    return {place: name for place, name in found.items() if times[name] == 1}


def _graph(
    program: Program,
    inputs: list[Node],
    outputs: list[Node],
    names: Mapping[Place, str],
    hidden: Mapping[Place, Node] = MappingProxyType({}),
) -> Graph:
    """Return the graph of a program between these variables."""
    variables = dict(zip(program.inputs, inputs, strict=True))
    handed_on = [*zip(program.outputs, outputs, strict=True), *hidden.items()]
    for place, node in handed_on:
        if node.kind in ("state", "hidden") and place not in program.constants:
            # A value handed on twice is read, inside the step, as the first.
            variables.setdefault(place, node)
    operations = Operations(program, variables)
    called = operations.names(names)
    taken = {node.letter.base for node in (*inputs, *outputs, *hidden.values()) if node.letter}
    drawn = {
        value: Node(
            f"operation {number} @ 0",
            "operation",
            operation.sign,
            name=called.get(value, "") if called.get(value) not in taken else "",
            step=0,
        )
        for number, (value, operation) in enumerate(operations.at.items(), start=1)
    }

    def node_of(value: Value) -> Node:
        return variables[value.place] if value.place in variables else drawn[value]

    edges = []
    for value, operation in operations.at.items():
        for read in operation.reads:
            # A slice is named where it goes into an operation that has no name itself.
            part = names.get(read.part, "") if read.part and not drawn[value].name else ""
            source, target = node_of(read.value).id, drawn[value].id
            edges.append(Edge(source, target, read.mark or part, read.differentiable))
    # A state or a layer stands for its value: readers of the value read the node, and the edge into
    # the node comes from the operation that defines it. An output only shows a value of another.
    for place, node in handed_on:
        if node.kind in ("state", "hidden"):
            found = operations.definition(place)
            made_here = found is not None and found.place == place and found in drawn
        else:
            found, made_here = operations.source(Value(place)), False
        if found is not None:
            edges.append(Edge((drawn[found] if made_here else node_of(found)).id, node.id))
    return _sorted([*inputs, *drawn.values(), *outputs, *hidden.values()], edges)


def _sorted(nodes: list[Node], edges: list[Edge]) -> Graph:
    """Return each node once and before what is computed from it, each edge once."""
    by_id = {node.id: node for node in nodes}
    reads: dict[str, list[str]] = {node: [] for node in by_id}
    for edge in edges:
        reads[edge.target].append(edge.source)
    order = TopologicalSorter(reads).static_order()
    return Graph({node: by_id[node] for node in order}, tuple(dict.fromkeys(edges)))


def _initial_state_edges(cell: Cell, params: Params, one: Graph) -> list[Edge]:
    """Return edges from the parameters that a learned initial state is computed from."""
    closed = jax.make_jaxpr(cell.initial_state)(params)
    # Inputs come first in a graph, in the order of their leaves.
    start = [node.at(0) for node in one.of_kind("state") if node.step == -1]
    found = _graph(Program(closed, body_to_inline), one.of_kind("parameter"), start, {})
    return list(without_operations(found).edges)


def _variable(kind: Kind, letter: Letter, step: int | None) -> Node:
    node = Node(f"{kind} {letter.text}", kind, letter.tex(), letter.text, None, letter)
    return node if step is None else node.at(step, "t-1" if step < 0 else "t")
