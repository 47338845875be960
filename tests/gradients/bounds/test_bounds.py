"""The bound, what it is not, and a check that can fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, gradients
from rnn_jax.cells import AffineParams
from rnn_jax.gradients import (
    check_bound,
    decay_rate,
    effective_horizon,
    jacobian_log_norms,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.linalg import log_norm, spectral_norm, spectral_radius
from tests.helpers import normal

T, H = 40, 16


def counterexample():
    """ORACLES: a nilpotent W held at a fixed point where the gradient doubles each step."""
    W = jnp.array([[8.0, 8], [-8, -8]])
    fixed_point = jnp.array([0, jnp.arctanh(0.5)])
    params = AffineParams(W=W, U=jnp.zeros((2, 0)), b=fixed_point - W @ jnp.tanh(fixed_point))
    cell = cells.elman_preactivation(2, dtype=jnp.float64)
    return cell, params, fixed_point


def test_the_eigenvalue_condition_is_false():
    """ρ(W) = 0, yet ‖J^(l+1)‖ = 2^l ‖J‖."""
    cell, params, fixed_point = counterexample()
    xs = jnp.zeros((T, 0))
    jacobians = gradients.step_jacobians(cell, params, xs, fixed_point)
    # The fixed point repels: 1e-16 would double forty times if the state were left to itself.
    J = jacobians[0]
    np.testing.assert_allclose(J, [[8, 6], [-8, -6]], rtol=1e-14)
    table = gradients.product_log_norms(jnp.broadcast_to(J, (T, 2, 2)))
    lag = np.arange(T)
    np.testing.assert_allclose(np.exp(table[1:, 0]), 2.0**lag * np.linalg.norm(J, 2), rtol=1e-10)
    assert spectral_radius(params.W) == 0


def measured(activation="tanh", gain=1.2, make=cells.elman):
    recurrent_init = cells.initializers.gaussian(gain / np.sqrt(H))
    cell = make(H, activation, recurrent_init=recurrent_init, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 3)
    return cell, params, jacobian_log_norms(cell, params, normal(1, T, 3))


@pytest.mark.parametrize("make", [cells.elman, cells.elman_preactivation])
@pytest.mark.parametrize(
    ("activation", "lambda_phi"), [("tanh", 1), ("sigmoid", 0.25), ("relu", 1), ("identity", 1)]
)
def test_norm_bound(make, activation, lambda_phi):
    cell, params, table = measured(activation, make=make)
    lambda_W, got_lambda_phi = norm_bound(cell, params)
    np.testing.assert_allclose(lambda_W, np.linalg.norm(params.W, 2), rtol=1e-12)
    assert got_lambda_phi == lambda_phi
    phi = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu}.get(activation)
    if phi:
        slopes = jax.vmap(jax.grad(phi))(jnp.linspace(-8.0, 8, 10_001))
        assert jnp.max(jnp.abs(slopes)) == pytest.approx(lambda_phi, abs=1e-6)
    check = check_bound(table, power_bound(lambda_W, lambda_phi, T), state_size=H)
    assert check.violations == 0
    assert check.worst_excess < 1e-12


def test_the_check_fails_on_a_wrong_lambda():
    """λ_W two per cent too small is seen; so is the spectral radius in its place."""
    cell, params, table = measured("identity")
    lambda_W, lambda_phi = norm_bound(cell, params)
    wrong = check_bound(table, power_bound(0.98 * lambda_W, lambda_phi, T), state_size=H)
    assert wrong.violations >= T  # every lag of one, where the bound of a linear network is tight
    assert wrong.worst_excess > 0.01
    radius = check_bound(table, power_bound(spectral_radius(params.W), lambda_phi, T), state_size=H)
    assert radius.violations > T

    cell, params, fixed_point = counterexample()
    J = gradients.step_jacobians(cell, params, jnp.zeros((1, 0)), fixed_point)
    table = gradients.product_log_norms(jnp.broadcast_to(J, (T, 2, 2)))
    pairs = T * (T + 1) // 2
    radius = check_bound(table, power_bound(spectral_radius(params.W), 1.0, T), state_size=2)
    assert radius.violations == pairs
    right = check_bound(table, power_bound(spectral_norm(params.W), 1.0, T), state_size=2)
    assert right.violations == 0


def test_the_check_counts_nan():
    _, _, table = measured()
    broken = table.at[5, 2].set(jnp.nan)
    assert check_bound(broken, jnp.full_like(table, jnp.inf), state_size=H).violations == 1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_tight_bound_is_kept_to_rounding(dtype):
    """A linear orthogonal network: ‖∂h_t/∂h_k‖ = gain^(t−k) exactly, with no room to spare."""
    init = cells.initializers.orthogonal(0.9)
    cell = cells.elman(64, "identity", recurrent_init=init, dtype=dtype)
    params = cell.init(jax.random.key(0), 2)
    table = jacobian_log_norms(cell, params, normal(1, 100, 2, dtype=dtype))
    check = check_bound(table, power_bound(*norm_bound(cell, params), T=100), state_size=64)
    assert check.violations == 0
    lag = np.arange(101)[:, None] - np.arange(101)
    rows = np.tril_indices(101)
    eps = jnp.finfo(dtype).eps
    np.testing.assert_allclose(table[rows], (lag * np.log(0.9))[rows], atol=3000 * eps)


@pytest.mark.parametrize(("activation", "gamma"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_vanishing_is_guaranteed_below_one_over_gamma_and_exploding_needs_more(activation, gamma):
    """Pascanu et al.: λ₁ < 1/γ suffices to vanish; at φ'(a) = γ all of λ₁ > 1/γ explodes."""
    init = cells.initializers.orthogonal(1.0)
    cell = cells.elman(H, activation, recurrent_init=init, dtype=jnp.float64)
    Q = cell.init(jax.random.key(0), 3)
    run = jax.jit(lambda p, xs, start: jacobian_log_norms(cell, p, xs, start))
    lag = np.tril(np.arange(T + 1)[:, None] - np.arange(T + 1)).astype(float)
    lower = np.tril_indices(T + 1)
    at_rest = jnp.full(H, 0.5 if activation == "sigmoid" else 0.0)  # φ(0), where φ' = γ
    for factor in (0.99, 1.01):
        W = factor / gamma * Q.W
        params = Q.replace(W=W, b=-W @ at_rest)
        table = run(params, jnp.zeros((T, 3)), at_rest)
        np.testing.assert_allclose(table[lower], (lag * np.log(factor))[lower], atol=1e-9)
        driven = run(params, normal(1, T, 3), at_rest)
        assert (driven[lower] <= (lag * np.log(factor))[lower] + 1e-9).all()


@pytest.mark.parametrize("cell", [cells.lstm(4), cells.readout(cells.lstm(4), 2)])
def test_norm_bound_refuses_what_its_theorem_does_not_cover(cell):
    params = cell.init(jax.random.key(0), 3)
    with pytest.raises(ValueError, match=r"cell: got .* expected .*product_bound"):
        norm_bound(cell, params)


def test_logarithms_do_not_leave_the_range_of_their_arguments():
    for size in (1e-30, 1e30):
        table = power_bound(jnp.float32(size), size, 3)
        np.testing.assert_allclose(table[1:, 0], 2 * np.log(size) * np.arange(1, 4), rtol=1e-6)
    np.testing.assert_array_equal(power_bound(0.0, 1.0, 1), [[0, -np.inf], [-np.inf, 0]])
    left = -jnp.arange(800, dtype=jnp.float32)
    np.testing.assert_allclose(effective_horizon(left, factor=1e300), np.log(1e300), rtol=1e-6)
    assert effective_horizon(left, factor=1 + 1e-9) <= 1e-6
    assert np.isnan(effective_horizon(left.at[0].set(jnp.nan), factor=2.0))
    steep = jnp.float16(-0.1) * (jnp.arange(101)[:, None] - jnp.arange(101)).astype(jnp.float16)
    np.testing.assert_allclose(decay_rate(steep), -0.1, rtol=1e-3)
    many = jnp.full(100_000, 0.99, jnp.float16)
    np.testing.assert_allclose(log_norm(many, (0,)), np.log(0.99 * np.sqrt(1e5)), rtol=1e-3)


@pytest.mark.parametrize("weights", [(1e-30, 1.0), (1e-25, 1e25), (1.0, 1e-37)])
def test_weights_may_be_further_apart_than_floats_reach(weights):
    """Of one matrix, whatever the weights, the bound is at least its norm."""
    for J in ([[0, 1e-20], [0, 0]], [[1e-3, 1e-20], [1e20, 3.0]], [[0, 0], [0, 0]]):
        J = jnp.asarray([J], jnp.float32)
        bound = float(product_bound(J, jnp.asarray(weights, jnp.float32))[1, 0])
        norm = np.linalg.norm(np.asarray(J[0], float), 2)
        assert bound >= (np.log(norm) - 1e-5 if norm else -np.inf)
    with pytest.raises(ValueError, match="weights: got"):
        product_bound(J, jnp.zeros(2, jnp.float32))


def test_decay_rate():
    lag = np.arange(30)[:, None] - np.arange(30)
    line = jnp.where(lag >= 0, 3 - 0.25 * lag, -jnp.inf)
    assert float(gradients.decay_rate(line)) == pytest.approx(-0.25, rel=1e-12)
    dead = line.at[20:, :10].set(-jnp.inf)
    assert float(gradients.decay_rate(dead)) == pytest.approx(-0.25, rel=1e-12)


# Tables of T² entries: beyond the range of float64 on every run, to lag 10,000 under --all-cells.
LONG = pytest.mark.parametrize("T", [3000, pytest.param(10_000, marks=pytest.mark.all_cells)])


def linear_network(c, T):
    """h_t = c h_{t-1} + x_t in float32, with ∂h_t/∂h_k = c^(t−k): 1e±3010 at lag 10,000."""
    eye = jnp.eye(2, dtype=jnp.float32)
    params = AffineParams(W=c * eye, U=eye, b=jnp.zeros(2, jnp.float32))
    return cells.elman(2, "identity"), params, jnp.zeros((T, 2), jnp.float32)


@LONG
def test_jacobian_norms_do_not_underflow_in_float32(T):
    cell, params, xs = linear_network(0.5, T)
    lags = np.array([1, 100, T // 2, T])
    table = np.asarray(jax.jit(lambda p: jacobian_log_norms(cell, p, xs, norm="frobenius"))(params))
    expected = 0.5 * np.log(2) + lags * np.log(0.5)
    np.testing.assert_allclose(table[T, T - lags], expected, rtol=1e-5)
    np.testing.assert_allclose(table[T - 17, T - 17 - lags[:3]], expected[:3], rtol=1e-5)
    assert np.isfinite(table[np.tril_indices(T + 1)]).all()


@LONG
def test_the_decomposition_does_not_overflow_in_float32(T):
    cell, params, xs = linear_network(2.0, T)
    lags = np.array([1, 100, T // 2, T])
    loss = lambda y, target: jnp.sum(y * target)
    parts = jax.jit(lambda p: gradients.decompose(cell, p, xs, jnp.ones_like(xs), loss))(params)
    got = parts.state_log_norms[-1, T - lags]
    np.testing.assert_allclose(got, 0.5 * np.log(2) + lags * np.log(2.0), rtol=1e-5)
    for t in (T - 1, T // 2):
        assert jnp.isfinite(parts.param_log_norms.b[t, : t + 1]).all()


@pytest.mark.parametrize("T", [300, pytest.param(1000, marks=pytest.mark.all_cells)])
def test_spectral_norms_of_long_products_in_float32(T):
    """Random matrices of norm 1e±8, products to 1e±8000, against float64 with its own scaling."""
    S = 4
    for scale in (1e-8, 1e8):
        matrices = scale * np.random.default_rng(0).normal(size=(T, S, S))
        table = jax.jit(gradients.product_log_norms)(jnp.asarray(matrices, jnp.float32))
        product, log_scale = np.eye(S), 0.0
        for t, matrix in enumerate(matrices, start=1):
            product = matrix @ product
            log_scale += np.log(np.abs(product).max())
            product /= np.abs(product).max()
            expected = log_scale + np.log(np.linalg.norm(product, 2))
            np.testing.assert_allclose(table[t, 0], expected, rtol=1e-5)


def test_a_trajectory_that_is_not_finite_is_reported_as_nan():
    cell, params, _ = measured()
    xs = normal(1, 10, 3).at[4].set(jnp.inf)
    table = jacobian_log_norms(cell, params, xs.at[4].multiply(0))
    assert jnp.isnan(table[10, 0])
    assert jnp.isfinite(table[4, 0])
    assert check_bound(table, jnp.full_like(table, 1e9), state_size=H).violations > 0
