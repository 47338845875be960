"""Bounds on ∂h_t/∂h_k."""

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import cells, gradients
from tests.validation.oracle import oracle

FLOAT = jnp.float64


@oracle(
    "growth of ∂h_t/∂h_k where every eigenvalue of W is 0: ln ‖J^(l+1)‖ to lag 10",
    "l ln 2 + ln ‖J‖, in closed form: J² = 2 J",
    "nats",
    1e-10,
)
def nilpotent():
    W = jnp.array([[8.0, 8.0], [-8.0, -8.0]], FLOAT)
    rest = jnp.array([0.0, np.arctanh(0.5)], FLOAT)
    cell = cells.elman_preactivation(2, dtype=FLOAT)
    params = cell.init(jax.random.key(0), 1)
    params = params.replace(W=W, b=rest - W @ jnp.tanh(rest))
    norms = gradients.jacobian_log_norms(cell, params, jnp.zeros((10, 1), FLOAT), rest, rtol=1e-11)
    J = jnp.array([[8.0, 6.0], [-8.0, -6.0]], FLOAT)
    lags = np.arange(1, 11)
    wanted = (lags - 1) * np.log(2) + float(jnp.log(jnp.linalg.norm(J, 2)))
    return float(np.abs(np.asarray(norms)[lags, 0] - wanted).max())


@oracle(
    "pairs (t, k) above (λ_W λ_φ)^(t−k) and above Π ‖J_i‖₂, 20 tanh networks of gain 0.2 to 5",
    "0: both are theorems",
    "count",
    0,
)
def violations():
    cell = cells.elman(16, dtype=FLOAT)
    xs = jax.random.normal(jax.random.key(1), (20, 4), FLOAT)

    def of_one(key, gain):
        params = cell.init(key, 4)
        params = params.replace(W=gain * params.W)
        checks = gradients.check_bounds(cell, params, xs)
        return jnp.array([check.violations for check in checks.values()])

    gains = jnp.geomspace(0.2, 5.0, 20, dtype=FLOAT)
    keys = jax.random.split(jax.random.key(0), 20)
    return int(jax.lax.map(lambda drawn: of_one(*drawn), (keys, gains)).sum())


@oracle(
    "slack of (λ_W λ_φ)^(t−k) of a linear network with orthogonal W, to lag 60",
    "0: every singular value of W^n is 1",
    "nats",
    1e-9,
)
def tight():
    cell = cells.elman(12, "identity", recurrent_init=cells.initializers.orthogonal(), dtype=FLOAT)
    params = cell.init(jax.random.key(0), 2)
    norms = gradients.jacobian_log_norms(cell, params, jnp.zeros((60, 2), FLOAT), rtol=1e-11)
    bound = gradients.power_bound(*gradients.norm_bound(cell, params), T=60)
    pairs = np.tril_indices(61)
    return float(np.abs(np.asarray(bound - norms)[pairs]).max())


@oracle(
    "ln ∂c_100/∂c_0 of an LSTM whose gates are constant, forget bias 0, 1 and 2",
    "100 ln σ(bias): f^100 = 8e-31, 2.5e-14, 3e-6",
    "relative",
    1e-12,
)
def forget_gate():
    off = []
    for bias in (0.0, 1.0, 2.0):
        cell = cells.lstm(3, forget_bias=bias, dtype=FLOAT)
        params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 2))
        params = params.replace(b=cell.init(jax.random.key(0), 2).b)
        xs = jnp.zeros((100, 2), FLOAT)
        norms = gradients.jacobian_log_norms(cell, params, xs, block=("c", "c"), rtol=1e-11)
        wanted = -100 * np.logaddexp(0, -bias)
        off.append(abs(float(norms[100, 0]) / wanted - 1))
    return max(off)
