"""Mean-field theory against quadrature, closed forms, finite differences and wide networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, optimize, special

from rnn_jax import cells, theory
from rnn_jax.theory import correlation, critical_gain, critical_line, mean_field
from rnn_jax.theory._mean_field import _mean_field as field
from tests.helpers import normal

EPS = np.finfo(float).eps


def mean(f, q):
    """⟨f(√q z)⟩ by adaptive quadrature."""
    density = lambda z: f(np.sqrt(q) * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return integrate.quad(density, -12, 12, epsabs=1e-14, epsrel=1e-13, limit=400)[0]


def slope(x):
    return 1 / np.cosh(x) ** 2


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


def simulate(g, bias_std, input_std, N, steps, seed=0, make=cells.elman_preactivation):
    """q, λ₁ and ⟨ln φ'⟩ of one network, the last two by one tangent and along the way."""
    init = cells.initializers.gaussian
    cell = make(
        N, recurrent_init=init(g / np.sqrt(N)), input_init=init(input_std), dtype=jnp.float64
    )
    params = cell.init(jax.random.key(seed), 1)
    params = params.replace(b=bias_std * normal(seed + 1, N), U=jnp.zeros((N, 0)))

    @jax.jit
    def run(params, h, v):
        def step(carry, key):
            h, v = carry
            noisy = params.replace(b=params.b + input_std * jax.random.normal(key, (N,)))
            move = lambda h: cell.step(noisy, h, jnp.zeros(0))[0]
            h, v = jax.jvp(move, (h,), (v,))
            a = h if make is cells.elman_preactivation else jnp.arctanh(h)
            growth = jnp.log(jnp.linalg.norm(v))
            return (h, v / jnp.linalg.norm(v)), (growth, jnp.var(a), jnp.mean(log_slope_of(a)))

        keys = jax.random.split(jax.random.key(seed + 2), steps)
        return jax.lax.scan(step, (h, v), keys)[1]

    log_slope_of = lambda a: 2 * (np.log(2) - jnp.logaddexp(a, -a))
    measured = run(params, normal(seed + 3, N), normal(seed + 4, N))
    growth, q, log_slopes = (float(series[steps // 5 :].mean()) for series in measured)
    return params, growth, q, log_slopes


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


def growth(step, state, d, steps, warmup, seed=5):
    """λ₁ by one tangent: `step(state, key) -> state`."""

    @jax.jit
    def run(state, d):
        def move(carry, key):
            state, d = carry
            state, d = jax.jvp(lambda state: step(state, key), (state,), (d,))
            size = jnp.linalg.norm(d)
            return (state, d / size), (jnp.log(size), jnp.mean(jnp.square(state)))

        keys = jax.random.split(jax.random.key(seed), warmup + steps)
        return jax.lax.scan(move, (state, d), keys)[1]

    return [float(series[warmup:].mean()) for series in run(state, d)]


@pytest.mark.parametrize("correlated", [False, True])
def test_one_matrix_at_every_step_adds_up(correlated, N=1000):  # noqa: PT028
    """d ← A ⊙ d + B ⊙ W d with random A, B: χ of one W, not that of matrices drawn anew."""
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


OUTSIDE = [
    (mean_field, (-1.5,), "weight_std"),
    (mean_field, (1.5, np.inf), "bias_std"),
    (correlation, (1.5, 0.0, -1.0), "input_std"),
    (lambda rho: correlation(1.5, input_correlation=rho), (2.0,), "input_correlation"),
    (critical_gain, (-1.0,), "bias_std"),
    (critical_line, (-1.0,), "q"),
    (theory.linear_state_power, (2.0,), "factor"),
    (theory.linear_sensitivity_power, (-1.0,), "factor"),
    (theory.normalized_sensitivity_power, (-0.5,), "factor"),
    (theory.forget_rate, (0.0, -1.0), "variance"),
    (theory.gru_mean_field, (-1.0, 1.0), "weight_std"),
    (theory.tied_growth, (0.1, -0.1, 0.1), "q"),
    (theory.tied_growth, (1.0, 1.0, 1.0, -3.0), "v"),
    (theory.fraction_of_exponents_below, (-0.1, 1.5), "weight_std"),
    (lambda std: theory.gaussian_product_exponents(3, std), (-1.0,), "std"),
    (lambda q: theory.gaussian_mean(jnp.tanh, q), (-1.0,), "q"),
    (lambda q, c: theory.gaussian_pair_mean(jnp.tanh, q, c), (1.0, 1.1), "c"),
]


@pytest.mark.parametrize(("function", "at", "argument"), OUTSIDE)
def test_what_has_no_answer_is_refused(function, at, argument):
    """Outside `jit` by an error, inside by NaN."""
    with pytest.raises(ValueError, match=rf"(?s)^{argument}: got .+; expected .+\. [A-Z].+"):
        function(*at)
    traced = jax.jit(function)(*at)
    floats = [x for x in jax.tree.leaves(traced) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(jnp.isnan(x).all() for x in floats)
    assert not getattr(traced, "converged", jnp.array(False)).any()


def test_activations_that_are_none():
    for activation in ("tanhh", None, 3, np.tanh, jnp.sum, lambda x: x > 0, lambda x: x[0]):
        with pytest.raises(ValueError, match=r"^activation: got .+; expected .+\. [A-Z].+"):
            mean_field(1.5, activation=activation)
    # A kink elsewhere than at zero is not resolved, which is said.
    assert not mean_field(1.5, 0.5, activation=jax.nn.hard_tanh).converged


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
