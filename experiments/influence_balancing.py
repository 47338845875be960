"""A truncated gradient can point the wrong way.

Claim: in the network of Tallec and Ollivier the near past pushes the output one way and the far
past, by more, the other. BPTT of one step climbs away from the optimum θ* = −1/6 for as long as one
lets it, ten steps do so faster, and only a k2 beyond the balance, or full BPTT, gets there; each at
the rate that the network's influences predict.

    python -m experiments.influence_balancing [--out FOLDER]
    python -m experiments.influence_balancing plot FOLDER

Under a minute.

Reference: Tallec and Ollivier, Unbiasing truncated backpropagation through time (2017), arXiv
1705.08209.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.checks import Check, at_least, at_most
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import table
from experiments.common.settings import Limits, Positive, Settings, Size
from experiments.common.study import Study
from experiments.figures import truncation as truncation_figures
from rnn_jax.cell import Cell
from rnn_jax.cells import from_function
from rnn_jax.errors import check_integer
from rnn_jax.gradients import truncated_gradient
from rnn_jax.losses import squared_error

OPTIMUM = -1 / 6


@dataclass(frozen=True)
class Config(Settings):
    """The stream, and the descent of θ."""

    out: Path = Path("runs/influence_balancing")
    """The run folder."""
    k2s: tuple[Size, ...] = (1, 10, 60)
    """Steps that a truncated gradient goes back, from each step's loss; full BPTT comes last."""
    T: Size = 300
    """Steps of one window of the stream."""
    descents: Annotated[int, Limits(least=2)] = 80
    """Steps of gradient descent, a window each."""
    rate: Positive = 0.003
    """Learning rate of that descent."""

    def check_together(self) -> None:
        longest = max(self.k2s)
        check_integer("k2s", longest, most=self.T - 1, remedy="Full BPTT, T steps, comes last.")


def influence_balancing(units: int = 23, positive: int = 10) -> tuple[Cell, np.ndarray]:
    r"""Return the network of Tallec and Ollivier, and its influences.

    .. math:: s_t = A s_{t-1} + \theta v, \quad A = \tfrac12 I + \tfrac12 \text{superdiagonal},
        \quad v = (1, .., 1, -1, .., -1), \qquad E_t = \tfrac12 (s_{t,1} - 1)^2

    θ moves s_1 by (A^l v)_1 after l steps: up at first, and down, by more, once the minus signs
    have come along the chain. At rest s_1 = −6 θ.

    Returns:
      The cell, whose y is s_1; (A^l v)_1 for l = 0 .. 999.
    """
    A = 0.5 * np.eye(units) + 0.5 * np.eye(units, k=1)
    v = np.where(np.arange(units) < positive, 1.0, -1.0)
    influences, moved = [], v
    for _ in range(1000):
        influences.append(moved[0])
        moved = A @ moved

    def step(p, s, x):
        s = jnp.asarray(A, s.dtype) @ s + p["theta"] * jnp.asarray(v, s.dtype)
        return s, s[:1]

    return from_function(step, jnp.zeros(units)), np.array(influences)


def measure(config: Config) -> Result:
    """Return descents of θ along a stream that carries its state, and how they should go."""
    T = config.T
    cell, influences = influence_balancing()
    xs, targets = jnp.zeros((T, 0)), jnp.ones((T, 1))
    summed = np.cumsum(influences)
    paths, factors = [], []
    for k2 in progress((*config.k2s, T), "descents, by k2"):
        k1 = T if k2 == T else 1

        def descend(carry, _, k1=k1, k2=k2):
            params, state = carry
            _, gradient, state = truncated_gradient(
                cell, params, xs, targets, squared_error, state, k1=k1, k2=k2, strategy="scan"
            )
            params = jax.tree.map(lambda p, g: p - config.rate * g / T, params, gradient)
            return (params, state), params["theta"]

        start = {"theta": jnp.zeros(())}
        run = jax.jit(
            lambda start, descend=descend: jax.lax.scan(
                descend, (start, cell.initial_state(start)), length=config.descents
            )
        )
        paths.append(np.concatenate([np.zeros(1), run(start)[1]]))
        # At rest, each step's gradient is (s_1 − 1) Σ_{l < min(t + 1, k2)} (A^l v)_1.
        reach = np.minimum(np.arange(1, T + 1), k2)
        factors.append(1 + 6 * config.rate * summed[reach - 1].mean())
    return {
        "k2s": np.array([*config.k2s, T]),
        "theta": np.array(paths),
        "factor": np.array(factors),
        "influence": summed[:100],
    }


def distances(result: Result) -> np.ndarray:
    """Return |θ − θ*| `[k2s, descents + 1]`."""
    return np.abs(result["theta"] - OPTIMUM)


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    distance = distances(result)
    half = distance.shape[1] // 2
    grown = np.log(distance[:, -1] / distance[:, half]) / (distance.shape[1] - 1 - half)
    predicted = np.log(result["factor"])
    return [
        at_least(
            "one-step truncation: distance from θ* at the end over the start",
            distance[0, -1] / distance[0, 0],
            2,
        ),
        at_most("full BPTT: distance from θ* at the end", distance[-1, -1], 1e-2),
        at_most(
            "relative error of the predicted rates, largest",
            np.max(np.abs(grown / predicted - 1)),
            0.15,
        ),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    parts = (result[name] for name in ("k2s", "theta", "factor"))
    rows = [
        [k2, f"{path[-1]:.4g}", f"{factor:.4f}"] for k2, path, factor in zip(*parts, strict=True)
    ]
    steps = result["theta"].shape[1] - 1
    headers = ["k2", f"θ after {steps} descents", "θ − θ* grows by, theory"]
    return (
        f"# Influence balancing\n\nθ* = −1/6; the last k2 is full BPTT.\n\n{table(rows, headers)}"
    )


def plot(result: Result) -> dict[str, truncation_figures.Figure]:
    """Return every figure, from the result alone."""
    drawn = truncation_figures.influence_balancing(
        result["k2s"], distances(result), result["factor"], result["influence"]
    )
    return {"influence_balancing": drawn}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
