"""Each cell against its equation, and the initial weights against what their names promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.cells import initializers
from rnn_jax.linalg import spectral_norm, spectral_radius
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE

H, I, T = 6, 3, 9
PHI = {
    "tanh": np.tanh,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0),
    "identity": lambda a: a,
}


@pytest.mark.parametrize("activation", PHI)
def test_elman_is_its_equation(activation):
    cell = cells.elman(H, activation, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I).replace(b=normal(3, H))
    xs = normal(1, T, I)
    _, hs = rnn_jax.unroll(cell, p, xs)
    h = np.zeros(H)
    for t in range(T):
        h = PHI[activation](p.b + p.W @ h + p.U @ xs[t])
        np.testing.assert_allclose(hs[t], h, rtol=1e-12)


@pytest.mark.parametrize("activation", PHI)
def test_the_two_elman_forms_agree(activation):
    """Same outputs and parameter gradients, from h^post = φ(h^pre)."""
    post = cells.readout(cells.elman(H, activation, dtype=jnp.float64), 4)
    pre = cells.readout(cells.elman_preactivation(H, activation, dtype=jnp.float64), 4)
    params = post.init(jax.random.key(0), I)
    xs, targets, a = normal(1, T, 2, I), normal(2, T, 2, 4), normal(3, 2, H)
    phi = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "identity": lambda a: a}
    starts = {post: phi.get(activation, jnp.tanh)(a), pre: a}

    def loss(params, cell):
        ys = rnn_jax.unroll(cell, params, xs, starts[cell])[1]
        return losses.per_step(losses.squared_error, ys, targets).sum(), ys

    (grad_post, ys_post), (grad_pre, ys_pre) = (
        jax.grad(loss, has_aux=True)(params, cell) for cell in (post, pre)
    )
    np.testing.assert_allclose(ys_post, ys_pre, rtol=1e-12)
    for one, other in zip(*map(jax.tree.leaves, (grad_post, grad_pre)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


def test_the_lecture_writes_the_transposed_jacobian():
    """J_t = W diag[φ'(h_{t-1})] for the pre-activation form, [out, in]."""
    cell = cells.elman_preactivation(H, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I)
    h, xs = normal(4, H), normal(1, 1, I)
    (J,) = gradients.step_jacobians(cell, p, xs, h)
    np.testing.assert_allclose(J, p.W @ np.diag(1 - np.tanh(h) ** 2), rtol=1e-12)


def test_lstm_is_its_equation():
    cell = cells.lstm(H, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I)
    xs = normal(1, T, I)
    _, hs = rnn_jax.unroll(cell, p, xs)
    c = h = np.zeros(H)
    sigma = PHI["sigmoid"]
    for t in range(T):
        gates = [p.W[g * H : (g + 1) * H] @ h + p.U[g * H : (g + 1) * H] @ xs[t] for g in range(4)]
        i, f, o, g = gates[0], gates[1] + 1.0, gates[2], gates[3]
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
        np.testing.assert_allclose(hs[t], h, rtol=1e-12)


@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru_is_its_equation(reset):
    cell = (cells.gru if reset == "after" else cells.gru_reset_before)(H, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I)
    p = p.replace(b=normal(4, 3 * H))
    xs = normal(1, T, I)
    if reset == "after":
        p = p.replace(b_n=normal(5, H))
        W_r, W_z, W_n = np.split(p.W, 3)
    else:
        W_r, W_z = np.split(p.W, 2)
        W_n = p.W_n
    U_r, U_z, U_n = np.split(p.U, 3)
    b_r, b_z, b_n = np.split(p.b, 3)
    sigma, h = PHI["sigmoid"], np.zeros(H)
    _, hs = rnn_jax.unroll(cell, p, xs)
    for t, x in enumerate(np.asarray(xs)):
        r = sigma(W_r @ h + U_r @ x + b_r)
        z = sigma(W_z @ h + U_z @ x + b_z)
        fed_back = r * (W_n @ h + p.b_n) if reset == "after" else W_n @ (r * h)
        h = (1 - z) * np.tanh(U_n @ x + b_n + fed_back) + z * h
        np.testing.assert_allclose(hs[t], h, rtol=1e-12)


@pytest.mark.parametrize(("forget_bias", "f_to_the_100"), [(0, 8e-31), (1, 2.5e-14), (2, 3e-6)])
def test_along_c_alone_the_lstm_jacobian_is_the_product_of_forget_gates(forget_bias, f_to_the_100):
    """With W = 0 nothing but c carries over: ∂c_t/∂c_k = Π f_i; its constant-gate values."""
    cell = cells.lstm(H, forget_bias=forget_bias, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I)
    p = p.replace(W=jnp.zeros_like(p.W), U=jnp.zeros_like(p.U))
    f = 1 / (1 + np.exp(-forget_bias))
    jacobians = gradients.step_jacobians(cell, p, jnp.zeros((100, I)))
    along_c = np.linalg.multi_dot(list(jacobians[:, :H, :H]))
    np.testing.assert_allclose(along_c, f**100 * np.eye(H), rtol=1e-11)
    assert f**100 == pytest.approx(f_to_the_100, rel=0.1)

    # Any gates: the c-to-c block of each step is diag(f) once h is cut off.
    p = p.replace(U=normal(5, 4 * H, I))
    xs = normal(1, 20, I)
    blocks = gradients.step_jacobians(cell, p, xs)[:, :H, :H]
    gates = jax.nn.sigmoid(xs @ p.U[H : 2 * H].T + forget_bias)
    np.testing.assert_allclose(
        np.linalg.multi_dot(list(blocks)), np.diag(np.prod(gates, axis=0)), rtol=1e-11
    )


def test_readout_is_affine_in_y():
    inner = cells.lstm(H, dtype=jnp.float64)
    cell = cells.readout(inner, 4)
    p = cell.init(jax.random.key(0), I).replace(c=normal(6, 4))
    xs = normal(1, T, 2, I)
    _, os = rnn_jax.unroll(cell, p, xs)
    _, hs = rnn_jax.unroll(inner, p.cell, xs)
    np.testing.assert_allclose(os, p.c + hs @ p.V.T, rtol=1e-12)


def test_the_registry_takes_a_hidden_size_alone():
    for make in cells.CELLS.values():
        cell = make(5)
        params = cell.init(jax.random.key(0), 2)
        assert rnn_jax.unroll(cell, params, jnp.ones((3, 2), jnp.float32))[1].shape == (3, 5)


def test_an_autonomous_network_takes_no_input():
    for make in cells.CELLS.values():
        cell = make(5)
        params = cell.init(jax.random.key(0), 0)
        _, ys = rnn_jax.unroll(cell, params, jnp.zeros((3, 2, 0), jnp.float32))
        assert ys.shape == (3, 2, 5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_initializers_do_what_their_names_say(dtype):
    key = jax.random.key(0)
    Q = initializers.orthogonal(1.5)(key, (40, 40), dtype)
    tolerance = 100 * jnp.finfo(dtype).eps
    np.testing.assert_allclose(Q @ Q.T, 2.25 * np.eye(40), atol=tolerance)
    np.testing.assert_allclose(spectral_norm(Q), 1.5, rtol=tolerance)

    W = initializers.gaussian(0.1)(key, (400, 300), dtype)
    assert float(W.std()) == pytest.approx(0.1, rel=0.02)
    assert abs(float(W.mean())) < 0.002
    assert float(initializers.gaussian()(key, (400, 100), dtype).std()) == pytest.approx(0.1, 0.02)

    np.testing.assert_array_equal(
        initializers.identity(0.3)(key, (4, 4), dtype),
        jnp.asarray(0.3, dtype) * np.eye(4, dtype=dtype),
    )

    W = initializers.sparse_spectral_radius(0.95, connections=15)(key, (100, 100), dtype)
    assert ((np.asarray(W) != 0).sum(1) == 15).all()
    radius = np.abs(np.linalg.eigvals(np.asarray(W, np.float64))).max()
    assert radius == pytest.approx(0.95, rel=1e-4 if dtype == jnp.float32 else 1e-7)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-4), (jnp.float64, 1e-7)])
def test_spectral_radius_against_eigenvalues(dtype, tolerance):
    for seed in range(5):
        W = 30 * jax.random.normal(jax.random.key(seed), (64, 64), dtype)
        expected = np.abs(np.linalg.eigvals(np.asarray(W, np.float64))).max()
        assert float(spectral_radius(W)) == pytest.approx(expected, rel=tolerance)
    assert spectral_radius(jnp.array([[8.0, 8], [-8, -8]], dtype)) == 0


@pytest.mark.parametrize("name", cells.CELLS)
def test_products_with_a_step_jacobian_need_no_jacobian(name):
    cell = cells.CELLS[name](5, dtype=jnp.float64)
    assert cell.structure.unitwise == (name != "selective")
    if name == "selective":
        return  # N units a channel: its Jacobian is differentiated, and the laws hold it
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    state, x = random_state(cell, params, ()), normal(2, INPUT_SIZE)
    h, unravel = ravel_pytree(state)
    expected = jax.jacfwd(lambda h: ravel_pytree(cell.step(params, unravel(h), x)[0])[0])(h)
    M = normal(3, len(h), 4)
    J = gradients.step_jacobian(cell.structure, params, state, x)
    for got, by_matrix in (
        (J.dense(), expected),
        (J.times(M), expected @ M),
        (J.left_times(M.T), M.T @ expected),
    ):
        np.testing.assert_allclose(got, by_matrix, rtol=1e-13, atol=1e-14)
