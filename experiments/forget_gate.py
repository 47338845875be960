"""How long an LSTM's gradient lasts, by the bias of its forget gate.

Claim: along c alone ∂c_t/∂c_k = ∏ f_i, so the forget bias sets the horizon of the gradient at the
start of training: σ(b)^100 is 8e-31, 2.5e-14 and 3e-6 for b of 0, 1 and 2. Random inputs move the
gates, and since ln σ is concave a typical unit forgets faster than a gate that stands still, at the
rate ⟨ln σ(b + √q z)⟩. The whole of ∂c_t/∂c_k, with the ways through h, lasts longer than ∏ f_i at
every bias, and from a bias of about 4 on it does not fall at all.

    python -m experiments.forget_gate [--out FOLDER]
    python -m experiments.forget_gate plot FOLDER

About half a minute on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.common.checks import Check, at_least, at_most, within
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import paragraph, table
from experiments.common.settings import Finite, Limits, Seed, Settings, Size
from experiments.common.study import Study
from experiments.figures import theory as theory_figures
from rnn_jax import theory
from rnn_jax.cells import lstm
from rnn_jax.gradients import effective_horizon, step_jacobians
from rnn_jax.linalg import log_norm, log_power_of_two, split_exponent
from rnn_jax.types import Array, Key


@dataclass(frozen=True)
class Config(Settings):
    """The networks, at the start of training, and what is measured of them."""

    out: Path = Path("runs/forget_gate")
    """The run folder."""
    biases: tuple[Finite, ...] = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    """Biases of the forget gate."""
    hidden_size: Size = 64
    """H, units of each network."""
    input_size: Size = 64
    """I; inputs are N(0, 1), and U x_t has variance 1."""
    seeds: Size = 8
    """Networks for each bias, each with an input of its own."""
    warmup: Size = 200
    """Steps before the first Jacobian."""
    lags: Annotated[int, Limits(least=2)] = 400
    """Steps that gradients go back."""
    seed: Seed = 0
    """PRNG seed."""


def measure(config: Config) -> Result:
    """Return all numbers, those of each bias in the order of `biases`."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    biases = jnp.array(config.biases, jnp.float32)
    over_seeds = jax.jit(jax.vmap(lambda bias, key: _of_one_network(config, bias, key), (None, 0)))
    of_biases = [
        jax.device_get(over_seeds(bias, keys)) for bias in progress(list(biases), "forget biases")
    ]
    measured = {name: np.stack([each[name] for each in of_biases]) for name in of_biases[0]}

    result = {"biases": np.array(config.biases), **measured}
    q = result["gate_variance"].mean(1)
    result["constant_rate"] = np.asarray(theory.forget_rate(biases))
    result["random_rate"] = np.asarray(theory.forget_rate(biases, jnp.asarray(q)))
    still = jax.jit(jax.vmap(lambda bias: _still(config, bias)))
    result["still"] = np.asarray(still(biases))
    return result


def _still(config: Config, bias: Array) -> Array:
    """Return ln ∏ f_i `[lags + 1]` of a unit without weights, whose gates do not move."""
    cell = lstm(1)
    zeros = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0), 0))
    params = zeros.replace(b=zeros.b.at[1].set(bias))
    J = step_jacobians(cell, params, jnp.zeros((config.lags, 0), bias.dtype))
    return jnp.concatenate([jnp.zeros(1, bias.dtype), jnp.cumsum(jnp.log(J[:, 0, 0]))])


def _of_one_network(config: Config, bias: Array, key: Key) -> dict[str, Array]:
    """Return logs `[lags + 1]` of what is left of ∂c_t/∂c_k in one network.

    `direct`: the mean over units of ln ∏ f_i; `direct_rms`: ln of the root mean square of ∏ f_i;
    `total`: the same of the singular values of ∂c_t/∂c_k, ways through h included.
    """
    H = config.hidden_size
    cell = lstm(H)
    init_key, key = jax.random.split(key)
    params = cell.init(init_key, config.input_size)
    params = params.replace(b=params.b.at[H : 2 * H].set(bias))
    xs = jax.random.normal(key, (config.warmup + config.lags, config.input_size), params.b.dtype)
    state, _ = rnn_jax.unroll(cell, params, xs[: config.warmup])
    J = step_jacobians(cell, params, xs[config.warmup :], state)

    # h_{t-1} held constant, c_t = f ⊙ c_{t-1} + ..: the first H rows and columns of J are diag(f).
    f = jnp.diagonal(J[:, :H, :H], axis1=1, axis2=2)
    log_gate = jnp.log(f)
    log_product = jnp.concatenate([jnp.zeros((1, H), f.dtype), jnp.cumsum(log_gate, 0)])

    def multiply(carry, J):
        mantissa, exponent = carry
        mantissa, e = split_exponent(J @ mantissa, (-2, -1))
        log = log_norm(mantissa[:H], (0, 1)) + log_power_of_two(exponent + e, J.dtype)
        return (mantissa, exponent + e), log

    from_c = jnp.eye(2 * H, H, dtype=J.dtype)
    _, log_total = jax.lax.scan(multiply, (from_c, jnp.zeros((), jnp.int32)), J)
    log_size = 0.5 * jnp.log(jnp.asarray(H, J.dtype))
    return {
        "direct": log_product.mean(1),
        "direct_rms": 0.5 * jax.nn.logsumexp(2 * log_product, axis=1) - log_size,
        "total": jnp.concatenate([jnp.zeros(1, J.dtype), log_total - log_size]),
        "gate_variance": jnp.mean(jnp.square(log_gate - jnp.log1p(-f) - bias)),
    }


def horizon(log_left: np.ndarray) -> np.ndarray:
    """Return steps until 1/e is left of `log_left [..., lags + 1]`; inf where not within `lags`."""
    return np.asarray(effective_horizon(np.moveaxis(log_left, -1, 0)))


ORACLES = {0.0: 8e-31, 1.0: 2.5e-14, 2.0: 3e-6}
"""f^100 of a constant forget gate by its bias, to the digits that are printed."""


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    biases, lags = result["biases"], result["direct"].shape[-1] - 1
    at_100 = [
        within(
            f"f^100 of gates that stand still, bias {bias:g}",
            np.exp(result["still"][i, 100]),
            ORACLES[float(bias)],
            0.05 * ORACLES[float(bias)],
        )
        for i, bias in enumerate(biases)
        if float(bias) in ORACLES and lags >= 100
    ]
    rate = result["direct"][..., -1] / lags
    error = np.abs(rate.mean(1) / result["random_rate"] - 1)
    longer = (result["total"][..., -1] - result["direct_rms"][..., -1]).mean(1)
    return [
        *at_100,
        at_most(
            "relative error of σ(b)^l at the last lag, in its logarithm",
            np.max(np.abs(result["still"][:, -1] / (lags * result["constant_rate"]) - 1)),
            1e-5,
        ),
        at_most("relative error of ⟨ln σ(b + √q z)⟩ per step, largest", error.max(), 0.02),
        at_most(
            "random gates less gates that stand still: nats per step, largest",
            np.max(rate.mean(1) - result["constant_rate"]),
            0,
        ),
        at_least("∂c_t/∂c_k over ∏ f_i at the last lag, in nats, smallest", longer.min(), 0),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    lags = result["direct"].shape[-1] - 1
    rows = []
    for i, bias in enumerate(result["biases"]):
        constant, random = result["constant_rate"][i], result["random_rate"][i]
        lasts = (np.median(horizon(result[name][i])) for name in ("direct", "direct_rms", "total"))
        rows.append(
            [
                f"{bias:g}",
                f"{np.exp(result['still'][i, 100]):.2g}" if lags >= 100 else "–",
                f"{result['direct'][i].mean(0)[-1] / lags:.4f} ({random:.4f})",
                f"{-1 / constant:.3g}",
                f"{-1 / random:.3g}",
                *(f"{lag:.3g}" if np.isfinite(lag) else f"> {lags}" for lag in lasts),
            ]
        )
    rates = table(
        [row[:3] for row in rows], ["forget bias", "σ(b)^100", "ln ∏ f_i, nats per step (theory)"]
    )
    horizons = table(
        [[row[0], *row[3:]] for row in rows],
        ["forget bias", "constant gate", "random gates", "∏ f_i, typical", "∏ f_i", "∂c_t/∂c_k"],
    )
    explained = paragraph(
        "Steps until 1/e is left. Theory: of a gate that stands still, and of random ones. "
        "Measured: of ∏ f_i of a typical unit, of its root mean square over units, and of that of "
        f"∂c_t/∂c_k; medians over {result['direct'].shape[1]} networks."
    )
    return f"# The forget gate\n\n{rates}\n\n{explained}\n\n{horizons}"


def plot(result: Result) -> dict[str, theory_figures.Figure]:
    """Return every figure, from the result alone."""
    measured = {name: result[name] for name in ("direct", "total")}
    horizons = {name: np.median(horizon(table), -1) for name, table in measured.items()}
    figure = theory_figures.forget_gate(
        result["biases"],
        measured,
        {"still": horizon(result["still"])} | horizons,
        constant=result["constant_rate"],
        random=result["random_rate"],
    )
    return {"forget_gate": figure}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
