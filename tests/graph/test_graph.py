"""The computational graph is what the Jacobian says, and its pictures are legible."""

import re
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, unroll
from rnn_jax.graph import gradient_path, step_graph, unfolded_graph
from rnn_jax.graph.drawing import draw_folded, draw_unfolded
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE

X = jnp.zeros(INPUT_SIZE)


def made(step, state, **params):
    """A user's cell and its parameters."""
    params = {name: jnp.asarray(value) for name, value in params.items()}
    return cells.from_function(step, state), params


def edges(graph):
    """Without operations: which leaf is computed from which, by name and step."""
    at = lambda id: f"{graph.nodes[id].name}{graph.nodes[id].step}".replace("None", "")
    return {(at(e.source), at(e.target)) for e in graph.edges}


def test_dependence_is_where_the_jacobian_is_not_zero(cell, params):
    def point(seed):
        leaves, tree = jax.tree.flatten(params)
        drawn = [normal(seed + i, *p.shape, dtype=p.dtype) / 2 for i, p in enumerate(leaves)]
        return tree.unflatten(drawn), random_state(cell, params, (), seed), normal(seed, INPUT_SIZE)

    # At several points: a relu is flat at half of them.
    points = jax.tree.map(lambda *leaves: np.stack(leaves), *map(point, (0, 100, 200, 300)))
    blocks = jax.device_get(jax.jit(jax.vmap(jax.jacrev(lambda args: cell.step(*args))))(points))
    outputs = jax.eval_shape(cell.step, *point(0))
    jacobian = [jax.tree.leaves(row) for row in _rows(blocks, outputs)]
    graph = step_graph(cell, params, X)
    before = [node for node in graph.of_kind("state") if node.step == -1]
    sources = [*graph.of_kind("parameter"), *before, *graph.of_kind("input")]
    targets = [*(node.at(0).id for node in before), *(node.id for node in graph.of_kind("output"))]
    for row, target in zip(jacobian, targets, strict=True):
        for block, source in zip(row, sources, strict=True):
            found = target in graph.reach({source.id}, differentiable=True)
            assert found == bool((block != 0).any()), (source.id, target)


def _rows(blocks, outputs):
    """One subtree of the Jacobian for each leaf of the outputs."""
    return jax.tree.structure(outputs).flatten_up_to(blocks)


def test_every_parameter_is_one_node_however_often_it_is_read(cell, params):
    x = jnp.zeros(INPUT_SIZE)
    for graph in (step_graph(cell, params, x), unfolded_graph(cell, params, x, 3)):
        labels = [node.label for node in graph.of_kind("parameter")]
        assert len(labels) == len(set(labels)) == len(jax.tree.leaves(params))
    assert len(graph.of_kind("loss")) == 3
    assert len(graph.of_kind("state")) == 4 * len(jax.tree.leaves(cell.initial_state(params)))


@pytest.mark.parametrize("detail", ["states", "operations"])
def test_gradient_path_is_what_powers_of_the_adjacency_matrix_say(cell, params, detail):
    graph = unfolded_graph(cell, params, X, 3, detail=detail)
    ids = list(graph.nodes)
    for t, k in [(3, 1), (2, 2), (3, 0)]:
        beside = {n.id for n in graph.of_kind("state") if n.step == k}
        A = np.zeros((len(ids), len(ids)), int)
        for edge in graph.edges:
            if edge.differentiable and edge.target not in beside:
                A[ids.index(edge.source), ids.index(edge.target)] = 1
        reach, power = np.eye(len(ids), dtype=int), np.eye(len(ids), dtype=int)
        while power.any():
            power = np.minimum(power @ A, 1)
            reach |= power
        (loss,) = (n.id for n in graph.of_kind("loss") if n.step == t)
        starts = [ids.index(s) for s in beside]
        on_path = reach[starts].any(0) & reach[:, ids.index(loss)].astype(bool)
        path = gradient_path(graph, t, k)
        assert path.nodes == {id for id, on in zip(ids, on_path, strict=True) if on}
        assert {(e.source, e.target) for e in path.edges} == {
            (ids[i], ids[j]) for i, j in zip(*A.nonzero(), strict=True) if on_path[i] and on_path[j]
        }


def test_an_lstm_is_its_equations():
    cell = cells.lstm(4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    graph = step_graph(cell, params, X)
    operations = graph.of_kind("operation")
    # a = U x + W h + b; i, f, o = σ(a), g = tanh(a); c = f ⊙ c + i ⊙ g; h = o ⊙ tanh(c)
    signs = sorted(node.label for node in operations)
    expected = {r"$\times$": 2, "+": 2, r"$\sigma$": 3, "tanh": 2, r"$\odot$": 3}
    assert {sign: signs.count(sign) for sign in signs} == expected
    named = {(node.name, node.label) for node in operations if node.name}
    assert named == {*((gate, r"$\sigma$") for gate in "ifo"), ("g", "tanh")}
    assert edges(unfolded_graph(cell, params, X, 1)) == {
        *((p, s) for p in ("W", "U", "b", "x1", "h0") for s in ("c1", "h1")),
        *[("c0", "c1"), ("c1", "h1"), ("h1", "y1"), ("y1", "E1")],
    }


GATES = {
    "lstm_peephole": {*"ifog"},
    "lstm_coupled": {*"fog"},
    "slstm": {*"ifoz"},
    "gru": {*"rzn"},
    "gru_reset_before": {*"rzn"},
    "mgu": {*"fn"},
    "ugrnn": {*"gn"},
    "fastgrnn": {*"zn"},
    "antisymmetric_gated": {*"zn"},
    "lem": {*"sr"},
    "rg_lru": {"r", "i", "alpha", "beta"},
    "min_gru": {"alpha", "z", "beta"},
    "selective": {"Delta", "alpha", "beta"},
}


@pytest.mark.parametrize("name", GATES)
def test_gates_are_named_by_the_scopes_of_their_cell(name):
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    graph = step_graph(cell, cell.init(jax.random.key(0), INPUT_SIZE), X)
    assert {node.name for node in graph.of_kind("operation") if node.name} == GATES[name]


def test_values_that_leave_a_scope_are_named_by_it_and_no_others():
    def step(p, h, x):
        with jax.named_scope("layer"), jax.named_scope("gate"):
            gate = jax.jit(lambda a: 1 - jnp.exp(a))(p["W"] * x)
        with jax.named_scope("u v"):
            u, v = jnp.split(jnp.sin(jnp.concatenate([gate, h])), 2)
        with jax.named_scope("w"):
            w = jax.vmap(lambda a: jax.nn.softplus(a) / 2)(u)
        return h * jnp.cos(w) + v, u

    cell, params = made(step, jnp.zeros(3), W=0.5)
    graph = step_graph(cell, params, X)
    names = {(node.name, node.label) for node in graph.of_kind("operation")}
    assert {pair for pair in names if pair[0]} == {
        *[("gate", "1 −"), ("u", "sin"), ("v", "sin"), ("w", "÷ 2")]
    }
    without = lambda p, h, x: (jnp.tanh(p["W"] * h + x), h)
    graph = step_graph(*made(without, jnp.zeros(3), W=0.5), X)
    assert not any(node.name for node in graph.of_kind("operation"))


@pytest.mark.parametrize("name", cells.CELLS)
def test_scopes_add_no_operation(name, monkeypatch):
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    args = params, cell.initial_state(params), X
    traced = lambda: str(jax.make_jaxpr(lambda *args: cell.step(*args))(*args))  # not from a cache
    scopes = []
    with_scopes = traced()
    monkeypatch.setattr(jax, "named_scope", lambda scope: nullcontext(scopes.append(scope)))
    assert traced() == with_scopes
    assert scopes or name == "diagonal"


@pytest.mark.parametrize("strategy", ["scan", "fused"])
@pytest.mark.parametrize(
    ("make", "dtype"), [(cells.lstm, jnp.float32), (cells.lstm_peephole, jnp.bfloat16)]
)
def test_the_gates_of_an_lstm_are_in_the_compiled_program(strategy, make, dtype):
    """And so in a profile: each of them in the forward pass, and in the backward pass.

    The peepholes are broadcast over examples, so that in half precision the step is evaluated from
    its jaxpr, once more.
    """
    cell = make(4, dtype=dtype)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = jnp.ones((4, 2, INPUT_SIZE), dtype)
    loss = lambda params: unroll(cell, params, xs, strategy=strategy)[1].sum()
    program = jax.jit(jax.grad(loss)).lower(params).compile().as_text()
    scopes = re.findall(r'op_name="([^"]*)"', program)
    for gate in "ifogch":
        of_gate = [scope for scope in scopes if re.search(rf"[/(]{gate}\)*/", scope)]
        assert any("transpose" not in scope for scope in of_gate), gate
        assert any("transpose" in scope for scope in of_gate), gate


def test_slices_of_a_concatenation_are_told_apart():
    def step(p, h, x):
        a = jnp.tanh(2 * jnp.concatenate([p["U"] @ x, h["b"]]))
        first, second = jnp.split(a, 2)
        return {"a": first, "b": second}, a

    cell, params = made(step, {"a": jnp.zeros(2), "b": jnp.zeros(2)}, U=np.ones((2, INPUT_SIZE)))
    assert edges(unfolded_graph(cell, params, X, 1)) == {
        *[("U", "a1"), ("x1", "a1"), ("b0", "b1")],
        *[("U", "y1"), ("x1", "y1"), ("b0", "y1"), ("y1", "E1")],
    }


def test_leaves_that_are_untouched_constant_swapped_or_the_input():
    def step(p, s, x):
        new = {"kept": s["kept"], "zero": jnp.zeros(3), "a": s["b"], "b": s["a"], "last": x}
        return new, s["kept"]

    cell, params = made(step, {n: jnp.zeros(3) for n in ("kept", "zero", "a", "b", "last")}, W=1.0)
    assert edges(unfolded_graph(cell, params, X, 1)) == {
        *[("kept0", "kept1"), ("b0", "a1"), ("a0", "b1"), ("x1", "last1")],
        *[("kept0", "y1"), ("y1", "E1")],
    }
    assert not gradient_path(unfolded_graph(cell, params, X, 2), 1, 1).nodes


def test_no_gradient_goes_through_stops_integers_and_predicates():
    def step(p, h, x):
        chosen = jnp.where(h["hard"] > 0, x, 2 * x)
        return {
            "stopped": jax.lax.stop_gradient(h["stopped"]) + x,
            "hard": chosen,
            "whole": h["whole"].astype(int).astype(x.dtype),
        }, h["stopped"]

    cell, params = made(step, {n: jnp.zeros(3) for n in ("stopped", "hard", "whole")})
    graph = step_graph(cell, params, X)
    for leaf in ("stopped", "hard", "whole"):
        after = f"state {leaf} @ 0"
        assert after in graph.reach({f"state {leaf} @ -1"})
        assert after not in graph.reach({f"state {leaf} @ -1"}, differentiable=True)
    assert not gradient_path(unfolded_graph(cell, params, X, 3), 3, 1, "stopped").nodes


def test_a_learned_initial_state_is_computed_from_its_parameter():
    step = lambda p, h, x: (jnp.tanh(p["W"] @ h + x), h)
    cell = cells.from_function(step, state=lambda p: 2 * p["h0"])
    params = {"W": jnp.eye(INPUT_SIZE), "h0": jnp.ones(INPUT_SIZE)}
    graph = unfolded_graph(cell, params, X, 2)
    assert edges(graph) == {
        *[("h0", "h0"), ("W", "h1"), ("W", "h2"), ("h0", "h1"), ("h1", "h2")],
        *[("x1", "h1"), ("x2", "h2"), ("h0", "y1"), ("h1", "y2"), ("y1", "E1"), ("y2", "E2")],
    }
    assert ("parameter h0", "state h @ 0") in {(e.source, e.target) for e in graph.edges}


def test_letters_that_the_state_has_taken_are_left_to_it():
    step = lambda p, s, x: ({"x": s["y"] + x, "y": jnp.tanh(s["x"]), "E": s["E"] * 2}, s["x"])
    cell, params = made(step, {n: jnp.zeros(3) for n in ("x", "y", "E")})
    graph = unfolded_graph(cell, params, X, 1)
    labels = [node.label for node in graph.nodes.values()]
    assert len(labels) == len(set(labels))
    assert {"$u_{1}$", r"$\hat{y}_{1}$", "$L_{1}$"} <= set(labels)


def test_leaves_with_one_name_are_told_apart():
    cell = cells.readout(cells.elman(3, dtype=jnp.float64), 2)
    inner = cell.init(jax.random.key(0), 3)
    step = lambda p, s, x: ((cell.step(p["a"], s[0], x)[0], cell.step(p["b"], s[1], x)[0]), s[0])
    both = cells.from_function(step, (jnp.zeros(3), jnp.zeros(3)))
    graph = step_graph(both, {"a": inner, "b": inner}, jnp.zeros(3))
    labels = [node.label for node in graph.of_kind("parameter")]
    assert len(set(labels)) == 10
    assert r"$W^{(a,\mathrm{cell})}$" in labels
    states = {node.label for node in graph.of_kind("state")}
    assert states == {"$h_{t-1}^{(1)}$", "$h_{t-1}^{(2)}$", "$h_{t}^{(1)}$", "$h_{t}^{(2)}$"}


def test_functions_with_a_name_are_drawn_by_it():
    def step(p, h, x):
        h = jax.nn.softplus(h) + jax.nn.relu(x) - jax.checkpoint(jnp.sin)(x) / 2
        return h, h

    cell, params = made(step, jnp.zeros(3))
    graph = step_graph(cell, params, X)
    signs = sorted(node.label for node in graph.of_kind("operation"))
    assert signs == sorted(["softplus", "ReLU", "sin", "÷ 2", "+"])
    assert [edge.mark for edge in graph.edges if edge.mark] == ["−"]


def test_an_unfolded_graph_grows_and_a_long_program_does_too():
    def step(p, h, x):
        for _ in range(12):
            h = jnp.sin(p["W"] * h) + x
        return h, h

    cell, params = made(step, jnp.zeros(3), W=0.5)
    figure = draw_folded(step_graph(cell, params, X))
    assert figure.get_figwidth() > 24  # a layer an operation, and each of readable size
    cell = cells.elman(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    widths = [draw_unfolded(unfolded_graph(cell, params, X, n)).get_figwidth() for n in (3, 6, 9)]
    assert widths[2] - widths[1] == pytest.approx(widths[1] - widths[0])


def bad_graphs():
    cell = cells.elman(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    step, unfolded = step_graph(cell, params, X), unfolded_graph(cell, params, X, 3)
    return {
        "x: got float64[2, 3]": lambda: step_graph(cell, params, jnp.zeros((2, INPUT_SIZE))),
        "steps: got int 0": lambda: unfolded_graph(cell, params, X, 0),
        "detail: got str 'all'": lambda: unfolded_graph(cell, params, X, 1, detail="all"),
        "t: got int 4": lambda: gradient_path(unfolded, 4, 1),
        "k: got int 3": lambda: gradient_path(unfolded, 2, 3),
        "leaf: got c": lambda: gradient_path(unfolded, 2, 1, "c"),
        "graph: got one step": lambda: gradient_path(step, 1, 1),
        "Use draw_folded": lambda: draw_unfolded(step),
        "Use draw_unfolded": lambda: draw_folded(unfolded),
        "gradient_from, gradient_to: got 3, None": lambda: draw_unfolded(unfolded, 3),
    }


def test_errors_say_what_came_and_what_to_do():
    for message, call in bad_graphs().items():
        with pytest.raises(ValueError, match=re.escape(message)):
            call()


def test_a_jordan_network_feeds_its_output_back_and_has_a_hidden_layer():
    """o is handed on, h lies between; an Elman network hands on h. By parameters: its equation."""
    x = X.astype(jnp.float32)
    plain = cells.jordan(4, 2)
    for cell in (plain, cells.jordan(4, 4, "relu"), cells.readout(plain, 3)):
        params = cell.init(jax.random.key(0), INPUT_SIZE)
        graph = unfolded_graph(cell, params, x, 2)
        assert [node.label for node in graph.of_kind("state")] == ["$o_{0}$", "$o_{1}$", "$o_{2}$"]
        assert [node.label for node in graph.of_kind("hidden")] == ["$h_{1}$", "$h_{2}$"]
        path = gradient_path(graph, 2, 0)
        assert {"hidden h @ 1", "hidden h @ 2", "state o @ 1"} <= path.nodes
    graph = unfolded_graph(plain, plain.init(jax.random.key(0), INPUT_SIZE), x, 2)
    expected = {("W", "h1"), ("U", "h1"), ("b", "h1"), ("o0", "h1"), ("x1", "h1")}
    expected |= {("V", "o1"), ("c", "o1"), ("h1", "o1"), ("o1", "y1"), ("y1", "E1")}
    assert {edge for edge in edges(graph) if edge[1].endswith("1")} == expected
    for figure in (draw_unfolded(graph, 2, 0), draw_folded(graph.step)):
        assert "hidden layer" in [text.get_text() for text in figure.legends[0].get_texts()]
    both = cells.stack(cells.jordan(4, 2), cells.elman(3))
    graph = step_graph(both, both.init(jax.random.key(0), INPUT_SIZE), x)
    assert [n.name for n in graph.of_kind("state") if n.step == 0] == ["o(1)", "h(2)"]
