"""Pascanu's cliff: one unit, fifty steps, and descent that falls off a wall.

Claim: the error of the smallest recurrent network there is, x_t = w σ(x_{t−1}) + b with x_0 = 0.5
and E = (σ(x_50) − 0.7)², has a wall where x_0 stands on the border between two attractors. There,
gradients are thousands of times larger than beside it, and gradient descent that touches it can be
thrown out of the picture; clipped to a norm, it stays beside the wall and finds the minimum
(Pascanu, Mikolov and Bengio 2013, figure 6).

Both are known in closed form. At w = 5 there are two attractors iff b is in (−2.65561, −2.34439),
between two folds. x_0 stands on their border where it is the fixed point that repels,
b = x_0 − w σ(x_0), m = w σ'(x_0) > 1, and there ∂x_T/∂b = (m^T − 1) / (m − 1) and
∂x_T/∂w = σ(x_0) ∂x_T/∂b.

    python -m experiments.error_surface [--out FOLDER]
    python -m experiments.error_surface plot FOLDER

Under a minute.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.common.checks import Check, at_least, at_most, within
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import paragraph, table
from experiments.common.settings import (
    Finite,
    Limits,
    OpenUnit,
    Positive,
    Settings,
    Size,
    check_range,
)
from experiments.common.study import Study
from experiments.figures import theory as theory_figures
from rnn_jax.cells import AffineParams, elman_preactivation
from rnn_jax.errors import check_number
from rnn_jax.types import Array

ARMS = ("clipped", "not clipped")


@dataclass(frozen=True)
class Config(Settings):
    """The landscape, and the descents on it, all in float64."""

    out: Path = Path("runs/error_surface")
    """The run folder."""
    T: Size = 50
    """Steps of the network."""
    initial_state: Annotated[float, Limits(least=-20, most=20)] = 0.5
    """x_0."""
    target: OpenUnit = 0.7
    """Target of σ(x_T)."""
    w: tuple[Finite, Finite] = (3.0, 7.0)
    """Range of w, from and to."""
    b: tuple[Finite, Finite] = (-3.4, -1.2)
    """Range of b, from and to."""
    resolution: Annotated[int, Limits(least=2)] = 240
    """Points of the landscape along each side."""
    finer: Size = 8
    """Points in b for each of these, of which the largest gradient norm is shown."""
    cut: Annotated[float, Limits(above=4)] = 5.0
    """w of the cut through the landscape, and of the folds that are found by iteration."""
    start: tuple[Finite, Finite] = (6.5, -2.4)
    """(w, b) of the two descents that are drawn."""
    learning_rate: Positive = 2.0
    """Learning rate of gradient descent, the same with clipping and without."""
    clip_norm: Positive = 0.1
    """Norm that the gradient is clipped to."""
    descent_steps: Annotated[int, Limits(least=2)] = 600
    """Number of steps of gradient descent."""
    starts: Size = 20
    """Descents from a grid of this many starts along each side, over the whole landscape."""

    def check_together(self) -> None:
        check_range("w", self.w)
        check_range("b", self.b)
        s = 1 / (1 + math.exp(-self.initial_state))
        repels = 1 / (s * (1 - s))
        remedy = "Only above that, 1 / σ'(x_0), is there a wall; choose another initial_state."
        check_number("w", self.w[1], above=repels, remedy=remedy)
        check_number("cut", self.cut, above=repels, remedy=remedy)


def energy(config: Config, at: Array) -> Array:
    """Return E at `at` = (w, b)."""
    w, b = at
    cell = elman_preactivation(1, "sigmoid", dtype=at.dtype)
    params = AffineParams(W=w.reshape(1, 1), U=jnp.zeros((1, 0), at.dtype), b=b.reshape(1))
    start = jnp.full(1, config.initial_state, at.dtype)
    _, ys = rnn_jax.unroll(cell, params, jnp.zeros((config.T, 0), at.dtype), start)
    return jnp.square(ys[-1, 0] - config.target)


def descend(config: Config, start: Array, clip_norm: float) -> tuple[Array, Array, Array]:
    """Return (w, b) before each step of descent `[n, 2]`, and E and gradient norm there, `[n]`."""

    def step(at, _):
        E, gradient = jax.value_and_grad(lambda at: energy(config, at))(at)
        norm = jnp.linalg.norm(gradient)
        scale = jnp.where(norm > clip_norm, clip_norm / norm, 1)
        return at - config.learning_rate * scale * gradient, (at, E, norm)

    return jax.lax.scan(step, start, length=config.descent_steps)[1]


def bistable_biases(w: Array) -> tuple[Array, Array]:
    r"""Return the open interval of b in which x ← w σ(x) + b has two attractors; w > 4.

    Its ends are the folds, where w σ'(x) = 1 at a fixed point: σ(x) = ½ (1 ± √(1 − 4/w)).
    """
    s = 0.5 * (1 + jnp.stack([jnp.ones_like(w), -jnp.ones_like(w)]) * jnp.sqrt(1 - 4 / w))
    low, high = jnp.log(s / (1 - s)) - w * s
    return low, high


def iterated_folds(w: Array, settle: int = 20_000) -> Array:
    """Return the same two ends by iteration alone, to 1e-6.

    The map rises, so that trajectories from far below and far above end at the lowest and the
    highest fixed point: there are two attractors iff these differ. Bisected from their middle.
    """

    def two_attractors(b):
        far = jnp.stack([b, b + w])  # what a state of ∓∞ is followed by
        x = jax.lax.fori_loop(0, settle, lambda _, x: w * jax.nn.sigmoid(x) + b, far)
        return x[1] - x[0] > 1e-3

    def halve(_, bracket):
        inside, outside = bracket
        middle = 0.5 * (inside + outside)
        two = two_attractors(middle)
        return jnp.where(two, middle, inside), jnp.where(two, outside, middle)

    # At b = −w/2 the map is symmetric about x = 0.
    start = (jnp.full(2, -w / 2), -w / 2 + jnp.array([-1.0, 1.0]))
    return jax.lax.fori_loop(0, 40, halve, start)[0]


def wall(config: Config, w: Array) -> tuple[Array, Array]:
    """Return b at which x_0 repels, and ‖∂E/∂(w, b)‖ there, for w > 1 / σ'(x_0)."""
    x = config.initial_state
    s = jax.nn.sigmoid(x)
    m = w * s * (1 - s)
    by_b = 2 * (s - config.target) * s * (1 - s) * (m**config.T - 1) / (m - 1)
    return x - w * s, jnp.abs(by_b) * jnp.sqrt(1 + s**2)


def measure(config: Config) -> Result:
    """Return the landscape, a cut through it, and descents on it."""
    result: dict[str, Any] = {}
    with jax.enable_x64(True):
        for part in progress((_landscape, _cut, _descents), "landscape, cut, descents"):
            result |= jax.device_get(part(config))
    return result


def _energies(config: Config, at: Array) -> tuple[Array, Array]:
    """Return E and the norm of its gradient, at `at [..., 2]`."""
    value_and_grad = jax.vmap(jax.value_and_grad(lambda at: energy(config, at)))
    E, gradient = value_and_grad(at.reshape(-1, 2))
    return E.reshape(at.shape[:-1]), jnp.linalg.norm(gradient, axis=-1).reshape(at.shape[:-1])


def _landscape(config: Config) -> Result:
    n = config.resolution
    w, b = jnp.linspace(*config.w, n), jnp.linspace(*config.b, n)
    inside = (jnp.arange(config.finer) - config.finer // 2) / config.finer * (b[1] - b[0])

    def row(b):
        return _energies(config, jnp.stack(jnp.meshgrid(w, b + inside), -1))

    E, norm = jax.jit(lambda b: jax.lax.map(row, b))(b)
    folds = jnp.linspace(max(4.0, config.w[0]), config.w[1], n)
    s = jax.nn.sigmoid(config.initial_state)
    repelled = jnp.linspace(1 / (s * (1 - s)), config.w[1], n)
    return {
        "w": w,
        "b": b,
        "E": E[:, config.finer // 2],
        "gradient_norm": norm.max(1),
        "folds": {"w": folds, "b": jnp.stack(bistable_biases(folds))},
        "wall": {"w": repelled, "b": wall(config, repelled)[0]},
    }


def _cut(config: Config) -> Result:
    """Return E and gradient along b at one w, in fine steps, and their closed forms."""
    w = jnp.array(config.cut)
    at_wall, wall_norm = wall(config, w)
    b = jnp.sort(jnp.append(jnp.linspace(*config.b, 4000), at_wall))
    E, norm = jax.jit(lambda at: _energies(config, at))(jnp.stack([jnp.full_like(b, w), b], -1))
    cut = {
        "w": w,
        "b": b,
        "E": E,
        "gradient_norm": norm,
        "folds": jnp.stack(bistable_biases(w)),
        "iterated_folds": jax.jit(iterated_folds)(w),
        "wall": at_wall,
        "wall_law": wall_norm,
    }
    return {"cut": cut}


def _descents(config: Config) -> Result:
    inside = [jnp.linspace(*side, config.starts + 2)[1:-1] for side in (config.w, config.b)]
    starts = jnp.stack(jnp.meshgrid(*inside), -1).reshape(-1, 2)
    starts = jnp.concatenate([jnp.array([config.start]), starts])
    descents = jax.jit(jax.vmap(lambda start, clip: descend(config, start, clip), (0, None)))
    result: dict[str, Any] = {"clip_norm": jnp.array(config.clip_norm)}
    for arm, clip_norm in zip(ARMS, (config.clip_norm, jnp.inf), strict=True):
        path, E, norm = descents(starts, clip_norm)
        result[arm] = {"path": path[0], "E": E[0], "norm": norm[0], "final_E": E[1:, -1]}
    return result


def outside(result: Result, arm: str) -> bool:
    """Return whether the drawn descent ends out of the picture."""
    w, b = result[arm]["path"][-1]
    inside = lambda x, side: side[0] <= x <= side[-1]
    return not (inside(w, result["w"]) and inside(b, result["b"]))


def solved(result: Result, arm: str) -> float:
    """Return the fraction of all starts that reach E < 0.001."""
    return float(np.mean(result[arm]["final_E"] < 1e-3))


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    cut, (clipped, free) = result["cut"], ARMS
    w = float(cut["w"])
    peak = cut["gradient_norm"][cut["b"] == cut["wall"]][0]
    return [
        *(
            within(f"{side} border of two attractors at w = {w:g}, by iteration", found, law, 5e-6)
            for side, found, law in zip(
                ("lower", "upper"), cut["iterated_folds"], cut["folds"], strict=True
            )
        ),
        at_most(
            f"relative error of ‖∂E/∂(w, b)‖ on the wall, at w = {w:g}",
            abs(peak / cut["wall_law"] - 1),
            1e-8,
        ),
        at_least(
            f"gradient norm on the wall at w = {w:g}, in medians along the cut",
            peak / np.median(cut["gradient_norm"]),
            1e3,
        ),
        at_most("E at the end of the clipped descent", result[clipped]["E"][-1], 1e-6),
        at_least("E at the end of the other", result[free]["E"][-1], 1e-2),
        within("that one ends out of the picture", outside(result, free), 1, 0),
        within(
            "starts from which clipped descent reaches E < 0.001", solved(result, clipped), 1, 0
        ),
        at_most("starts from which the other does", solved(result, free), 0.99),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    rows = []
    for arm in ARMS:
        norm, path = result[arm]["norm"], result[arm]["path"]
        longest = np.linalg.norm(np.diff(path, axis=0), axis=-1).max()
        rows.append(
            [
                arm,
                f"{result[arm]['E'][-1]:.2g}",
                f"({path[-1, 0]:.3g}, {path[-1, 1]:.3g})",
                f"{norm.max():.3g}",
                f"{longest:.3g}",
                f"{solved(result, arm):.1%} of {len(result[arm]['final_E'])}",
            ]
        )
    headers = ["descent", "E at the end", "there (w, b)", "largest gradient", "longest step"]
    descents = table(rows, [*headers, "reach E < 0.001"])
    norms = result["gradient_norm"]
    landscape = paragraph(
        f"Gradient norm over the landscape: median {np.median(norms):.2g}, largest found "
        f"{norms.max():.2g}. Clipping at {result['clip_norm']:g}. In the table: the descents that "
        "are drawn, and how many of those from all over the landscape reach E < 0.001."
    )
    return f"# The error surface\n\n{landscape}\n\n{descents}"


def plot(result: Result) -> dict[str, theory_figures.Figure]:
    """Return every figure, from the result alone."""
    figure = theory_figures.error_surface(
        result["w"],
        result["b"],
        result["E"],
        result["gradient_norm"],
        folds=(result["folds"]["w"], result["folds"]["b"]),
        wall=(result["wall"]["w"], result["wall"]["b"]),
        cut=result["cut"],
        paths={arm: (result[arm]["path"], result[arm]["E"]) for arm in ARMS},
    )
    return {"surface": figure}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
