"""Mean-field theory against quadrature, closed forms, finite differences and wide networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from rnn_jax import theory
from rnn_jax.theory import correlation, critical_gain, mean_field
from rnn_jax.theory._mean_field import _mean_field as field
from tests.theory.gaussian_networks import slope

PHI = {  # φ, φ' for NumPy; φ' that does not cancel far from zero
    "tanh": (np.tanh, lambda x: 4 * np.exp(-2 * np.abs(x)) / (1 + np.exp(-2 * np.abs(x))) ** 2),
    "sigmoid": (special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "identity": (lambda x: x, np.ones_like),
}
ACROSS = np.logspace(-3, 3, 40)


def mean_at(f, q):
    """⟨f(√q z)⟩ by Simpson's rule in u: where f changes, |u| < 20, and beyond it; apart at zero."""
    near = min(20, 10 * np.sqrt(q))
    far = max(10 * np.sqrt(q), near)
    total = 0.0
    for a, b in ((0, near), (near, far)):
        u = np.linspace(a, b, 4001)
        u[0] = max(a, 1e-300)
        total += integrate.simpson((f(u) + f(-u)) * np.exp(-u * u / (2 * q)), x=u)
    return total / np.sqrt(2 * np.pi * q)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
@pytest.mark.parametrize("activation", PHI)
def test_what_has_converged_is_right(activation, dtype):
    """σ_w, σ_b and σ_u from 0 to 1e3: 160 networks for each φ, q and χ from the equation itself.

    Converged means right to 1e-6 in float64 and to 1e-3 in float32; measured are 1e-11 and 1e-4.
    """
    draw = np.random.default_rng(1)
    phi, slope_of = PHI[activation]
    stds = np.where(draw.random((3, 160)) < 0.2, 0, 10 ** draw.uniform(-3, 3, (3, 160)))
    if activation in ("relu", "identity"):
        stds[0] = 10 ** draw.uniform(-3, 0.3, 160)
    stds = jnp.asarray(stds, dtype)
    got = jax.tree.map(np.asarray, mean_field(*stds, activation))
    allowed = 1e-10 if dtype == jnp.float64 else 1e-4
    sigma_w, drive = np.float64(stds[0]) ** 2, np.float64(stds[1]) ** 2 + np.float64(stds[2]) ** 2
    linear = sigma_w * {"relu": 0.5, "identity": 1.0}.get(activation, 0.0)
    stable = linear < 1 - 1e-3
    assert got.converged[stable].all()
    assert not got.converged[linear > 1].any()
    for w, d, q, chi, ok in zip(sigma_w, drive, got.q, got.chi, got.converged, strict=True):
        if not ok:
            continue
        q = np.float64(q)
        if q == 0:
            at_rest = {"relu": 0.5, "sigmoid": 1 / 16}.get(activation, 1.0)
            np.testing.assert_allclose(chi, w * at_rest, rtol=allowed)
            continue
        np.testing.assert_allclose(w * mean_at(lambda x: phi(x) ** 2, q) + d, q, rtol=allowed)
        expected = w * mean_at(lambda x: slope_of(x) ** 2, q)
        if expected > np.finfo(dtype).tiny:
            np.testing.assert_allclose(chi, expected, rtol=allowed)


def test_the_critical_line_of_any_drive():
    """χ at the critical gain is 1, and its q a fixed point, for drives from 1e-3 to 1e3."""
    for activation in ("tanh", "sigmoid"):
        phi, slope_of = PHI[activation]
        point = jax.tree.map(np.asarray, critical_gain(ACROSS, 0.0, activation))
        assert point.converged.all()
        for w, q, bias in zip(point.weight_std, point.q, ACROSS, strict=True):
            np.testing.assert_allclose(w**2 * mean_at(lambda x: slope_of(x) ** 2, q), 1, rtol=1e-9)
            length = w**2 * mean_at(lambda x: phi(x) ** 2, q) + bias**2
            np.testing.assert_allclose(length, q, rtol=1e-9)


def test_a_rectifier_without_drive():
    """Half of the units pass, whatever the length: χ = σ_w²/2 also where it has become zero."""
    got = mean_field(jnp.array([1.0, 1.3]), 0.0, 0.0, "relu")
    np.testing.assert_allclose(got.chi, [0.5, 0.845], rtol=1e-12)
    np.testing.assert_allclose(got.largest_exponent, 0.5 * np.log([0.5, 0.845]), rtol=1e-12)
    assert got.converged.all()
    assert (got.q == 0).all()
    np.testing.assert_allclose(correlation(1.3, activation="relu").slope, 0.845, rtol=1e-8)
    by_gain = jax.grad(lambda g: mean_field(g, activation="relu").largest_exponent)(1.0)
    np.testing.assert_allclose(by_gain, 1.0)
    leaky = mean_field(0.9, activation=lambda x: jnp.where(x > 0, x, 0.5 * x))
    np.testing.assert_allclose(leaky.chi, 0.81 * (1 + 0.25) / 2, rtol=1e-12)


@pytest.mark.parametrize(
    "f", [jax.nn.relu, jnp.abs, lambda x: jnp.where(x > 0, 1.0, 0.0), jnp.tanh, jax.nn.sigmoid]
)
def test_derivatives_know_of_kinks_and_jumps(f):
    """Against central differences, which see what automatic differentiation leaves out at zero."""

    @jax.jit
    def compare(q, mean, c):
        one = lambda q, mean: theory.gaussian_mean(f, q, mean)
        pair = lambda q, c: theory.gaussian_pair_mean(f, q, c)
        h = 1e-5 * q
        return [
            (jax.grad(one)(q, mean), (one(q + h, mean) - one(q - h, mean)) / (2 * h)),
            (jax.grad(one, 1)(q, mean), (one(q, mean + h) - one(q, mean - h)) / (2 * h)),
            (jax.grad(pair)(q, c), (pair(q + h, c) - pair(q - h, c)) / (2 * h)),
            (jax.grad(pair, 1)(q, c), (pair(q, c + h) - pair(q, c - h)) / (2 * h)),
        ]

    for at in ((1.0, 0.3, 0.5), (3.0, 0.0, -2.4), (0.5, -0.7, 0.0)):
        for got, expected in compare(*at):
            np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


def test_rectifiers_in_pairs():
    """The arc-cosine kernel of degree 1 (Cho and Saul 2009), at every scale and correlation."""
    for q in (1e-6, 1.0, 1e6):
        rho = jnp.array([-1, -0.9999, -0.5, 0, 0.3, 0.9, 1 - 1e-9, 1])
        angle = np.arccos(rho)
        kernel = q * (np.sin(angle) + (np.pi - angle) * rho) / (2 * np.pi)
        got = theory.gaussian_pair_mean(jax.nn.relu, q, q * rho)
        np.testing.assert_allclose(got, kernel, rtol=1e-9, atol=1e-11 * q)


def test_inputs_of_negative_correlation():
    """Iterating the map of covariances ends where `correlation` says."""
    for at, rho in (((1.5, 0.0, 1.0), -0.5), ((3.0, 0.2, 1.0), -1.0)):
        got, q = correlation(*at, input_correlation=rho), mean_field(*at).q
        step = lambda _, c, at=at, q=q, rho=rho: (
            at[0] ** 2 * theory.gaussian_pair_mean(jnp.tanh, q, jnp.clip(c, -q, q))
            + at[1] ** 2
            + rho * at[2] ** 2
        )
        c = jax.lax.fori_loop(0, 120, step, 0.0)
        np.testing.assert_allclose(got.c, c / q, rtol=1e-9)
        assert got.converged


def test_numbers_of_every_kind():
    """Python's and NumPy's numbers, integers and half precision are floats here."""
    expected = mean_field(jnp.array(2.0), jnp.array(1.0))
    for two in (2, 2.0, np.int64(2), np.float64(2), np.array(2), jnp.int8(2)):
        got = mean_field(two, 1)
        np.testing.assert_allclose(got.chi, expected.chi, rtol=1e-12)
        assert got.chi.dtype == jnp.float64
    assert mean_field(jnp.float16(2), jnp.bfloat16(1)).chi.dtype == jnp.float32
    assert mean_field(jnp.float32(2), np.int64(1)).chi.dtype == jnp.float32
    np.testing.assert_allclose(theory.gaussian_mean(jnp.square, np.array([1, 4])), [1, 4])
    assert theory.linear_state_power(0) == 1
    np.testing.assert_allclose(theory.linear_sensitivity_power(0.5), 1.25 / 0.75**3)
    assert theory.normalized_sensitivity_power(0) == 0
    assert theory.tied_growth(0, 0, 0) == 0
    assert mean_field(jnp.zeros(0), 1).q.shape == (0,)
    assert correlation(jnp.zeros((2, 1)), jnp.ones(3)).c.shape == (2, 3)


def test_a_loop_of_calls_compiles_once():
    """Outside `jit` too: numbers are values, φ is static."""
    mean_field(1.1, 0.2)
    compiled = field._cache_size()
    for gain in np.linspace(1, 3, 20):
        mean_field(gain, 0.2)
    assert field._cache_size() == compiled


def local_mean(f, s):
    """⟨f(s z)⟩ of an f that is nothing beyond 45, for a float s of any size."""
    u = np.linspace(-45, 45, 20001)
    return np.sum(f(u) * np.exp(-((u / s) ** 2) / 2)) * (u[1] - u[0]) / (s * np.sqrt(2 * np.pi))


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_chi_of_any_gain(dtype):
    """Converged, and right, where tanh changes on the scale of 1 and units are of 1e4 to 1e15."""
    gains = 10.0 ** np.arange(4, 16)
    got = mean_field(jnp.asarray(gains, dtype))
    assert got.converged.all()
    stds = np.sqrt(np.float64(got.q))
    means = [local_mean(lambda u: slope(u) ** 2, s) for s in stds]
    expected = gains**2 * np.array(means)
    np.testing.assert_allclose(got.chi, expected, rtol=1e-8 if dtype == jnp.float64 else 1e-4)
    # What is nothing by two quadratures is no answer, unless it is known to be nothing.
    tiny = float(jnp.finfo(dtype).tiny)
    assert not mean_field(jnp.asarray(tiny, dtype), jnp.asarray(1, dtype)).converged
    assert mean_field(jnp.asarray(0, dtype), jnp.asarray(1, dtype)).converged


def test_means_of_any_variance():
    """tanh² to 1e-12, in pairs to 1e-11, from 1e2 to 1e300; nothing is lost near c = q."""
    q = 10.0 ** np.array([2, 8, 12, 14, 16, 20, 22, 24, 60, 150, 300])
    square = lambda x: jnp.tanh(x) ** 2
    expected = np.array([1 - local_mean(slope, np.sqrt(x)) for x in q])
    np.testing.assert_allclose(theory.gaussian_mean(square, q), expected, atol=1e-12)
    np.testing.assert_allclose(theory.gaussian_pair_mean(square, q, 0.0), expected**2, atol=1e-11)
    # A step, whose pairs are known at every scale (Sheppard).
    rho = 1 - 10.0 ** -np.arange(0, 9, 2)[:, None]
    pairs = theory.gaussian_pair_mean(jnp.sign, q, q * rho)
    np.testing.assert_allclose(
        pairs, np.broadcast_to(2 / np.pi * np.arcsin(rho), pairs.shape), atol=1e-11
    )


def test_slopes_of_any_gain():
    """tanh of large units is a step: its map of correlations is the arc sine's."""
    gains = 10.0 ** np.arange(5, 10)
    for rho in (0.0, 0.5):
        got = correlation(gains, 0.0, gains, input_correlation=rho)
        c = 0.0
        for _ in range(200):
            c = (2 / np.pi * np.arcsin(c) + rho) / 2
        expected = 1 / (np.pi * np.sqrt(1 - c * c))
        assert got.converged.all()
        np.testing.assert_allclose(got.slope[1:], expected, rtol=1e-6)
        np.testing.assert_allclose(got.time_scale[1:], -1 / np.log(expected), rtol=1e-6)
        np.testing.assert_allclose(got.slope, expected, rtol=1e-5)
    # φ' of both signs: ⟨φ'(u)⟩² = 0 is an answer.
    even = correlation(0.5, 0.0, 1.0, lambda x: jnp.cos(x) - 1, input_correlation=-1.0)
    assert np.isfinite(even.slope)
    # A step narrower than any panel has no slope that could be trusted.
    assert not correlation(
        1e3, 0.0, 1e3, lambda x: jnp.tanh(1e9 * x), input_correlation=0.5
    ).converged
