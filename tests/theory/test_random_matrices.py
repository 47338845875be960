"""Exponents of random matrices, laws of memory, growth with tied weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from rnn_jax import theory
from rnn_jax.theory import mean_field
from tests.helpers import normal
from tests.theory.gaussian_networks import growth, mean, simulate


def test_circular_law(g=0.7):  # noqa: PT028
    """The exponents of a network that dies out, against the eigenvalues of a W of N = 600."""
    W = g / np.sqrt(600) * np.random.default_rng(0).normal(size=(600, 600))
    exponents = np.log(np.abs(np.linalg.eigvals(W)))
    s = np.log(g) + np.array([-1.5, -1, -0.5, -0.2, -0.05])
    counted = (exponents[:, None] < s).mean(0)
    np.testing.assert_allclose(theory.fraction_of_exponents_below(s, g), counted, atol=0.02)
    assert theory.fraction_of_exponents_below(np.log(g) + 0.1, g) == 1
    # The mean of the law is the mean exponent: ∫ s d(e^{2s}/g²) = ln g − ½.
    np.testing.assert_allclose(exponents.mean(), mean_field(g).mean_exponent, atol=0.01)


def test_gaussian_products():
    exponents = theory.gaussian_product_exponents(32)
    np.testing.assert_allclose(
        exponents[jnp.array([0, 1, 31])], [-0.01579, -0.03218, -2.36805], atol=5e-6
    )
    i = np.arange(1, 33)
    expected = 0.5 * (np.log(2 * 1.7**2 / 32) + special.digamma((32 - i + 1) / 2))
    np.testing.assert_allclose(theory.gaussian_product_exponents(32, 1.7), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="size: got int 0"):
        theory.gaussian_product_exponents(0)


@pytest.mark.parametrize("g", [1.5, 3.0])
def test_the_mean_of_all_exponents(g):
    """⟨ln |det J|⟩ / N over three seeds of N = 512, within 0.02; λ₁ within 0.015."""
    averages, largest = [], []
    for seed in range(3):
        params, growth, _, log_slopes = simulate(g, 0.0, 0.0, 512, 500, seed=10 * seed)
        averages.append(np.linalg.slogdet(np.asarray(params.W))[1] / 512 + log_slopes)
        largest.append(growth)
    np.testing.assert_allclose(np.mean(averages), mean_field(g).mean_exponent, atol=0.02)
    np.testing.assert_allclose(np.mean(largest), mean_field(g).largest_exponent, atol=0.015)


def test_memory_laws():
    """Against the sums over lags that they stand for: E[(Σ λ^n x_n)²], E[(Σ n λ^(n−1) x_n)²]."""
    n = np.arange(20_000)
    for factor in (0.0, 0.5, 0.9, 0.99):
        power = np.sum(factor ** (2 * n))
        sensitivity = np.sum((n[1:] * factor ** (n[1:] - 1.0)) ** 2)
        np.testing.assert_allclose(theory.linear_state_power(factor), power, rtol=1e-12)
        np.testing.assert_allclose(theory.linear_sensitivity_power(factor), sensitivity, rtol=1e-10)
    near_one = theory.normalized_sensitivity_power(jnp.array([0.9, 0.99, 0.9999]))
    np.testing.assert_allclose(near_one[-1], 0.5, rtol=1e-3)
    assert (theory.linear_sensitivity_power(jnp.array(0.9999)) > 1e11).all()


def test_forget_rate():
    """Gates that stand still give the oracles' f^100; random ones the mean of ln σ."""
    still = jnp.exp(100 * theory.forget_rate(jnp.array([0.0, 1, 2])))
    np.testing.assert_allclose(still, special.expit([0, 1, 2]) ** 100, rtol=1e-10)
    np.testing.assert_allclose(still, [8e-31, 2.5e-14, 3e-6], rtol=0.1)
    for b, q in ((0.0, 1.0), (2.0, 1.5)):
        expected = mean(lambda x, b=b: special.log_expit(b + x), q)
        np.testing.assert_allclose(theory.forget_rate(b, q), expected, rtol=1e-12)
    by_b = jax.grad(theory.forget_rate)(1.0, 1.5)
    np.testing.assert_allclose(by_b, mean(lambda x: special.expit(-1 - x), 1.5), rtol=1e-10)


@pytest.mark.parametrize("correlated", [False, True])
def test_one_matrix_at_every_step_adds_up(correlated, N=1000):  # noqa: PT028
    """d ← A ⊙ d + B ⊙ W d with random A, B: χ of one W, not of a fresh one each step."""
    W = 1.5 * normal(0, N, N) / np.sqrt(N)

    def step(d, key):
        A, other = jax.random.bernoulli(key, 0.5, (2, N)).astype(d.dtype)
        B = 0.4 * (1 - A if correlated else other)
        return A * d + B * (W @ d)

    measured, _ = growth(step, normal(1, N), normal(2, N), 400, 100)
    # ⟨A⟩ = ⟨A²⟩ = ½, ⟨A (1 − A)⟩ = 0; B = 0.4 of the same.
    p, q, v = 0.25, 0.6**2 / 4, 0.25 + 0.6**2 / 4
    chi = theory.tied_growth(p, q, v, -1.0 if correlated else 0.0)
    np.testing.assert_allclose(measured, 0.5 * np.log(chi), atol=0.01)
    if not correlated:
        assert measured - 0.5 * np.log(p + q + v) > 0.02


def test_growth_without_memory_or_without_fluctuations():
    np.testing.assert_allclose(theory.tied_growth(0.0, 0.3, 0.5), 0.8)
    np.testing.assert_allclose(theory.tied_growth(0.25, 0.09, 0.0), (0.5 + 0.3) ** 2)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_growth_of_any_size(dtype):
    """χ is homogeneous in p, q and v, and its derivative is of degree 0."""
    size = 0.9 * float(jnp.finfo(dtype).max) / 8
    a = jnp.asarray(
        [4 * float(jnp.finfo(dtype).tiny), size**-0.5, size**-0.25, 1, size**0.5, size], dtype
    )
    np.testing.assert_allclose(theory.tied_growth(a, a, a) / a, 2 + np.sqrt(5), rtol=1e-6)
    np.testing.assert_allclose(theory.tied_growth(a, 0 * a, a / 2) / a, 1.5, rtol=1e-6)
    np.testing.assert_allclose(theory.tied_growth(0 * a, 0 * a, a) / a, 1, rtol=1e-6)
    by_v = jax.vmap(jax.grad(theory.tied_growth, 2))
    np.testing.assert_allclose(by_v(*3 * [a[1:]]), 1 / np.sqrt(5), rtol=1e-6)
