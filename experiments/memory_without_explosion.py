"""Memory makes learning sensitive, though no gradient explodes.

Claim: a linear unit h ← λ h + x with white input of variance 1 has ∂h_t/∂h_k = λ^(t−k), never above
1, and yet E[(∂h/∂λ)²] = (1 + λ²) / (1 − λ²)³ grows without bound as its memory gets longer,
far faster than E[h²] = 1 / (1 − λ²). Input normalization and the exponential parametrization
λ = exp(−e^ν) hold it at a half (Zucchet and Orvieto 2024). Sensitivities are exact, in forward
mode, through the library's `diagonal` cell.

    python -m experiments.memory_without_explosion [--out FOLDER]
    python -m experiments.memory_without_explosion plot FOLDER

About half a minute on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.common.checks import Check, at_least, at_most
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import table
from experiments.common.settings import Limits, Positive, Seed, Settings, Size
from experiments.common.study import Study
from experiments.figures import theory as theory_figures
from rnn_jax import theory
from rnn_jax.cells import diagonal
from rnn_jax.cells._diagonal import DiagonalParams
from rnn_jax.errors import invalid
from rnn_jax.types import Array, Key

LAWS = {
    "state": theory.linear_state_power,
    "sensitivity": theory.linear_sensitivity_power,
    "normalized": theory.normalized_sensitivity_power,
}

TITLES = {"state": "E[h²]", "sensitivity": "E[(∂h/∂λ)²]", "normalized": "E[(γ ∂h/∂ν)²]"}

Factor = Annotated[float, Limits(least=1e-6, most=1 - 1e-6)]
"""What float32 tells from 0 and 1, with its square and its logarithm."""


@dataclass(frozen=True)
class Config(Settings):
    """The units, and the sequences that they are driven by."""

    out: Path = Path("runs/memory_without_explosion")
    """The run folder."""
    factors: tuple[Factor, ...] = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
    """λ, each a unit of one network."""
    sequences: Annotated[int, Limits(least=2)] = 512
    """Independent inputs; the standard error is that of the mean over them."""
    together: Size = 64
    """Sequences that are in memory at a time."""
    memories: Positive = 15.0
    """Steps that are averaged over in each sequence, and as many before them, in units of the
    longest memory 1 / (1 − λ)."""
    lags: Size = 1000
    """Over which ∂h_t/∂h_k is shown."""
    seed: Seed = 0
    """PRNG seed of the input."""

    def check_together(self) -> None:
        if _steps(self) < 1:
            remedy = "Pass more, or factors that remember longer."
            raise invalid("memories", self.memories, "a step to average over", remedy)


def measure(config: Config) -> Result:
    """Return time averages of simulated sequences, gradients by lag, and the laws of both."""
    factors = jnp.array(config.factors, jnp.float32)
    groups = -(-config.sequences // config.together)
    keys = jax.random.split(jax.random.key(config.seed), groups)
    simulate = jax.jit(lambda key: _powers(config, factors, key))
    print(f"{groups * config.together} sequences of {2 * _steps(config):,} steps.", flush=True)

    # The laws are steep in 1 − λ: they are taken at the λ that was simulated, in float64.
    simulated = np.asarray(factors, np.float64)
    with jax.enable_x64(True):
        laws = {name: np.asarray(law(jnp.asarray(simulated))) for name, law in LAWS.items()}
    result: dict[str, Any] = {"factors": np.array(config.factors)}
    simulations = [
        jax.device_get(simulate(key)) for key in progress(list(keys), "groups of sequences")
    ]
    for name in LAWS:
        powers = np.concatenate([each[name] for each in simulations]).astype(np.float64)
        result[name] = {
            "measured": powers.mean(0),
            "standard_error": powers.std(0, ddof=1) / np.sqrt(len(powers)),
            "law": laws[name],
        }
    result["gradient"] = np.asarray(jax.jit(lambda a: _gradient_by_lag(config, a))(factors))
    result["gradient_law"] = simulated ** np.arange(config.lags + 1)[:, None]
    return result


def _steps(config: Config) -> int:
    return round(config.memories / (1 - max(config.factors)))


def _powers(config: Config, factors: Array, key: Key) -> dict[str, Array]:
    """Return time averages of h², (∂h/∂λ)² and (γ ∂h/∂ν)², each `[together, units]`."""
    T, H = _steps(config), len(factors)
    cell = diagonal(H, dtype=factors.dtype)
    xs = jax.random.normal(key, (2 * T, config.together, 1), factors.dtype)
    ones, zeros = jnp.ones_like(factors), jnp.zeros_like(factors)

    def h(a: Array, U: Array) -> Array:
        params = DiagonalParams(a=a, U=U[:, None], b=zeros)
        # A unit knows its own λ alone, so one tangent serves all.
        return rnn_jax.unroll(cell, params, xs, strategy="scan")[1][T:]

    nu, gamma = jnp.log(-jnp.log(factors)), jnp.sqrt(1 - factors**2)
    state, sensitivity = jax.jvp(lambda a: h(a, ones), (factors,), (ones,))
    _, normalized = jax.jvp(lambda nu: h(jnp.exp(-jnp.exp(nu)), gamma), (nu,), (ones,))
    parts = {"state": state, "sensitivity": sensitivity, "normalized": normalized}
    return {name: jnp.mean(jnp.square(part), 0) for name, part in parts.items()}


def _gradient_by_lag(config: Config, factors: Array) -> Array:
    """Return ∂h_t/∂h_0 of each unit, `[lags + 1, units]`."""
    cell = diagonal(len(factors), dtype=factors.dtype)
    params = cell.init(jax.random.key(0), 0).replace(a=factors)
    xs = jnp.zeros((config.lags, 0), factors.dtype)
    states = lambda h: rnn_jax.trajectory(cell, params, xs, h)
    return jax.jvp(states, (jnp.zeros_like(factors),), (jnp.ones_like(factors),))[1]


def deviations(result: Result, name: str) -> np.ndarray:
    """Return (measured − law) / standard error of each unit."""
    power = result[name]
    return (power["measured"] - power["law"]) / power["standard_error"]


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    measured = result["sensitivity"]["measured"] / result["state"]["measured"]
    return [
        *(
            at_most(
                f"{TITLES[name]}: largest deviation from its law, in standard errors",
                np.abs(deviations(result, name)).max(),
                4,
            )
            for name in LAWS
        ),
        at_most(
            "largest standard error of them all, relative",
            max((result[name]["standard_error"] / result[name]["law"]).max() for name in LAWS),
            0.1,
        ),
        at_most("largest ∂h_t/∂h_k", result["gradient"].max(), 1),
        at_most(
            "∂h_t/∂h_k − λ^(t−k), largest",
            np.abs(result["gradient"] - result["gradient_law"]).max(),
            1e-4,
        ),
        at_least(
            "E[(∂h/∂λ)²] / E[h²] of the longest memory over that of the shortest",
            measured[-1] / measured[0],
            1e2,
        ),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    rows = [
        [f"{factor:g}"]
        + [
            f"{result[name]['measured'][i]:.4g} ± {result[name]['standard_error'][i]:.1g} "
            f"({result[name]['law'][i]:.4g})"
            for name in LAWS
        ]
        for i, factor in enumerate(result["factors"])
    ]
    worst = max(np.abs(deviations(result, name)).max() for name in LAWS)
    headers = ["λ", *TITLES.values()]
    return (
        f"# Memory without explosion\n\n{table(rows, headers)}\n\n"
        "Measured ± standard error (law). The largest of "
        f"the {len(rows) * len(LAWS)} deviations is {worst:.1f} standard errors."
    )


def plot(result: Result) -> dict[str, theory_figures.Figure]:
    """Return every figure, from the result alone."""
    powers = {
        name: tuple(result[name][part] for part in ("measured", "standard_error", "law"))
        for name in LAWS
    }
    return {"memory": theory_figures.memory(result["factors"], result["gradient"], powers)}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
