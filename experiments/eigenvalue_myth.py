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

import jax
import jax.numpy as jnp
import numpy as np

from experiments.run_folder import Result, RunFolder, command_line
from rnn_jax import plotting_theory
from rnn_jax.cells import AffineParams, elman_preactivation, initializers
from rnn_jax.gradients import norm_bound, product_log_norms, step_jacobians
from rnn_jax.linalg import spectral_radius
from rnn_jax.theory import mean_field
from rnn_jax.types import Array


@dataclass(frozen=True)
class Config:
    """What is measured, all in float64."""

    out: Path = Path("runs/eigenvalue_myth")
    """The run folder."""
    lags: int = 40
    """Steps that gradients go back."""
    eigenvalue: float = 0.8
    """ρ of the linear networks, both of their eigenvalues."""
    couplings: tuple[float, ...] = (0.0, 1.0, 10.0, 100.0)
    """Of the linear networks, W = [[ρ, coupling], [0, ρ]]; 0 is a normal matrix."""
    units: int = 100
    """N of the random tanh network."""
    gain: float = 1.5
    """σ_w of the random network, about its ρ(W)."""
    input_std: float = 2.0
    """σ_u, of what each unit of the random network receives at each step."""
    seed: int = 0
    """Of the random network."""


def main(config: Config) -> Result:
    """Measure, and leave a run folder behind. Returns what numbers.npz holds."""
    folder = RunFolder(config.out)
    folder.begin(config, inputs={})
    with jax.enable_x64(True):
        result = jax.device_get(_nilpotent(config.lags) | _linear(config) | _saturated(config))
    summary = summarize(result)
    folder.finish(result, summary, plot(result))
    print(f"{summary}\nFigures and numbers are in {folder.path}/")
    return result


def by_lag(jacobians: Array) -> Array:
    """ln ‖J_l ··· J_1‖₂ of `jacobians [L, S, S]`: `[L+1]`."""
    return product_log_norms(jacobians)[:, 0]


def _nilpotent(lags: int) -> dict[str, Array]:
    """W = [[8, 8], [-8, -8]] held at its fixed point x* = (0, artanh ½) by the bias."""
    W = jnp.array([[8.0, 8], [-8, -8]])
    fixed_point = jnp.array([0, jnp.arctanh(0.5)])
    params = AffineParams(W=W, U=jnp.zeros((2, 0)), b=fixed_point - W @ jnp.tanh(fixed_point))
    cell = elman_preactivation(2, dtype=W.dtype)
    # The fixed point repels, so that a trajectory leaves it by rounding; J there is taken alone.
    (J,) = step_jacobians(cell, params, jnp.zeros((1, 0)), fixed_point)
    lambda_W, lambda_phi = norm_bound(cell, params)
    return {
        "nilpotent/radius": spectral_radius(W),
        "nilpotent/measured": by_lag(jnp.broadcast_to(J, (lags, 2, 2))),
        "nilpotent/law": jnp.arange(lags) * jnp.log(2.0) + jnp.log(jnp.sqrt(200.0)),
        "nilpotent/bound": jnp.arange(lags + 1) * jnp.log(lambda_W * lambda_phi),
    }


def _linear(config: Config) -> dict[str, Array]:
    """W = [[ρ, K], [0, ρ]]: Wⁿ = [[ρⁿ, n K ρ^(n−1)], [0, ρⁿ]]."""
    rho = config.eigenvalue
    cell = elman_preactivation(2, "identity", dtype=jnp.float64)
    measured = []
    for coupling in config.couplings:
        W = jnp.array([[rho, coupling], [0, rho]])
        params = AffineParams(W=W, U=jnp.zeros((2, 0)), b=jnp.zeros(2))
        measured.append(by_lag(step_jacobians(cell, params, jnp.zeros((8 * config.lags, 0)))))
    return {
        "linear/radius": jnp.array(rho),
        "linear/couplings": jnp.array(config.couplings),
        "linear/measured": jnp.stack(measured),
    }


def _saturated(config: Config) -> dict[str, Array]:
    """A random tanh network with ρ(W) above 1 and strong input, after as many steps again."""
    N, I = config.units, 4 * config.units
    cell = elman_preactivation(
        N,
        recurrent_init=initializers.gaussian(config.gain * N**-0.5),
        input_init=initializers.gaussian(config.input_std * I**-0.5),
        dtype=jnp.float64,
    )
    init_key, key = jax.random.split(jax.random.key(config.seed))
    params = cell.init(init_key, I)
    xs = jax.random.normal(key, (2 * config.lags, I), jnp.float64)
    return {
        "saturated/radius": spectral_radius(params.W),
        "saturated/measured": by_lag(step_jacobians(cell, params, xs)[config.lags :]),
        "saturated/exponent": mean_field(config.gain, 0.0, config.input_std).largest_exponent,
    }


def summarize(result: Result) -> str:
    """What was found, in Markdown."""
    from tabulate import tabulate

    measured = result["nilpotent/measured"]
    error = np.max(np.abs(np.expm1(measured[1:] - result["nilpotent/law"])))
    rows = [
        [f"{K:g}", f"{np.exp(norms.max()):.4g}", norms.argmax(), f"{np.exp(norms[-1]):.2g}"]
        for K, norms in zip(result["linear/couplings"], result["linear/measured"], strict=True)
    ]
    last = len(result["linear/measured"][0]) - 1
    table = tabulate(
        rows,
        headers=["coupling", "largest ‖∂h_t/∂h_k‖", "at lag", f"at lag {last}"],
        tablefmt="github",
        disable_numparse=True,
    )
    saturated = result["saturated/measured"]
    lags = len(saturated) - 1
    return (
        "# The eigenvalue myth\n\n"
        f"ρ(W) = {result['nilpotent/radius']:g}, tanh: ‖∂h_t/∂h_k‖ grows to "
        f"{np.exp(measured[-1]):.3g} in {len(measured) - 1} steps; relative error of "
        f"2^(t−k−1) ‖J‖: {error:.1g}.\n\n"
        f"Linear networks, ρ(W) = {result['linear/radius']:g}:\n\n{table}\n\n"
        f"ρ(W) = {result['saturated/radius']:.2f}, tanh, strong input: "
        f"{saturated[-1] / lags:+.3f} nats per step over {lags} steps, to "
        f"{np.exp(saturated[-1]):.1g}; mean-field theory {result['saturated/exponent']:+.3f}.\n"
    )


def plot(result: Result) -> dict[str, plotting_theory.Figure]:
    """Every figure, from the numbers alone."""
    panels = {
        part: {
            name.removeprefix(f"{part}/"): values
            for name, values in result.items()
            if name.startswith(f"{part}/")
        }
        for part in ("nilpotent", "linear", "saturated")
    }
    return {"norms": plotting_theory.eigenvalue_myth(**panels)}


def _replot(folder: Path) -> None:
    run = RunFolder(folder)
    run.write_figures(plot(run.read()))
    print(f"Figures are in {run.path / 'figures'}/")


if __name__ == "__main__":
    command_line(Config, main, _replot, __doc__)
