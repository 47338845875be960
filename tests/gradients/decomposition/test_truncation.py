"""Truncated BPTT is a restricted sum of (t, k) terms, and its error is what it leaves out."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.gradients import truncated_gradient, truncation_error
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE, LAWFUL

READ = cells.readout(cells.gru(6, dtype=jnp.float64), 5)
T = 7
LOSS = losses.squared_error


def oracle(terms, k1, k2):
    """The kept (t, k), one pass at a time as the definition says it, and their sum."""
    kept = np.zeros((T, T))
    done = 0
    for end in [*range(k1, T, k1), T]:
        kept[done:end, max(0, end - k2) : end] = 1
        done = end
    return jax.tree.map(lambda leaf: jnp.tensordot(np.tril(kept), leaf, 2), terms)


def problem(cell, *batch):
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, *batch, INPUT_SIZE)
    start = random_state(cell, params, batch)
    end, ys = rnn_jax.unroll(cell, params, xs, start)
    return params, xs, normal(2, *ys.shape), start, end, ys


def terms_of(cell, params, xs, targets, start):
    decompose = lambda p: gradients.decompose_terms(cell, p, xs, targets, LOSS, start)
    return jax.jit(decompose)(params)


@pytest.mark.parametrize(
    ("name", "batch", "k1_k2"),
    [
        ("elman", (), [(1, 1), (1, 3), (3, 4), (2, 2)]),
        ("lstm", (2,), [(3, 3), (2, 5), (1, 7)]),
        ("lru", (), [(2, 4)]),  # complex
        ("readout", (2, 1), [(2, 3), (3, 50)]),
        ("user's function", (2,), [(1, 4), (5, 6)]),
        ("user's structure", (), [(4, 4), (9, 9)]),
    ],
)
def test_it_is_the_sum_of_the_terms_within_reach(name, batch, k1_k2):
    """Most of these k1 do not divide T = 7."""
    cell = READ if name == "readout" else LAWFUL[name](jnp.float64)
    params, xs, targets, start, end, ys = problem(cell, *batch)
    terms = terms_of(cell, params, xs, targets, start)
    for k1, k2 in k1_k2:
        value, gradient, final = jax.jit(
            lambda p: truncated_gradient(cell, p, xs, targets, LOSS, start, k1=k1, k2=k2)
        )(params)
        chex.assert_trees_all_close(gradient, oracle(terms, k1, k2), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(value, LOSS(ys, targets).sum(), rtol=1e-13)
        chex.assert_trees_all_close(final, end, rtol=1e-13)


@pytest.mark.parametrize("k1", [1, 3])
def test_the_error_is_that_of_the_sum_of_the_terms_within_reach(k1):
    cell = READ
    params, xs, targets, start, *_ = problem(cell, 2)
    terms = terms_of(cell, params, xs, targets, start)
    k2s = [4, 7, 3, 4, 9]
    error = jax.jit(lambda p: truncation_error(cell, p, xs, targets, LOSS, start, k1=k1, k2s=k2s))(
        params
    )
    np.testing.assert_array_equal(error.k2, k2s)
    full = oracle(terms, 1, T)

    def cosine_and_error(g, full):
        g, full = (np.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (g, full))
        norm = np.linalg.norm
        return g @ full / norm(g) / norm(full), norm(g - full) / norm(full)

    for i, k2 in enumerate(k2s):
        g = oracle(terms, k1, k2)
        got = error.cosine[i], error.relative_error[i]
        np.testing.assert_allclose(got, cosine_and_error(g, full), rtol=1e-11, atol=1e-13)
        of_W = error.param_cosine.cell.W[i], error.param_relative_error.cell.W[i]
        of_W_alone = cosine_and_error(g.cell.W, full.cell.W)
        np.testing.assert_allclose(of_W, of_W_alone, rtol=1e-11, atol=1e-13)
        assert error.param_relative_error.V[i] < 1e-13  # V and c are read where the loss is
        assert (k2 >= T) == (error.relative_error[i] < 1e-13)
        assert (k2 >= T) == (error.cosine[i] > 1 - 1e-13)


def test_a_linear_unit_in_closed_form():
    """h_t = w h_{t-1} + u x_t with one impulse x_0 = 1 and E_t = h_t = u w^t."""
    step = lambda p, h, x: (p["w"] * h + p["u"] * x,) * 2
    cell = cells.from_function(step, jnp.zeros(1))
    w, u, n = 0.9, 1.5, 30
    xs = jnp.zeros((n, 1)).at[0].set(1.0)
    k2s = (1, 3, 10, 30)
    loss = lambda y, _: y.sum(-1)
    run = lambda p: truncation_error(cell, p, xs, xs, loss, k1=1, k2s=k2s)
    error = jax.jit(run)({"w": jnp.array(w), "u": jnp.array(u)})
    t = np.arange(n)
    for i, k2 in enumerate(k2s):
        by_w = u * np.array([t, np.minimum(t, k2)]) * w ** (t - 1)  # each (t, k), k > 0: u w^(t-1)
        by_u = np.array([w**t, w**t * (t < k2)])  # only the term k = 0
        full, g = np.stack([by_w.sum(-1), by_u.sum(-1)], -1)
        norm = np.linalg.norm
        cosine = g @ full / norm(g) / norm(full)
        np.testing.assert_allclose(error.cosine[i], cosine, rtol=1e-12)
        np.testing.assert_allclose(
            error.relative_error[i], norm(g - full) / norm(full), rtol=1e-12, atol=1e-15
        )
        np.testing.assert_allclose(
            error.param_relative_error["w"][i], 1 - g[0] / full[0], rtol=1e-12, atol=1e-15
        )


def test_the_error_of_a_vanishing_network_falls_within_what_is_left_out():
    """‖g − ∇E‖ ≤ Σ ‖the terms left out‖, and that falls as λ^k2."""
    n, k2s = 20, (1, 4, 12, 20)
    init = cells.initializers.orthogonal(0.5)
    cell = cells.elman(6, recurrent_init=init, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs, targets = normal(1, n, INPUT_SIZE), normal(2, n, 6)
    run = lambda p: truncation_error(cell, p, xs, targets, LOSS, k1=1, k2s=k2s)
    error = jax.jit(run)(params)
    E = lambda p: LOSS(rnn_jax.unroll(cell, p, xs)[1], targets).sum()
    full = np.linalg.norm(jax.grad(E)(params).W)
    parts = jax.jit(lambda p: gradients.decompose(cell, p, xs, targets, LOSS))(params)
    logs = parts.param_log_norms.W
    lags = np.arange(n)[:, None] - np.arange(n)
    for k2, of_W in zip(k2s, error.param_relative_error.W, strict=True):
        left_out = np.exp(logs)[lags >= k2].sum()
        assert of_W * full <= left_out * (1 + 1e-9) + 1e-13
    assert (np.diff(error.relative_error) < 0).all()
    assert (np.diff(error.cosine) > 0).all()
    assert error.relative_error[2] < 0.5**11 * error.relative_error[0] * 10


def test_a_learned_initial_state_is_reached_by_the_passes_that_get_there():
    step = lambda p, h, x: (jnp.tanh(p["W"] @ h + x),) * 2
    cell = cells.from_function(step, lambda p: p["h"])
    params = {"W": normal(0, 3, 3), "h": normal(5, 3)}
    xs, targets = normal(1, T, 2, 3), normal(2, T, 2, 3)

    def E(p, n):
        return LOSS(rnn_jax.unroll(cell, p, xs)[1], targets)[:n].sum()

    for given in (None, lambda p: cell.initial_state(p, (2,))):
        gradient = truncated_gradient(cell, params, xs, targets, LOSS, given, k1=2, k2=5)[1]
        # The passes that end at steps 2 and 4 take the first 4 losses to the beginning.
        np.testing.assert_allclose(gradient["h"], jax.grad(E)(params, 4)["h"], rtol=1e-12)
    gradient = truncated_gradient(cell, params, xs, targets, LOSS, k1=2, k2=T)[1]
    chex.assert_trees_all_close(gradient, jax.grad(E)(params, T), rtol=1e-12)
    constant = params["h"] * jnp.ones((2, 1))
    gradient = truncated_gradient(cell, params, xs, targets, LOSS, constant, k1=2, k2=T)[1]
    assert (gradient["h"] == 0).all()


def test_every_strategy_gives_it():
    cell = LAWFUL["lstm"](jnp.float64)
    params, xs, targets, start, *_ = problem(cell, 2)
    run = lambda strategy: truncated_gradient(
        cell, params, xs, targets, LOSS, start, k1=2, k2=5, strategy=strategy
    )
    chex.assert_trees_all_close(run("scan"), run("fused"), rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(run("scan"), run("checkpointed"), rtol=1e-12, atol=1e-14)


def test_the_program_does_not_grow_with_the_sequence():
    cell = cells.elman(4)
    params = cell.init(jax.random.key(0), 3)

    def size(n):
        xs, targets = (jnp.ones((n, size), jnp.float32) for size in (3, 4))
        run = lambda p: truncated_gradient(cell, p, xs, targets, LOSS, k1=2, k2=7, strategy="scan")
        return str(jax.make_jaxpr(run)(params)).count(" = ")

    assert size(4000) == size(40)


def test_gradients_keep_their_dtype_and_norms_their_range():
    """Terms of 1e33, whose squares are beyond float32."""
    init = cells.initializers.identity(1e3)
    cell = cells.elman(4, "identity", recurrent_init=init)
    params = cell.init(jax.random.key(0), 3)
    xs = normal(1, 12, 3, dtype=jnp.float32)
    loss = lambda y, _: y.sum(-1)
    gradient = truncated_gradient(cell, params, xs, xs, loss, k1=1, k2=6)[1]
    assert gradient.W.dtype == jnp.float32
    assert jnp.abs(gradient.W).max() > 1e30
    error = truncation_error(cell, params, xs, xs, loss, k1=1, k2s=(1, 6, 12))
    assert error.relative_error.dtype == error.cosine.dtype == jnp.float32
    assert 0.5 < error.param_relative_error.W[0] < 1
    assert error.relative_error[2] < 1e-5
    assert jnp.abs(error.cosine[2] - 1) < 1e-5
