"""Weights of torch against ours: what torch computed, kept in a file, and torch itself."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, interop, topologies
from rnn_jax.cells import LSTMState
from tests.helpers import drawn, normal
from tests.interop import torch_reference
from tests.interop.test_interop import ELMAN, GRU, LSTM, RELU, B, H, I, T, energy


def stored(name):
    """Of one network of tests/interop/data/torch_reference.npz."""
    with np.load(torch_reference.PATH) as arrays:
        prefix = f"{name}/"
        return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def weights_of(arrays):
    return {key: jnp.asarray(a) for key, a in arrays.items() if key.startswith(("weight", "bias"))}


@pytest.mark.parametrize(
    ("name", "kind", "cell"),
    [
        ("rnn_tanh", "elman", ELMAN),
        ("rnn_relu", "elman", RELU),
        ("lstm", "lstm", LSTM),
        ("gru", "gru", GRU),
    ],
)
def test_parity_with_torch(name, kind, cell):
    torch = stored(name)
    weights, xs = weights_of(torch), jnp.asarray(torch["xs"])
    state_of = lambda h, c: LSTMState(c=c[0], h=h[0]) if kind == "lstm" else h[0]

    def E(weights, xs, h, c):
        params = interop.import_weights("torch", kind, weights)
        return energy(cell, params, xs, state_of(h, c))

    h, c = (jnp.asarray(torch[name]) if name in torch else None for name in ("h_0", "c_0"))
    (_, got), gradient = jax.jit(jax.value_and_grad(E, (0, 1, 2), has_aux=True))(weights, xs, h, c)
    close = lambda a, b: chex.assert_trees_all_close(a, b, rtol=1e-10, atol=1e-12)
    close(got, (torch["ys"], state_of(torch["h_n"], torch.get("c_n"))))
    expected = {key: torch[f"grad/{key}"] for key in weights}
    close(gradient, (expected, torch["grad/xs"], torch["grad/h_0"]))


@pytest.mark.parametrize(("kind", "cell"), [("lstm", LSTM), ("gru", GRU)])
def test_a_direction_of_torch_is_found_by_its_name(kind, cell):
    torch = stored(f"1layer_bidirectional_{kind}")
    for at, direction in (("_l0", 0), ("_l0_reverse", 1)):
        params = interop.import_weights("torch", kind, weights_of(torch), at=at)
        start = torch["h_0"][direction]
        if kind == "lstm":
            start = LSTMState(c=torch["c_0"][direction], h=start)
        _, ys = rnn_jax.unroll(
            cell,
            params,
            jnp.asarray(torch["xs"]),
            start,
            lengths=torch["lengths"],
            reverse=bool(direction),
        )
        expected = torch["ys"][..., direction * H : (direction + 1) * H]
        chex.assert_trees_all_close(ys, expected, rtol=1e-10, atol=1e-12)


def test_torch_itself():
    """What is stored is what torch computes, and our weights run there."""
    torch = pytest.importorskip("torch")
    with np.load(torch_reference.PATH) as arrays:
        chex.assert_trees_all_close(dict(arrays), torch_reference.reference(), rtol=1e-11)

    x = normal(1, T, B, I)
    for kind, cell, make in (
        ("elman", ELMAN, torch.nn.RNN),
        ("lstm", LSTM, torch.nn.LSTM),
        ("gru", GRU, torch.nn.GRU),
    ):
        params = drawn(cell.init(jax.random.key(0), I))
        weights = interop.export_weights("torch", kind, params)
        network = make(I, H, dtype=torch.float64)
        network.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        ys = network(torch.from_numpy(np.array(x)))[0].detach().numpy()
        chex.assert_trees_all_close(ys, rnn_jax.unroll(cell, params, x)[1], rtol=1e-10, atol=1e-12)
        chex.assert_trees_all_equal(interop.import_weights("torch", kind, network), params)
    cell = torch.nn.GRUCell(I, H, dtype=torch.float64, bias=False)
    params = interop.import_weights("torch", "gru", cell, at="")
    y = cell(torch.from_numpy(np.array(x[0]))).detach().numpy()
    chex.assert_trees_all_close(GRU.step(params, jnp.zeros((B, H)), x[0])[1], y, rtol=1e-10)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_bidirectional_is_torchs_on_packed_sequences(layers, kind):
    """Outputs, final states and the gradient of every weight, the inputs and initial states."""
    torch = stored(f"{layers}layer_bidirectional_{kind}")
    names = [name[5:] for name in torch if name.startswith("grad/")]
    given = {name: torch[name] for name in names}
    hidden = torch["h_0"].shape[-1]
    cell = cells.CELLS[kind](hidden, dtype=jnp.float64)

    def run(given):
        ys, finals = given["xs"], []
        for layer in range(layers):
            params, starts = [], []
            for n, at in enumerate((f"_l{layer}", f"_l{layer}_reverse")):
                weights = {name: given[name] for name in names if name.endswith(at)}
                params.append(interop.import_weights("torch", kind, weights, at=at))
                h = given["h_0"][2 * layer + n]
                start = h if kind == "gru" else cells.LSTMState(c=given["c_0"][2 * layer + n], h=h)
                starts.append(start)
            final, ys = topologies.bidirectional(
                (cell, cell), params, ys, starts, lengths=jnp.asarray(torch["lengths"])
            )
            finals.extend(final)
        return ys, finals

    def energy(given):
        ys, finals = run(given)
        return sum(0.5 * jnp.square(leaf).sum() for leaf in (ys, *jax.tree.leaves(finals)))

    ys, finals = run(given)
    np.testing.assert_allclose(ys, torch["ys"], rtol=1e-10, atol=1e-13)
    for n, final in enumerate(finals):
        h = final if kind == "gru" else final.h
        np.testing.assert_allclose(h, torch["h_n"][n], rtol=1e-10)
        if kind == "lstm":
            np.testing.assert_allclose(final.c, torch["c_n"][n], rtol=1e-10)
    gradient = jax.jit(jax.grad(energy))(given)
    for name in names:
        np.testing.assert_allclose(
            gradient[name], torch[f"grad/{name}"], rtol=1e-10, atol=1e-12, err_msg=name
        )
