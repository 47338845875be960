"""Networks with Gaussian weights as they run, and means over a Gaussian by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from rnn_jax import cells
from tests.helpers import normal


def mean(f, q):
    """⟨f(√q z)⟩ by adaptive quadrature."""
    density = lambda z: f(np.sqrt(q) * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return integrate.quad(density, -12, 12, epsabs=1e-14, epsrel=1e-13, limit=400)[0]


def slope(x):
    return 1 / np.cosh(x) ** 2


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
