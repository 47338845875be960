"""Lyapunov exponents, and norms at long lags."""

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import cells, gradients, theory
from tests.validation.oracle import oracle

FLOAT = jnp.float64


def scaled_rotation(size, factor, dtype):
    cell = cells.elman(
        size, "identity", recurrent_init=cells.initializers.orthogonal(factor), dtype=dtype
    )
    return cell, cell.init(jax.random.key(0), 1)


@oracle("all exponents of h ← c Q h, Q orthogonal, c = 0.8", "ln c", "nats a step", 1e-10)
def orthogonal():
    cell, params = scaled_rotation(8, 0.8, FLOAT)
    xs = jnp.zeros((200, 1), FLOAT)
    found = gradients.lyapunov_spectrum(cell, params, xs, num_exponents=8)
    return float(jnp.abs(found.exponents - np.log(0.8)).max())


@oracle(
    "ln ‖∂h_t/∂h_k‖ at lag 10,000 in float32, h ← ½ Q h, by lag",
    "−10,000 ln 2 = −6,931.5",
    "relative",
    1e-5,
)
def long_lag():
    cell, params = scaled_rotation(8, 0.5, jnp.float32)
    xs = jnp.zeros((10_000, 1), jnp.float32)
    of_lag = gradients.jacobian_log_norms_by_lag(cell, params, xs, lags=(10_000,), times=(10_000,))
    return abs(float(of_lag.value.squeeze()) / (-10_000 * np.log(2)) - 1)


@oracle(
    "sum of all exponents of a chaotic tanh network of 12 units",
    "the mean of ln |det J_t| along its trajectory",
    "nats a step",
    1e-8,
)
def determinants():
    cell = cells.elman_preactivation(
        12, recurrent_init=cells.initializers.gaussian(2 / 12**0.5), dtype=FLOAT
    )
    params = cell.init(jax.random.key(3), 1)
    xs = jnp.zeros((400, 1), FLOAT)
    start = jax.random.normal(jax.random.key(4), (12,), FLOAT)
    found = gradients.lyapunov_spectrum(cell, params, xs, start, num_exponents=12)
    jacobians = gradients.step_jacobians(cell, params, xs, start)
    log_det = jnp.linalg.slogdet(jacobians)[1].mean()
    return abs(float(found.exponents.sum() - log_det))


@oracle(
    "32 exponents of products of 4,000 Gaussian 32 × 32 matrices",
    "½ (ln(2/n) + ψ((n − i + 1)/2)), Newman 1986",
    "standard errors, largest of 32",
    4.0,
)
def gaussian_products():
    n, steps = 32, 4000

    def multiply(_, h, x):
        h = x.reshape(n, n) @ h
        return h, h

    cell = cells.from_function(multiply, state=jnp.zeros(n, FLOAT))
    xs = jax.random.normal(jax.random.key(0), (steps, n * n), FLOAT) / n**0.5
    found = gradients.lyapunov_spectrum(cell, {}, xs, num_exponents=n)
    wanted = theory.gaussian_product_exponents(n)
    return float(jnp.max(jnp.abs(found.exponents - wanted) / found.standard_errors))


@oracle(
    "λ₁ of h ← W tanh h, N = 512, g = 2, 2,000 steps",
    "mean-field theory, 0.15472, at N → ∞",
    "nats a step",
    0.015,
)
def chaos():
    N = 512
    cell = cells.elman_preactivation(N, recurrent_init=cells.initializers.gaussian(2 / N**0.5))
    params = cell.init(jax.random.key(0), 1)
    start = jax.random.normal(jax.random.key(1), (N,), jnp.float32)
    xs = jnp.zeros((2200, 1), jnp.float32)
    found = gradients.lyapunov_spectrum(cell, params, xs, start, num_exponents=1, warmup=200)
    return abs(float(found.exponents[0]) - float(theory.mean_field(2.0).largest_exponent))


@oracle(
    "sum of all exponents of a GRU of 10 units that reads noise",
    "the mean of ln |det J_t|",
    "nats a step",
    1e-8,
)
def gated_determinants():
    cell = cells.gru(10, dtype=FLOAT)
    params = cell.init(jax.random.key(0), 4)
    xs = jax.random.normal(jax.random.key(1), (300, 4), FLOAT)
    found = gradients.lyapunov_spectrum(cell, params, xs, num_exponents=10)
    log_det = jnp.linalg.slogdet(gradients.step_jacobians(cell, params, xs))[1].mean()
    return abs(float(found.exponents.sum() - log_det))
