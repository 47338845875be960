"""Cells and weights of flax, haiku and equinox against ours. In float64."""

from typing import NamedTuple

import chex
import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import rnn_jax
from rnn_jax import cells, gradients, interop, losses
from rnn_jax.cells import LSTMState
from tests.helpers import drawn, normal, random_state

T, B, I, H = 5, 2, 3, 4
F = {"param_dtype": jnp.float64}
DOUBLE = {"dtype": jnp.float64}


def from_nnx(make, **options):
    return interop.from_nnx(lambda n, rngs: make(n, H, **F, **options, rngs=rngs))


def from_equinox(make):
    return interop.from_equinox(lambda n, key: make(n, H, **DOUBLE, key=key))


class Peer(NamedTuple):
    framework: str
    kind: str
    theirs: rnn_jax.Cell
    ours: rnn_jax.Cell


ELMAN, RELU, LSTM, GRU, RESET_BEFORE, MGU_RESET_AFTER, UGRNN = (
    cells.elman(H, **DOUBLE),
    cells.elman(H, "relu", **DOUBLE),
    cells.lstm(H, **DOUBLE),
    cells.gru(H, **DOUBLE),
    cells.gru_reset_before(H, **DOUBLE),
    cells.mgu_reset_after(H, **DOUBLE),
    cells.ugrnn(H, **DOUBLE),
)
PEERS = {
    "linen SimpleCell": Peer("linen", "elman", interop.from_linen(nn.SimpleCell(H, **F)), ELMAN),
    "linen LSTMCell": Peer("linen", "lstm", interop.from_linen(nn.LSTMCell(H, **F)), LSTM),
    "linen OptimizedLSTMCell": Peer(
        "linen", "lstm", interop.from_linen(nn.OptimizedLSTMCell(H, **F)), LSTM
    ),
    "linen GRUCell": Peer("linen", "gru", interop.from_linen(nn.GRUCell(H, **F)), GRU),
    "linen MGUCell": Peer(
        "linen", "mgu_reset_after", interop.from_linen(nn.MGUCell(H, **F)), MGU_RESET_AFTER
    ),
    "linen MGUCell without its reset": Peer(
        "linen", "ugrnn", interop.from_linen(nn.MGUCell(H, reset_gate=False, **F)), UGRNN
    ),
    "nnx SimpleCell": Peer("nnx", "elman", from_nnx(nnx.SimpleCell, **DOUBLE), ELMAN),
    "nnx LSTMCell": Peer("nnx", "lstm", from_nnx(nnx.LSTMCell), LSTM),
    "nnx OptimizedLSTMCell": Peer("nnx", "optimized_lstm", from_nnx(nnx.OptimizedLSTMCell), LSTM),
    "nnx GRUCell": Peer("nnx", "gru", from_nnx(nnx.GRUCell), GRU),
    "haiku VanillaRNN": Peer(
        "haiku", "elman", interop.from_haiku(lambda: hk.VanillaRNN(H), **DOUBLE), RELU
    ),
    "haiku LSTM": Peer("haiku", "lstm", interop.from_haiku(lambda: hk.LSTM(H), **DOUBLE), LSTM),
    "haiku GRU": Peer(
        "haiku", "gru_reset_before", interop.from_haiku(lambda: hk.GRU(H), **DOUBLE), RESET_BEFORE
    ),
    "equinox LSTMCell": Peer("equinox", "lstm", from_equinox(eqx.nn.LSTMCell), LSTM),
    "equinox GRUCell": Peer("equinox", "gru", from_equinox(eqx.nn.GRUCell), GRU),
}
OTHERS = {
    "linen MGUCell with its reset": interop.from_linen(nn.MGUCell(H, **F)),
    "linen ConvLSTMCell": interop.from_linen(nn.ConvLSTMCell(2, (2,), **F), input_shape=(I, 1)),
    "haiku Conv1DLSTM": interop.from_haiku(
        lambda: hk.Conv1DLSTM((I,), 2, 2), input_shape=(I, 1), **DOUBLE
    ),
    "haiku DeepRNN": interop.from_haiku(
        lambda: hk.DeepRNN([hk.GRU(H), jax.nn.relu, hk.LSTM(H)]), **DOUBLE
    ),
}
ALL = {name: peer.theirs for name, peer in PEERS.items()} | OTHERS


@pytest.fixture(params=PEERS)
def peer(request):
    return PEERS[request.param]


def as_ours(framework, state):
    """Their state as ours: of an LSTM (c, h) in flax; (h, c) elsewhere, by name in haiku."""
    if isinstance(state, hk.LSTMState):
        return LSTMState(c=state.cell, h=state.hidden)
    if isinstance(state, tuple):
        return LSTMState(*(state[::-1] if framework == "equinox" else state))
    return state


def energy(cell, params, xs, start):
    """½ Σ ys² + ½ Σ of the final state squared, and both."""
    final, ys = rnn_jax.unroll(cell, params, xs, start)
    outputs = (ys, *jax.tree.leaves(final))
    return sum(jnp.square(out).sum() / 2 for out in outputs), (ys, final)


def test_parity(peer):
    """Outputs, final state, and gradients of weights, inputs and initial state."""
    framework, kind, theirs, ours = peer
    weights = drawn(theirs.init(jax.random.key(0), I))
    xs, start = normal(1, T, B, I), random_state(theirs, weights, (B,))

    def our_energy(weights, xs, start):
        params = interop.import_weights(framework, kind, weights)
        return energy(ours, params, xs, as_ours(framework, start))

    grad = lambda f: jax.jit(jax.value_and_grad(f, (0, 1, 2), has_aux=True))(weights, xs, start)
    (E, (ys, final)), gradient = grad(lambda w, x, s: energy(theirs, w, x, s))
    (our_E, (our_ys, our_final)), our_gradient = grad(our_energy)
    chex.assert_trees_all_close(
        (our_E, our_ys, our_final), (E, ys, as_ours(framework, final)), rtol=1e-10, atol=1e-12
    )
    chex.assert_trees_all_close(our_gradient, gradient, rtol=1e-10, atol=1e-12)
    assert all(abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradient))


def test_round_trip_of_theirs_is_exact(peer):
    framework, kind, theirs, _ = peer
    weights = drawn(theirs.init(jax.random.key(0), I))
    params = interop.import_weights(framework, kind, weights)
    back = interop.export_weights(framework, kind, params)
    if (framework, kind) == ("haiku", "lstm"):  # (b_f + 1) - 1
        chex.assert_trees_all_close(back, weights, rtol=1e-14)
        back["lstm/linear"]["b"] = weights["lstm/linear"]["b"]
    if (framework, kind) == ("haiku", "elman"):  # its second bias is added to the first
        first, second = (weights[f"vanilla_rnn/linear{end}"] for end in ("", "_1"))
        weights["vanilla_rnn/linear"] = {**first, "b": first["b"] + second["b"]}
        weights["vanilla_rnn/linear_1"] = {**second, "b": jnp.zeros_like(second["b"])}
    chex.assert_trees_all_equal(back, weights)


OURS_OF = {
    **{(peer.framework, peer.kind): peer.ours for peer in PEERS.values()},
    **{("torch", kind): cell for kind, cell in (("elman", ELMAN), ("lstm", LSTM), ("gru", GRU))},
}


@pytest.mark.parametrize(("framework", "kind"), OURS_OF)
def test_round_trip_of_ours_is_exact(framework, kind):
    fresh = OURS_OF[framework, kind].init(jax.random.key(0), I)
    params = drawn(fresh)
    if (framework, kind) == ("nnx", "gru"):
        with pytest.raises(ValueError, match="b_n that is not zero; expected nnx has none"):
            interop.export_weights(framework, kind, params)
        params = params.replace(b_n=jnp.zeros(H))
    there = interop.export_weights(framework, kind, params)
    back = interop.import_weights(framework, kind, there)
    if (framework, kind) == ("haiku", "lstm"):
        chex.assert_trees_all_close(back, params, rtol=1e-14)
        params = fresh  # whose forget bias is 1
        back = interop.import_weights(
            framework, kind, interop.export_weights(framework, kind, params)
        )
    chex.assert_trees_all_equal(back, params)
    assert type(back) is type(params)


def test_exported_weights_run_where_they_went():
    x, h, c = normal(1, I), normal(2, H), normal(3, H)
    for name in ("nnx LSTMCell", "nnx OptimizedLSTMCell", "equinox LSTMCell"):
        framework, kind, _, ours = PEERS[name]
        params = drawn(ours.init(jax.random.key(0), I))
        weights = interop.export_weights(framework, kind, params)
        expected = ours.step(params, LSTMState(c=c, h=h), x)[0]
        if framework == "equinox":
            state = LSTMState(*weights(x, (h, c))[::-1])
        else:
            module = {"lstm": nnx.LSTMCell, "optimized_lstm": nnx.OptimizedLSTMCell}[kind](
                I, H, **F, rngs=nnx.Rngs(0)
            )
            nnx.update(module, weights)
            state = LSTMState(*module((c, h), x)[0])
            read = (module, nnx.state(module), nnx.to_pure_dict(nnx.state(module)))
            for source in read:
                again = interop.import_weights("nnx", kind, source)
                chex.assert_trees_all_equal(again, params)
        chex.assert_trees_all_close(state, expected, rtol=1e-12)


def own_driver(name, params, xs):
    """ys by the peer's own loop over time, `[T, B, O]`."""
    if name.startswith("linen"):
        module = {
            "linen MGUCell with its reset": nn.MGUCell(H, **F),
            "linen ConvLSTMCell": nn.ConvLSTMCell(2, (2,), **F),
        }[name]
        x = xs[..., None] if "Conv" in name else xs
        ys = nn.RNN(module, time_major=True).apply({"params": {"cell": params}}, x)
        return ys.reshape(T, B, -1)
    if name.startswith("nnx"):
        module = nnx.GRUCell(I, H, **F, rngs=nnx.Rngs(0))
        nnx.update(module, params)
        return nnx.RNN(module, time_major=True)(xs)
    if name.startswith("haiku"):
        make = {
            "haiku DeepRNN": lambda: hk.DeepRNN([hk.GRU(H), jax.nn.relu, hk.LSTM(H)]),
            "haiku Conv1DLSTM": lambda: hk.Conv1DLSTM((I,), 2, 2),
        }[name]
        x = xs[..., None] if "Conv" in name else xs
        run = lambda x: hk.dynamic_unroll(make(), x, make().initial_state(B))[0]
        return hk.transform(run).apply(params, None, x).reshape(T, B, -1)
    step = lambda state, x: (jax.vmap(params)(x, state),) * 2
    zeros = jnp.zeros((B, H))
    return jax.lax.scan(step, (zeros, zeros), xs)[1][0]


@pytest.mark.parametrize(
    "name",
    [
        "linen MGUCell with its reset",
        "linen ConvLSTMCell",
        "nnx GRUCell",
        "haiku DeepRNN",
        "haiku Conv1DLSTM",
        "equinox LSTMCell",
    ],
)
def test_unroll_is_their_own_loop_and_the_laboratory_works(name):
    cell = ALL[name]
    params, xs = drawn(cell.init(jax.random.key(0), I)), normal(1, T, B, I)
    final, ys = rnn_jax.unroll(cell, params, xs)
    chex.assert_trees_all_close(ys, own_driver(name, params, xs), rtol=1e-10, atol=1e-13)

    targets = normal(2, *ys.shape)

    def E(params):
        ys = rnn_jax.unroll(cell, params, xs)[1]
        return losses.per_step(losses.squared_error, ys, targets).sum()

    terms = gradients.decompose_terms(cell, params, xs, targets, losses.squared_error)
    sums = jax.tree.map(lambda term: term.sum((0, 1)), terms)
    chex.assert_trees_all_close(sums, jax.grad(E)(params), rtol=1e-10, atol=1e-12)
    S = sum(leaf[0].size for leaf in jax.tree.leaves(final))
    assert gradients.step_jacobians(cell, params, xs).shape == (T, B, S, S)


@pytest.mark.parametrize(
    "cell",
    [
        interop.from_linen(nn.LSTMCell(H)),
        interop.from_nnx(lambda n, rngs: nnx.GRUCell(n, H, rngs=rngs)),
        interop.from_haiku(lambda: hk.LSTM(H)),
        interop.from_equinox(lambda n, key: eqx.nn.GRUCell(n, H, dtype=jnp.float32, key=key)),
    ],
    ids=["linen", "nnx", "haiku", "equinox"],
)
def test_float32_stays_and_keys_differ(cell):
    params = cell.init(jax.random.key(0), I)
    state, ys = rnn_jax.unroll(cell, params, jnp.ones((T, 2, 3, I), jnp.float32))
    chex.assert_type([*jax.tree.leaves((params, state)), ys], jnp.float32)
    assert ys.shape == (T, 2, 3, H)
    keys = jax.random.split(jax.random.key(1), 2)
    one, other = (jax.tree.leaves(cell.init(key, I)) for key in keys)
    assert any((a != b).any() for a, b in zip(one, other, strict=True))
    chex.assert_trees_all_equal_shapes(jax.vmap(lambda k: cell.init(k, I))(keys), _twice(params))


def _twice(tree):
    return jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), tree)


def test_an_equinox_module_of_ones_own():
    class Leaky(eqx.Module):
        W: jax.Array
        U: jax.Array
        phi: object  # a leaf that is not an array
        leak: float = eqx.field(static=True)

        def __call__(self, x, h):
            return (1 - self.leak) * h + self.leak * self.phi(self.W @ h + self.U @ x)

    make = lambda n, key: Leaky(jnp.eye(H), jax.random.normal(key, (H, n)), jnp.tanh, 0.25)
    cell = interop.from_equinox(make, state=lambda module: jnp.ones(module.W.shape[0]))
    doubled = interop.from_equinox(make, jnp.ones(H), lambda m, h, x: (m(x, h), 2 * m(x, h)))
    ours = cells.from_function(
        lambda p, h, x: (0.75 * h + 0.25 * jnp.tanh(p.W @ h + p.U @ x),) * 2, jnp.ones(H)
    )
    params, xs = cell.init(jax.random.key(0), I), normal(1, T, B, I)
    expected = rnn_jax.unroll(ours, params, xs)
    chex.assert_trees_all_close(rnn_jax.unroll(cell, params, xs), expected, rtol=1e-12)
    chex.assert_trees_all_close(rnn_jax.unroll(doubled, params, xs)[1], 2 * expected[1], rtol=1e-12)
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [(H, H), (H, I)]


def test_modules_that_were_built_keep_their_parameters():
    x = normal(1, I)
    module = nnx.LSTMCell(I, H, **F, rngs=nnx.Rngs(5))
    params = interop.from_nnx(module).init(jax.random.key(0), I)
    chex.assert_trees_all_equal(params, nnx.to_pure_dict(nnx.state(module)))
    module = eqx.nn.GRUCell(I, H, **DOUBLE, key=jax.random.key(5))
    cell = interop.from_equinox(module)
    params = cell.init(jax.random.key(0), I)
    state, y = cell.step(params, cell.initial_state(params), x)
    chex.assert_trees_all_equal((state, y), (module(x, jnp.zeros(H)),) * 2)
