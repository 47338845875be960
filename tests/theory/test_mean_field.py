"""Mean fields against published values, closed forms and networks of a thousand units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from rnn_jax import cells, theory
from rnn_jax.theory import correlation, critical_gain, critical_line, mean_field
from tests.theory.gaussian_networks import mean, simulate, slope


def log_slope(x):
    return 2 * (np.log(2) - np.logaddexp(x, -x))


ORACLES = {
    1.2: (0.24951, 0.01648, -0.5431),
    1.5: (0.79335, 0.06522, -0.7143),
    2.0: (2.12147, 0.15472, -1.1490),
    3.0: (6.30539, 0.31025, -2.2728),
}


@pytest.mark.parametrize("g", ORACLES)
def test_the_chaotic_network_without_input(g):
    """Every number of the oracles' table, and the same numbers by quadrature to 1e-10."""
    got = mean_field(g)
    q, largest, average = ORACLES[g]
    assert got.converged
    assert got.q == pytest.approx(q, abs=5e-6)
    assert got.largest_exponent == pytest.approx(largest, abs=5e-6)
    assert got.mean_exponent == pytest.approx(average, abs=5e-5)

    equation = lambda q: g**2 * mean(lambda x: np.tanh(x) ** 2, q) - q
    q = optimize.brentq(equation, 1e-3, g**2, xtol=1e-14)
    chi = g**2 * mean(lambda x: slope(x) ** 2, q)
    np.testing.assert_allclose(got.q, q, rtol=1e-10)
    np.testing.assert_allclose(got.chi, chi, rtol=1e-10)
    np.testing.assert_allclose(got.largest_exponent, np.log(chi) / 2, atol=1e-10)
    np.testing.assert_allclose(got.mean_exponent, mean(log_slope, q) + np.log(g) - 0.5, rtol=1e-10)
    np.testing.assert_allclose(got.time_scale, -1 / np.log(chi), rtol=1e-8)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", np.tanh])
def test_bias_and_input(activation):
    """They enter as the sum of their variances, in the equation that quadrature confirms."""
    phi, squared = (
        (special.expit, lambda x: (special.expit(x) * special.expit(-x)) ** 2)
        if activation == "sigmoid"
        else (np.tanh, lambda x: slope(x) ** 2)
    )
    if callable(activation):
        activation = lambda x: jnp.tanh(x)
    got = mean_field(1.4, 0.3, 0.5, activation)
    np.testing.assert_allclose(
        1.4**2 * mean(lambda x: phi(x) ** 2, float(got.q)) + 0.34, got.q, rtol=1e-12
    )
    np.testing.assert_allclose(got.chi, 1.4**2 * mean(squared, float(got.q)), rtol=1e-12)
    swapped = mean_field(1.4, 0.5, 0.3, activation)
    np.testing.assert_allclose(swapped.chi, got.chi, rtol=1e-14)
    assert got.converged


@pytest.mark.parametrize("g", [0.05, 0.5, 0.9, 0.999])
def test_below_the_transition_the_network_dies_out(g):
    got = mean_field(g)
    assert got.q == 0
    assert got.converged
    np.testing.assert_allclose(got.largest_exponent, np.log(g), rtol=1e-12)
    np.testing.assert_allclose(got.mean_exponent, np.log(g) - 0.5, rtol=1e-12)
    np.testing.assert_allclose(got.time_scale, -1 / (2 * np.log(g)), rtol=1e-12)


def test_rectified_and_linear_networks_in_closed_form():
    """⟨relu²⟩ = q/2: q = σ_b² / (1 − σ_w²/2) and χ = σ_w²/2 everywhere."""
    sigma = jnp.array([0.5, 1.0, 1.4])
    relu = mean_field(sigma, 0.3, 0.0, "relu")
    np.testing.assert_allclose(relu.q, 0.09 / (1 - sigma**2 / 2), rtol=1e-10)
    np.testing.assert_allclose(relu.chi, sigma**2 / 2, rtol=1e-12)
    assert relu.converged.all()
    assert (relu.mean_exponent == -jnp.inf).all()
    linear = mean_field(0.8, 0.0, 0.5, "identity")
    np.testing.assert_allclose(linear.q, 0.25 / (1 - 0.64), rtol=1e-12)
    np.testing.assert_allclose(linear.chi, 0.64, rtol=1e-12)


def test_what_has_no_fixed_point_says_so():
    diverges = mean_field(jnp.array([1.0, np.sqrt(2), 1.5]), 0.3, 0.0, "relu")
    assert diverges.converged.tolist() == [True, False, False]
    at_the_bifurcation = mean_field(jnp.array([0.999, 1.0, 1.001]))
    assert at_the_bifurcation.converged.tolist() == [True, False, True]
    assert not correlation(1.5, 0.3, 0.0, "relu").converged
    assert not mean_field(jnp.nan).converged
    assert not critical_gain(0.3, 0.0, "relu").converged
    assert not critical_gain(0.0, 0.0, "relu").converged
    with pytest.raises(ValueError, match="activation: got str 'tanhh'; expected one of tanh"):
        mean_field(1.5, activation="tanhh")


def test_the_critical_line():
    """For tanh with neither bias nor input g = 1; on the whole line χ = 1."""
    none = critical_gain()
    assert none.weight_std == pytest.approx(1, abs=1e-7)
    assert none.converged

    q = jnp.array([1e-3, 0.01, 0.1, 1, 10])
    sigma_w, drive = critical_line(q)
    on_it = mean_field(sigma_w, 0.6 * drive, 0.8 * drive)
    np.testing.assert_allclose(on_it.chi, 1, rtol=1e-9)
    np.testing.assert_allclose(on_it.q, q, rtol=1e-6)
    solved = critical_gain(0.6 * drive, 0.8 * drive)
    assert solved.converged.all()
    np.testing.assert_allclose(solved.weight_std, sigma_w, rtol=1e-8)
    # Near the end of the line σ_b² + σ_u² = 4/3 q³ and σ_w = 1 + q, to leading order.
    np.testing.assert_allclose(drive[0] ** 2, 4 / 3 * q[0] ** 3, rtol=0.02)
    np.testing.assert_allclose(sigma_w[0] - 1, q[0], rtol=0.01)


def test_correlation():
    """The chaotic network forgets its start: c* = 0; order brings all trajectories together."""
    got = correlation(jnp.array([0.5, 1.2, 2, 3]))
    np.testing.assert_allclose(got.c, [1, 0, 0, 0], atol=1e-12)
    assert got.converged.all()
    for g, slope_at_zero in zip((1.2, 2.0, 3.0), got.slope[1:], strict=True):
        expected = g**2 * mean(slope, float(mean_field(g).q)) ** 2
        np.testing.assert_allclose(slope_at_zero, expected, rtol=1e-9)

    ordered = correlation(0.9, 0.2, 0.3)
    np.testing.assert_allclose(ordered.c, 1, rtol=1e-12)
    np.testing.assert_allclose(ordered.slope, mean_field(0.9, 0.2, 0.3).chi, rtol=1e-10)
    # A rectifier's map of correlations is the arc-cosine kernel of degree 1 (Cho and Saul 2009).
    for c in (-0.6, 0.0, 0.8):
        angle = np.arccos(c)
        kernel = 2.0 * (np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi)
        got = theory.gaussian_pair_mean(jax.nn.relu, jnp.array(2.0), jnp.array(2 * c))
        np.testing.assert_allclose(got, kernel, atol=1e-3)


@pytest.mark.parametrize("c", [-0.7, 0.0, 0.9, 1.0])
def test_pair_means(c):
    """E tanh(u) tanh(v) by nested quadrature; its derivatives are Price's."""
    q = 2.0

    def inner(z):
        f = lambda y: np.tanh(c * np.sqrt(q) * z + np.sqrt(1 - c * c) * y)
        return mean(f, q) * np.tanh(np.sqrt(q) * z)

    z, weight = np.polynomial.hermite_e.hermegauss(160)
    expected = sum(w * inner(x) for x, w in zip(z, weight / weight.sum(), strict=True))
    value = lambda q, c: theory.gaussian_pair_mean(jnp.tanh, q, c)
    np.testing.assert_allclose(value(jnp.array(q), jnp.array(q * c)), expected, atol=1e-9)
    by_q, by_c = jax.grad(value, (0, 1))(jnp.array(q), jnp.array(q * c))
    assert np.isfinite([by_q, by_c]).all()
    if abs(c) < 1:
        h = 1e-5
        numeric = (
            value(jnp.array(q), jnp.array(q * c + h)) - value(jnp.array(q), jnp.array(q * c - h))
        ) / (2 * h)
        np.testing.assert_allclose(by_c, numeric, rtol=1e-8, atol=1e-10)
        numeric = (
            value(jnp.array(q + h), jnp.array(q * c)) - value(jnp.array(q - h), jnp.array(q * c))
        ) / (2 * h)
        np.testing.assert_allclose(by_q, numeric, rtol=1e-8, atol=1e-10)


def test_derivatives_pass_through_the_fixed_point():
    """Forward and reverse mode against central differences to 1e-7, under jit and vmap."""

    def outputs(at):
        field, settled = mean_field(*at), correlation(*at)
        critical = critical_gain(at[1], at[2])
        return jnp.stack([field.q, field.chi, field.mean_exponent, settled.c, critical.weight_std])

    at, h = jnp.array([1.6, 0.3, 0.2]), 1e-4
    forward = jax.jit(jax.jacfwd(outputs))(at)
    np.testing.assert_allclose(jax.jit(jax.jacrev(outputs))(at), forward, rtol=1e-9, atol=1e-12)
    steps = h * jnp.eye(3)
    central = jax.jit(jax.vmap(lambda d: (outputs(at + d) - outputs(at - d)) / (2 * h)))(steps).T
    np.testing.assert_allclose(forward, central, rtol=1e-6, atol=1e-7)
    # At q = 0, where √q has no derivative, q does not move and λ₁ = ln g does.
    assert jax.grad(lambda g: mean_field(g).q)(0.5) == 0
    np.testing.assert_allclose(jax.grad(lambda g: mean_field(g).largest_exponent)(0.5), 2.0)


def test_float32():
    got = mean_field(jnp.array([0.9, 1.2, 3], jnp.float32), jnp.float32(0.1))
    expected = mean_field(jnp.array([0.9, 1.2, 3]), 0.1)
    assert got.converged.all()
    for name in ("q", "chi", "mean_exponent"):
        assert getattr(got, name).dtype == jnp.float32
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=2e-5)


@pytest.mark.parametrize(
    ("g", "bias_std", "input_std", "make"),
    [
        (2.0, 0.0, 0.0, cells.elman_preactivation),
        (1.5, 0.3, 0.5, cells.elman_preactivation),
        (1.5, 0.3, 0.5, cells.elman),
        (0.8, 0.5, 1.0, cells.elman_preactivation),
    ],
)
def test_a_network_of_a_thousand_units(g, bias_std, input_std, make):
    """One draw of N = 1000 over 400 steps: λ₁ within 0.015, q within 4 per cent."""
    expected = mean_field(g, bias_std, input_std)
    _, growth, q, _ = simulate(g, bias_std, input_std, 1000, 500, make=make)
    np.testing.assert_allclose(growth, expected.largest_exponent, atol=0.015)
    np.testing.assert_allclose(q, expected.q, rtol=0.04)
