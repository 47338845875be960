"""Eigenvalues of W do not tell whether gradients vanish or explode.

Claim: "ρ(W) < 1, so gradients vanish" and "ρ(W) > 1, so they explode" are both false. A tanh
network with a nilpotent W (ρ = 0) has, at a fixed point, ‖∂h_t/∂h_k‖ = 2^(t−k−1) ‖J‖: it doubles
at every step, below the bound (λ_W λ_φ)^(t−k) of singular values, which is a theorem (Pascanu,
Mikolov and Bengio 2013). In a linear network ρ < 1 does suffice, after growth that may be large.
And a network with ρ(W) above 1 has vanishing gradients where its input saturates it, at the rate
½ ln χ of mean-field theory.

    python -m experiments.eigenvalue_myth [--out FOLDER]
    python -m experiments.eigenvalue_myth plot FOLDER

Under a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.checks import Check, at_least, at_most, within
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import paragraph, table
from experiments.common.settings import (
    Limits,
    NotNegative,
    OpenUnit,
    Positive,
    Seed,
    Settings,
    Size,
)
from experiments.common.study import Study
from experiments.figures import theory as theory_figures
from rnn_jax.cells import AffineParams, elman_preactivation, initializers
from rnn_jax.gradients import norm_bound, step_jacobians
from rnn_jax.linalg import log_power_of_two, log_spectral_norm, spectral_radius, split_exponent
from rnn_jax.theory import mean_field
from rnn_jax.types import Array


@dataclass(frozen=True)
class Config(Settings):
    """The networks of three kinds, all in float64."""

    out: Path = Path("runs/eigenvalue_myth")
    """The run folder."""
    lags: Annotated[int, Limits(least=2)] = 60
    """Steps that gradients go back; twice as many in the linear networks."""
    eigenvalue: OpenUnit = 0.8
    """ρ of the linear networks, both of their eigenvalues."""
    couplings: tuple[NotNegative, ...] = (0.0, 1.0, 10.0, 100.0)
    """K of the linear networks, W = [[ρ, K], [0, ρ]]; 0 is a normal matrix."""
    networks: Annotated[int, Limits(least=2)] = 16
    """Random tanh networks; their spread is the error of their mean."""
    units: Size = 100
    """N of a random network."""
    gain: Positive = 1.5
    """σ_w of a random network, about its ρ(W)."""
    input_std: NotNegative = 2.0
    """σ_u, of what each unit of a random network receives at each step."""
    seed: Seed = 0
    """PRNG seed of the random networks."""


def measure(config: Config) -> Result:
    """Return norms by lag of networks of three kinds."""
    parts = {"nilpotent": _nilpotent, "linear": _linear, "saturated": _saturated}
    with jax.enable_x64(True):
        return {
            name: jax.device_get(part(config))
            for name, part in progress(parts.items(), "networks of three kinds")
        }


def by_lag(jacobians: Array) -> Array:
    """Return ln ‖J_l ··· J_1‖₂ of `jacobians [n, L, S, S]`: `[n, L+1]`."""
    mantissas, exponents = _products(jacobians)
    logs = log_spectral_norm(mantissas) + log_power_of_two(exponents, mantissas.dtype)
    return jnp.pad(logs.T, ((0, 0), (1, 0)))


@jax.jit
def _products(jacobians: Array) -> tuple[Array, Array]:
    """Return J_l ··· J_1 as mantissas `[L, n, S, S]` and exponents `[L, n]`."""

    def multiply(product, J):
        mantissa, exponent = product
        mantissa, e = split_exponent(J @ mantissa, (-2, -1))
        return (mantissa, exponent + e), (mantissa, exponent + e)

    n, _, S, _ = jacobians.shape
    one = jnp.broadcast_to(jnp.eye(S, dtype=jacobians.dtype), (n, S, S))
    return jax.lax.scan(multiply, (one, jnp.zeros(n, jnp.int32)), jacobians.swapaxes(0, 1))[1]


def _nilpotent(config: Config) -> dict[str, Array]:
    """Hold W = [[8, 8], [-8, -8]] at its fixed point x* = (0, artanh ½) by the bias."""
    lags, W = config.lags, jnp.array([[8.0, 8], [-8, -8]])
    fixed_point = jnp.array([0, jnp.arctanh(0.5)])
    params = AffineParams(W=W, U=jnp.zeros((2, 0)), b=fixed_point - W @ jnp.tanh(fixed_point))
    cell = elman_preactivation(2, dtype=W.dtype)
    # The fixed point repels, so that a trajectory leaves it by rounding; J there is taken alone.
    (J,) = jax.jit(lambda p, x: step_jacobians(cell, p, jnp.zeros((1, 0)), x))(params, fixed_point)
    lambda_W, lambda_phi = norm_bound(cell, params)
    return {
        "radius": jax.jit(spectral_radius)(W),
        "measured": by_lag(jnp.broadcast_to(J, (1, lags, 2, 2)))[0],
        # ‖J‖ = ‖[[8, 6], [-8, -6]]‖ = √200
        "law": jnp.arange(lags) * jnp.log(2.0) + jnp.log(jnp.sqrt(200.0)),
        "bound": jnp.arange(lags + 1) * jnp.log(lambda_W * lambda_phi),
    }


def _linear(config: Config) -> dict[str, Array]:
    """Multiply W = [[ρ, K], [0, ρ]]: Wⁿ = [[a, k], [0, a]], a = ρⁿ, k = n K ρ^(n−1).

    Its largest singular value is (k + √(k² + 4 a²)) / 2.
    """
    rho, xs = config.eigenvalue, jnp.zeros((2 * config.lags, 0))
    cell = elman_preactivation(2, "identity", dtype=jnp.float64)
    K = jnp.array(config.couplings)
    W = rho * jnp.eye(2) + K[:, None, None] * jnp.eye(2, k=1)

    @jax.jit
    @jax.vmap
    def jacobians(W):
        return step_jacobians(cell, AffineParams(W=W, U=jnp.zeros((2, 0)), b=jnp.zeros(2)), xs)

    n = jnp.arange(len(xs) + 1)
    a, k = rho**n, n * K[:, None] * rho ** (n - 1.0)
    return {
        "radius": jnp.array(rho),
        "couplings": K,
        "measured": by_lag(jacobians(W)),
        "law": jnp.log((k + jnp.sqrt(k**2 + 4 * a**2)) / 2),
    }


def _saturated(config: Config) -> dict[str, Array]:
    """Drive random tanh networks of ρ(W) above 1 strongly, for as many steps before the lags."""
    N, I = config.units, 4 * config.units
    cell = elman_preactivation(
        N,
        recurrent_init=initializers.gaussian(config.gain * N**-0.5),
        input_init=initializers.gaussian(config.input_std * I**-0.5),
        dtype=jnp.float64,
    )

    @jax.jit
    @jax.vmap
    def jacobians(key):
        init_key, key = jax.random.split(key)
        params = cell.init(init_key, I)
        xs = jax.random.normal(key, (2 * config.lags, I), jnp.float64)
        return spectral_radius(params.W), step_jacobians(cell, params, xs)[config.lags :]

    radius, J = jacobians(jax.random.split(jax.random.key(config.seed), config.networks))
    theory = jax.jit(mean_field)(config.gain, 0.0, config.input_std)
    return {
        "radius": radius,
        "measured": by_lag(J),
        "exponent": theory.largest_exponent,
    }


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    nilpotent, linear, saturated = (result[kind] for kind in ("nilpotent", "linear", "saturated"))
    norms, law = nilpotent["measured"], nilpotent["law"]
    relative = lambda logs: np.max(np.abs(np.expm1(logs)))
    rates = saturated_rates(saturated["measured"])
    four_errors = 4 * rates.std(ddof=1) / np.sqrt(len(rates))
    return [
        within("nilpotent: ρ(W)", float(nilpotent["radius"]), 0, 0),
        at_most("nilpotent: relative error of 2^l ‖J‖", relative(norms[1:] - law), 1e-10),
        at_least("nilpotent: ‖∂h_t/∂h_k‖ at the last lag", np.exp(norms[-1]), 1e6),
        at_most(
            "nilpotent: lags at which (λ_W λ_φ)^(t−k) is exceeded",
            float(np.sum(norms > nilpotent["bound"] + 1e-10)),
            0,
        ),
        at_most(
            "linear: relative error of ‖Wⁿ‖", relative(linear["measured"] - linear["law"]), 1e-10
        ),
        at_most(
            "linear: largest ‖Wⁿ‖ at the last lag", np.exp(linear["measured"][:, -1].max()), 1e-3
        ),
        at_least("driven: smallest ρ(W)", saturated["radius"].min(), 1),
        within(
            "driven: nats per step, against ½ ln χ (4 standard errors)",
            rates.mean(),
            float(saturated["exponent"]),
            four_errors,
        ),
    ]


def saturated_rates(norms: np.ndarray) -> np.ndarray:
    """Return nats per step of each random network, over the later half of the lags."""
    half = norms.shape[1] // 2
    return (norms[:, -1] - norms[:, half]) / (norms.shape[1] - 1 - half)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    nilpotent, linear, saturated = (result[kind] for kind in ("nilpotent", "linear", "saturated"))
    rows = [
        [f"{K:g}", f"{np.exp(norms.max()):.4g}", norms.argmax(), f"{np.exp(norms[-1]):.2g}"]
        for K, norms in zip(linear["couplings"], linear["measured"], strict=True)
    ]
    last = f"at lag {linear['measured'].shape[1] - 1}"
    by_coupling = table(rows, ["coupling", "largest ‖∂h_t/∂h_k‖", "at lag", last])
    radii, norms = saturated["radius"], saturated["measured"]
    driven = paragraph(
        f"{len(radii)} networks with ρ(W) from {radii.min():.2f} to {radii.max():.2f}, tanh, "
        f"strong input: ‖∂h_t/∂h_k‖ falls to {np.exp(np.median(norms[:, -1])):.1g} (median) in "
        f"{norms.shape[1] - 1} steps, by {saturated_rates(norms).mean():+.4f} nats per step."
    )
    return (
        "# The eigenvalue myth\n\n"
        f"ρ(W) = {nilpotent['radius']:g}, tanh: ‖∂h_t/∂h_k‖ grows to "
        f"{np.exp(nilpotent['measured'][-1]):.3g} in {len(nilpotent['measured']) - 1} steps.\n\n"
        f"Linear networks, ρ(W) = {linear['radius']:g}:\n\n{by_coupling}\n\n{driven}"
    )


def plot(result: Result) -> dict[str, theory_figures.Figure]:
    """Return every figure, from the result alone."""
    return {"norms": theory_figures.eigenvalue_myth(**result)}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
