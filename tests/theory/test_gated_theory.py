"""Mean fields of GRUs against quadrature, differences and networks of 512 units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from rnn_jax import cells, theory
from tests.helpers import normal
from tests.theory.gaussian_networks import growth, mean, slope

gru_mean_field = jax.jit(theory.gru_mean_field)

GATED = [  # σ_w, σ_u, bias of the update gate, whether there is a reset gate
    (1.0, 1.0, 0.0, True),
    (2.0, 1.0, 0.0, True),
    (1.0, 1.0, 2.0, True),
    (3.0, 2.0, -1.0, True),
    (1.0, 1.0, 1.0, False),
    (2.0, 2.0, 2.0, False),
]


@pytest.mark.parametrize(("sigma_w", "sigma_u", "update_bias", "reset"), GATED)
def test_gated_networks_of_512_units(sigma_w, sigma_u, update_bias, reset, N=512):  # noqa: PT028
    """λ₁ of `cells.gru` and `cells.ugrnn` within 0.02, closer than fresh weights at every step."""
    make = cells.gru if reset else cells.ugrnn
    init = cells.initializers.gaussian(sigma_w / np.sqrt(N))
    cell = make(N, recurrent_init=init, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 0)
    z = slice(N, 2 * N) if reset else slice(0, N)
    params = params.replace(b=params.b.at[z].set(update_bias))

    def step(h, key):
        driven = params.replace(b=params.b + sigma_u * jax.random.normal(key, params.b.shape))
        return cell.step(driven, h, jnp.zeros(0))[0]

    measured, power = growth(step, normal(1, N), normal(2, N), 400, 100)
    expected = gru_mean_field(sigma_w, sigma_u, update_bias, 0.0 if reset else np.inf)
    assert expected.converged
    assert expected.recurrence < 1.1
    np.testing.assert_allclose(measured, expected.largest_exponent, atol=0.02)
    np.testing.assert_allclose(power, expected.power, rtol=0.15)
    if sigma_u == 1:  # where memory matters, fresh weights at every step are another theory
        assert measured - 0.5 * np.log(expected.chi_untied) > 0.03


def test_gated_networks_with_weights_drawn_anew(sigma_w=2.0, N=512):  # noqa: PT028
    """Their χ to 0.02, and ⟨h²⟩, which then is exact, to 2 per cent."""
    init = cells.initializers.gaussian(sigma_w / np.sqrt(N))
    cell = cells.gru(N, recurrent_init=init, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 0)

    def step(h, key):
        # W with random signs of its columns is, to a network, another W.
        signs = jax.random.rademacher(key, (N,), params.W.dtype)
        noise = jax.random.normal(key, params.b.shape)
        drawn = params.replace(W=params.W * signs, b=params.b + noise)
        return cell.step(drawn, h, jnp.zeros(0))[0]

    measured, power = growth(step, normal(1, N), normal(2, N), 300, 50)
    expected = gru_mean_field(sigma_w, 1.0)
    np.testing.assert_allclose(measured, 0.5 * np.log(expected.chi_untied), atol=0.02)
    np.testing.assert_allclose(power, expected.power, rtol=0.02)


def test_gated_mean_field_by_quadrature():
    """⟨h²⟩ and χ' by SciPy's quadrature; derivatives are those of differences."""
    sigma_w, sigma_u, bias = 1.3, 0.8, 0.5
    got = gru_mean_field(sigma_w, sigma_u, bias, np.inf)
    drive = sigma_w**2 * float(got.power) + sigma_u**2
    kept = mean(lambda x: special.expit(bias + x) ** 2, drive)
    renewed = mean(lambda x: special.expit(-bias - x) ** 2, drive)
    candidate = mean(lambda x: np.tanh(x) ** 2, drive)
    np.testing.assert_allclose(got.power, kept * got.power + renewed * candidate, rtol=1e-10)
    steep = mean(lambda x: slope(x) ** 2, drive)
    gate = mean(lambda x: (special.expit(bias + x) * special.expit(-bias - x)) ** 2, drive)
    chi = kept + sigma_w**2 * (renewed * steep + gate * (got.power + candidate))
    np.testing.assert_allclose(got.chi_untied, chi, rtol=1e-10)

    exponent = jax.jit(
        jax.value_and_grad(lambda w: theory.gru_mean_field(w, sigma_u, bias).largest_exponent)
    )
    numeric = (exponent(1.3 + 1e-5)[0] - exponent(1.3 - 1e-5)[0]) / 2e-5
    np.testing.assert_allclose(exponent(1.3)[1], numeric, rtol=1e-6)
    assert not gru_mean_field(1.0, 0.0).converged


def test_gates_of_any_size():
    """Shut gates, large weights, and derivatives through an open reset gate: numbers, or a flag."""
    shut = theory.gru_mean_field(1.0, 1.0, 0.0, -1e4)
    np.testing.assert_allclose(shut.chi, shut.chi_untied, rtol=1e-12)
    for reset_bias in (-np.inf, -1e4):
        np.testing.assert_allclose(theory.gru_mean_field(1.0, 1.0, 0.0, reset_bias).chi, shut.chi)
    # z = 0 leaves h = tanh(a) with a network of its own inside: r W h.
    memoryless = theory.gru_mean_field(1.3, 0.8, -1e4, np.inf)
    elman = theory.mean_field(1.3, 0.0, 0.8)
    np.testing.assert_allclose(memoryless.chi, elman.chi, rtol=1e-9)
    np.testing.assert_allclose(1.3**2 * memoryless.power + 0.64, elman.q, rtol=1e-9)
    large = theory.gru_mean_field(1e3, 1e3, -1e4, np.inf)
    np.testing.assert_allclose(large.chi, theory.mean_field(1e3, 0.0, 1e3).chi, rtol=1e-8)
    assert memoryless.converged
    assert large.converged
    slope = jax.grad(lambda w: theory.gru_mean_field(w, 1.0, 0.0, np.inf).chi)(1.0)
    at = lambda w: theory.gru_mean_field(w, 1.0, 0.0, np.inf).chi
    np.testing.assert_allclose(slope, (at(1 + 1e-5) - at(1 - 1e-5)) / 2e-5, rtol=1e-7)


@pytest.mark.parametrize(
    ("dtype", "biases"), [(jnp.float64, (-200, -30)), (jnp.float32, (-25, -8))]
)
def test_shut_update_gates(dtype, biases):
    """Without weights d ← z ⊙ d: χ = ⟨z²⟩ = exp(2 b + 2 σ_u²), to what z is not exp(a)."""
    for bias in biases:
        got = theory.gru_mean_field(*(jnp.asarray(x, dtype) for x in (0, 1, bias)))
        assert got.converged
        z = mean(lambda x, bias=bias: np.exp(2 * (special.log_expit(x + bias) - bias)), 1.0)
        np.testing.assert_allclose(got.chi, z * np.exp(2.0 * bias), rtol=1e-5)
        np.testing.assert_allclose(got.chi_untied, got.chi, rtol=1e-5)
    # ⟨z²⟩ underflows: nothing, by every quadrature, is no answer.
    assert not theory.gru_mean_field(*(jnp.asarray(x, dtype) for x in (0, 1, -400))).converged


def test_large_weights_of_a_gate():
    """Without memory it is Elman's network at any size; with gates, right or not converged."""
    w = np.array([1e5, 1e9])
    open_gates = gru_mean_field(w, w, -1e30, np.inf)
    assert open_gates.converged.all()
    np.testing.assert_allclose(open_gates.chi, theory.mean_field(w, 0.0, w).chi, rtol=1e-8)
    got = gru_mean_field(w, 1.0)
    # One positive part of χ, σ_w² ⟨σ'²⟩ ⟨h²⟩, where ∫ σ'² = 1/6.
    least = w * np.sqrt(got.power) / (6 * np.sqrt(2 * np.pi))
    assert (~got.converged | (got.chi > least * (1 - 1e-6))).all()
    assert not got.converged[got.chi < 1].any()
