"""Order and chaos: twenty thousand networks, and the line that theory draws between them.

Claim: whether gradients vanish or explode in a random tanh network is decided by χ = σ_w² ⟨φ'²⟩,
and so by its gain and by how strongly it is driven: the largest Lyapunov exponent is ½ ln χ, zero
on a line that starts at gain 1 and rises with the drive. Noise-like input and a constant bias move
that line alike, as the sum of their variances. Each point of the diagram is one network of its own;
all of them are one program. The exponent comes from one tangent vector carried along the
trajectory, and the gradient's rate from one cotangent carried back from its end.

    python -m experiments.phase_diagram [--out FOLDER]
    python -m experiments.phase_diagram plot FOLDER

About two minutes on two cores.
"""

from __future__ import annotations

import functools
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
    Positive,
    Seed,
    Settings,
    Size,
    check_range,
)
from experiments.common.study import Study
from experiments.figures import theory as theory_figures
from rnn_jax.cells import elman_preactivation, initializers
from rnn_jax.errors import check_integer
from rnn_jax.theory import critical_gain, mean_field
from rnn_jax.types import Array, Key

DRIVES = ("input", "bias")


@dataclass(frozen=True)
class Config(Settings):
    """The networks, and how long each is followed."""

    out: Path = Path("runs/phase_diagram")
    """The run folder."""
    units: Size = 128
    """N, units of each network."""
    gains: tuple[Positive, Positive] = (0.5, 3.0)
    """σ_w, from and to."""
    strengths: tuple[NotNegative, NotNegative] = (0.0, 2.0)
    """σ_u of the input or σ_b of the bias, from and to."""
    resolution: Annotated[int, Limits(least=2)] = 100
    """Networks along each side of each of the two diagrams."""
    warmup: Size = 100
    """Steps before anything is measured."""
    steps: Size = 300
    """Steps over which the exponent is averaged."""
    lag: Size = 50
    """Steps that a gradient goes back, from the end."""
    together: Size = 32
    """Networks that are followed at the same time."""
    seed: Seed = 0
    """PRNG seed."""

    def check_together(self) -> None:
        check_range("gains", self.gains)
        check_range("strengths", self.strengths)
        check_integer("lag", self.lag, most=self.steps, remedy="A gradient goes back over steps.")


def follow(
    config: Config, gain: Array, bias_std: Array, input_std: Array, key: Key
) -> tuple[Array, Array]:
    """Return λ₁ of one network and its gradient's rate over `lag` steps, in nats per step."""
    N = config.units
    cell = elman_preactivation(N, recurrent_init=initializers.gaussian(N**-0.5), dtype=gain.dtype)
    init_key, bias_key, state_key, *vector_keys, key = jax.random.split(key, 6)
    params = cell.init(init_key, 0)
    normal = lambda key: jax.random.normal(key, (N,), gain.dtype)
    params = params.replace(W=gain * params.W, b=bias_std * normal(bias_key))

    def step(h, key):
        # (U x_t)_i is drawn as it is: independent over units and steps.
        driven = params.replace(b=params.b + input_std * normal(key))
        return cell.step(driven, h, jnp.zeros(0, gain.dtype))[0]

    def forward(carry, key):
        h, v = carry
        after, v = jax.jvp(lambda h: step(h, key), (h,), (v,))
        v, log_growth = _unit(v)
        return (after, v), (log_growth, h)

    def backward(v, at):
        h, key = at
        (v,) = jax.vjp(lambda h: step(h, key), h)[1](v)
        return _unit(v)

    keys = jax.random.split(key, config.warmup + config.steps)
    start = (normal(state_key), _unit(normal(vector_keys[0]))[0])
    settled, _ = jax.lax.scan(forward, start, keys[: config.warmup])
    _, (log_growth, hs) = jax.lax.scan(forward, settled, keys[config.warmup :])
    last = (hs[-config.lag :], keys[-config.lag :])
    _, log_decay = jax.lax.scan(backward, _unit(normal(vector_keys[1]))[0], last, reverse=True)
    return log_growth.mean(), log_decay.mean()


def _unit(v: Array) -> tuple[Array, Array]:
    norm = jnp.linalg.norm(v)
    return v / norm, jnp.log(norm)


def measure(config: Config) -> Result:
    """Return both diagrams, and theory's."""
    n = config.resolution
    gains, strengths = (jnp.linspace(*side, n) for side in (config.gains, config.strengths))
    gain, strength = (grid.ravel() for grid in jnp.meshgrid(gains, strengths))
    none = jnp.zeros_like(strength)
    networks = (  # input first, then bias
        jnp.concatenate([gain, gain]),
        jnp.concatenate([none, strength]),
        jnp.concatenate([strength, none]),
        jax.random.split(jax.random.key(config.seed), 2 * n * n),
    )
    print(f"{2 * n * n:,} networks of {config.units} units, one program.", flush=True)
    measured = _followed(config, networks)

    with jax.enable_x64(True):
        predict = jax.jit(lambda gain, strength: mean_field(gain, 0.0, strength))
        rows = [
            predict(np.asarray(gains, float), np.full(n, s)) for s in np.asarray(strengths, float)
        ]
        line = critical_gain(0.0, np.asarray(strengths, float))
    diagrams = (2, n, n)
    return {
        "gains": np.asarray(gains),
        "strengths": np.asarray(strengths),
        "units": np.array(config.units),
        "lag": np.array(config.lag),
        "exponent": measured[0].reshape(diagrams),
        "gradient": measured[1].reshape(diagrams),
        "theory": np.stack([np.asarray(row.largest_exponent) for row in rows]),
        "theory_converged": np.stack([np.asarray(row.converged) for row in rows]),
        "line": np.asarray(line.weight_std),
    }


def _followed(config: Config, networks: tuple[Array, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Follow every network, `together` at a time, by one program."""
    program = jax.jit(jax.vmap(functools.partial(follow, config)))
    count = len(networks[0])
    parts = []
    for first in progress(range(0, count, config.together), f"{config.together} networks each"):
        # The last ones are joined by others, so that no second program is made for them.
        which = np.arange(first, first + config.together) % count
        parts.append(jax.device_get(program(*(each[which] for each in networks))))
    exponent, gradient = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
    return exponent, gradient


def crossing(result: Result) -> np.ndarray:
    """Return the gain at which λ₁ changes sign, `[2, D]`.

    A row's networks stand at evenly spaced gains, so that it follows from how many have λ₁ < 0.
    """
    gains = result["gains"]
    spacing = (gains[-1] - gains[0]) / (len(gains) - 1)
    return gains[0] + spacing * ((result["exponent"] < 0).sum(-1) - 0.5)


def differences(result: Result) -> dict[str, dict[str, np.ndarray]]:
    """Return measured less theory of each drive: λ₁ and gradient `[D, G]`, and the line `[D]`."""
    theory = np.where(result["theory_converged"], result["theory"], np.nan)
    return {
        drive: {
            "exponent": result["exponent"][i] - theory,
            "gradient": result["gradient"][i] - theory,
            "line": crossing(result)[i] - result["line"],
        }
        for i, drive in enumerate(DRIVES)
    }


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(values))))


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number; tolerances are in units of 1/√N, as fluctuations are."""
    scale = 1 / np.sqrt(float(result["units"]))
    found = [
        at_least("networks", result["exponent"].size, 10_000),
        at_most("networks that are not finite", np.sum(~np.isfinite(result["exponent"])), 0),
    ]
    for drive, difference in differences(result).items():
        wide = {"input": 0.5, "bias": 0.9}[drive] * scale
        found += [
            within(
                f"{drive}: mean of λ₁ − ½ ln χ", np.nanmean(difference["exponent"]), 0, 0.25 * scale
            ),
            at_most(f"{drive}: λ₁ − ½ ln χ, root mean square", rms(difference["exponent"]), wide),
            at_most(
                f"{drive}: gradient − ½ ln χ, root mean square", rms(difference["gradient"]), wide
            ),
            within(
                f"{drive}: gain of λ₁ = 0, against χ = 1, mean",
                difference["line"].mean(),
                0,
                1.5 * scale,
            ),
        ]
    return found


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    theory = np.where(result["theory_converged"], result["theory"], np.nan)
    clear = np.abs(theory) > 0.05
    rows = []
    for drive, exponent, difference in zip(
        DRIVES, result["exponent"], differences(result).values(), strict=True
    ):
        side = (exponent > 0) == (theory > 0)
        rows.append(
            [
                drive,
                f"{np.nanmean(difference['exponent']):+.4f}",
                f"{rms(difference['exponent']):.4f}",
                f"{np.nanmax(np.abs(difference['exponent'])):.3f}",
                f"{np.mean(side[np.isfinite(theory)]):.1%}",
                f"{np.mean(side[clear]):.1%}",
                f"{rms(difference['gradient']):.4f}",
                f"{difference['line'].mean():+.3f}",
                f"{rms(difference['line']):.3f}",
            ]
        )
    headers = ["drive", "λ₁ − ½ ln χ, mean", "r.m.s.", "largest", "right side", "and > 0.05"]
    exponents = table([row[:6] for row in rows], headers)
    headers = [
        "drive",
        "gradient − ½ ln χ, r.m.s.",
        "gain of λ₁ = 0 − that of χ = 1, mean",
        "r.m.s.",
    ]
    gradients = table([[row[0], *row[6:]] for row in rows], headers)
    explained = paragraph(
        "r.m.s.: root mean square over networks. Right side: how many are on theory's side of the "
        "line between order and chaos, of all and of those where |½ ln χ| > 0.05. Gradients go "
        f"back over {int(result['lag'])} steps."
    )
    return (
        f"# Phase diagram\n\n{result['exponent'].size:,} networks of {int(result['units'])} units, "
        f"nats per step:\n\n{exponents}\n\n{gradients}\n\n{explained}"
    )


def plot(result: Result) -> dict[str, theory_figures.Figure]:
    """Return every figure, from the result alone."""
    lag = int(result["lag"])
    figure = theory_figures.phase_diagram(
        result["gains"],
        result["strengths"],
        {
            drive: {
                "λ₁, measured": exponent,
                f"gradient, {lag} steps back": gradient,
                "½ ln χ; line: χ = 1": result["theory"],
            }
            for drive, exponent, gradient in zip(
                DRIVES, result["exponent"], result["gradient"], strict=True
            )
        },
        line=result["line"],
    )
    return {"phase_diagram": figure}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
