"""Theory, and what tasks can be answered without memory."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import integrate

from rnn_jax import tasks, theory
from tests.validation.oracle import oracle

FLOAT = jnp.float64
TABLE = {1.2: (0.24951, 0.01648, -0.5431), 1.5: (0.79335, 0.06522, -0.7143)}
TABLE |= {2.0: (2.12147, 0.15472, -1.1490), 3.0: (6.30539, 0.31025, -2.2728)}


def gaussian(f, q):
    """Return ⟨f(√q z)⟩ by SciPy's adaptive quadrature."""
    weight = lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return integrate.quad(lambda z: weight(z) * f(q**0.5 * z), -12, 12, limit=400)[0]


@oracle(
    "mean-field χ of h ← W tanh h, g = 1.2, 1.5, 2 and 3: q, λ₁ and the mean exponent",
    "q = g² ⟨tanh²(√q z)⟩ and its averages by SciPy's adaptive quadrature",
    "absolute",
    1e-8,
)
def mean_field():
    off = []
    slope = lambda x: 1 / np.cosh(x) ** 2
    for g in TABLE:
        found = theory.mean_field(g)
        q = float(found.q)
        off += [
            g**2 * gaussian(lambda x: np.tanh(x) ** 2, q) - q,
            0.5 * np.log(g**2 * gaussian(lambda x: slope(x) ** 2, q)) - found.largest_exponent,
            gaussian(lambda x: np.log(slope(x)), q) + np.log(g) - 0.5 - found.mean_exponent,
        ]
    return float(np.abs(np.array(off, float)).max())


@oracle("the same, to the digits of a table", "computed apart: five digits", "absolute", 6e-5)
def mean_field_table():
    off = []
    for g, wanted in TABLE.items():
        found = theory.mean_field(g)
        off += list(np.array([found.q, found.largest_exponent, found.mean_exponent]) - wanted)
    return float(np.abs(off).max())


@oracle(
    "32 exponents of Gaussian products, λ₁, λ₂ and λ₃₂",
    "−0.01579, −0.03218, −2.36805",
    "absolute",
    6e-6,
)
def gaussian_exponents():
    found = np.asarray(theory.gaussian_product_exponents(32))[[0, 1, 31]]
    return float(np.abs(found - [-0.01579, -0.03218, -2.36805]).max())


@oracle(
    "E[h²] and E[(∂h/∂λ)²] of h ← λ h + x, λ = 0.5 and 0.9",
    "sums over lags: Σ λ^2n and Σ n² λ^(2n−2)",
    "relative",
    1e-12,
)
def linear_memory():
    off = []
    n = np.arange(4000.0)
    for factor in (0.5, 0.9):
        state = (factor ** (2 * n)).sum()
        sensitivity = (n[1:] ** 2 * factor ** (2 * n[1:] - 2)).sum()
        off += [
            theory.linear_state_power(factor) / state - 1,
            theory.linear_sensitivity_power(factor) / sensitivity - 1,
        ]
    return float(np.abs(np.array(off, float)).max())


@oracle("loss of the best constant answer to adding", "1/6, in closed form", "absolute", 1e-6)
def adding():
    return abs(float(tasks.adding(T=100, batch_size=4).chance_loss) - 1 / 6)


@oracle(
    "cross-entropy of copying without memory, T = 100, 200, 300 and 500",
    "10 ln 8 / (T + 20): 0.17329, 0.09452, 0.06498, 0.03999",
    "absolute",
    1e-5,
)
def copying():
    wanted = {100: 0.17329, 200: 0.09452, 300: 0.06498, 500: 0.03999}
    return max(
        abs(float(tasks.copying(T=T, batch_size=2).chance_loss) - loss)
        for T, loss in wanted.items()
    )


@oracle(
    "loss of the answer without memory on 20,000 sequences: adding, T = 20",
    "its chance loss, 1/6",
    "standard errors",
    4.0,
)
def adding_drawn():
    task = tasks.adding(T=20, batch_size=20_000)
    xs, targets = task.batch(jax.random.key(0), 0)
    assert task.chance is not None
    answer = task.chance(xs)
    errors = np.asarray((answer[-1] - targets[-1]) ** 2, float).sum(-1)
    return float(abs(errors.mean() - 1 / 6) / (errors.std() / len(errors) ** 0.5))
