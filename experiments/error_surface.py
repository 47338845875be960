"""Pascanu's cliff: one unit, fifty steps, and descent that falls off a wall.

Claim: the error of the smallest recurrent network there is, x_t = w σ(x_{t−1}) + b with x_0 = 0.5
and E = (σ(x_50) − 0.7)², has a wall where x_0 stands on the border between two attractors. There,
gradients are thousands of times larger than beside it, and gradient descent that touches it is
thrown out of the picture; clipped to a norm, it stays beside the wall and finds the minimum
(Pascanu, Mikolov and Bengio 2013, figure 6).

    python -m experiments.error_surface [--out FOLDER]
    python -m experiments.error_surface plot FOLDER

Under a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.run_folder import Result, RunFolder, command_line
from rnn_jax import plotting_theory
from rnn_jax.cells import AffineParams, elman_preactivation
from rnn_jax.types import Array


@dataclass(frozen=True)
class Config:
    """The landscape, and the descents on it, all in float64."""

    out: Path = Path("runs/error_surface")
    """The run folder."""
    T: int = 50
    """Steps of the network."""
    initial_state: float = 0.5
    """x_0."""
    target: float = 0.7
    """Of σ(x_T)."""
    w: tuple[float, float] = (3.0, 7.0)
    """From, to."""
    b: tuple[float, float] = (-3.4, -1.2)
    """From, to."""
    resolution: int = 240
    """Points of the landscape along each side."""
    start: tuple[float, float] = (6.5, -2.4)
    """(w, b) of the two descents that are drawn."""
    learning_rate: float = 2.0
    """Of gradient descent, the same with clipping and without."""
    clip_norm: float = 0.1
    """Norm that the gradient is clipped to."""
    descent_steps: int = 600
    """Of gradient descent."""
    starts: int = 20
    """Descents from a grid of this many starts along each side, over the whole landscape."""


def energy(config: Config, at: Array) -> Array:
    """E at `at` = (w, b)."""
    w, b = at
    cell = elman_preactivation(1, "sigmoid", dtype=at.dtype)
    params = AffineParams(W=w.reshape(1, 1), U=jnp.zeros((1, 0), at.dtype), b=b.reshape(1))
    start = jnp.full(1, config.initial_state, at.dtype)
    _, ys = rnn_jax.unroll(cell, params, jnp.zeros((config.T, 0), at.dtype), start)
    return jnp.square(ys[-1, 0] - config.target)


def descend(config: Config, start: Array, clip_norm: float) -> tuple[Array, Array, Array]:
    """Gradient descent: (w, b) before each step `[n, 2]`, E `[n]` and gradient norm `[n]` there."""

    def step(at, _):
        E, gradient = jax.value_and_grad(lambda at: energy(config, at))(at)
        norm = jnp.linalg.norm(gradient)
        clipped = gradient * jnp.minimum(1, clip_norm / jnp.maximum(norm, clip_norm * 1e-30))
        return at - config.learning_rate * clipped, (at, E, norm)

    return jax.lax.scan(step, start, length=config.descent_steps)[1]


def bistable_biases(w: Array) -> tuple[Array, Array]:
    r"""The open interval of b in which x ← w σ(x) + b has two attractors; w > 4.

    Its ends are the folds, where w σ'(x) = 1 at a fixed point: σ(x) = ½ (1 ± √(1 − 4/w)).
    """
    s = 0.5 * (1 + jnp.stack([jnp.ones_like(w), -jnp.ones_like(w)]) * jnp.sqrt(1 - 4 / w))
    low, high = jnp.log(s / (1 - s)) - w * s
    return low, high


def main(config: Config) -> Result:
    """Measure, and leave a run folder behind. Returns what numbers.npz holds."""
    folder = RunFolder(config.out)
    folder.begin(config, inputs={})
    with jax.enable_x64(True):
        result = jax.device_get(_measure(config))
    summary = summarize(result)
    folder.finish(result, summary, plot(result))
    print(f"{summary}\nFigures and numbers are in {folder.path}/")
    return result


def _measure(config: Config) -> dict[str, Array]:
    w, b = (jnp.linspace(*side, config.resolution) for side in (config.w, config.b))
    at = jnp.stack(jnp.meshgrid(w, b), -1).reshape(-1, 2)
    value_and_grad = jax.jit(jax.vmap(jax.value_and_grad(lambda at: energy(config, at))))
    E, gradient = value_and_grad(at)

    inside = [np.linspace(*side, config.starts + 2)[1:-1] for side in (config.w, config.b)]
    starts = jnp.stack(jnp.meshgrid(*map(jnp.asarray, inside)), -1).reshape(-1, 2)
    starts = jnp.concatenate([jnp.array([config.start]), starts])
    folds = jnp.linspace(max(4.0, config.w[0]), config.w[1], config.resolution)
    result = {
        "w": w,
        "b": b,
        "E": E.reshape(len(b), len(w)),
        "gradient_norm": jnp.linalg.norm(gradient, axis=-1).reshape(len(b), len(w)),
        "folds/w": folds,
        "folds/b": jnp.stack(bistable_biases(folds)),
        "clip_norm": jnp.array(config.clip_norm),
    }
    for arm, clip_norm in (("clipped", config.clip_norm), ("not clipped", jnp.inf)):
        descents = jax.jit(jax.vmap(lambda start, c=clip_norm: descend(config, start, c)))
        path, along, norm = descents(starts)
        result |= {
            f"{arm}/path": path[0],
            f"{arm}/E": along[0],
            f"{arm}/norm": norm[0],
            f"{arm}/final_E": along[1:, -1],
            f"{arm}/final": path[1:, -1],
        }
    return result


def summarize(result: Result) -> str:
    """What was found, in Markdown."""
    from tabulate import tabulate

    rows = []
    for arm in ("clipped", "not clipped"):
        final_E = result[f"{arm}/final_E"]
        norm, path = result[f"{arm}/norm"], result[f"{arm}/path"]
        longest = np.linalg.norm(np.diff(path, axis=0), axis=-1).max()
        rows.append(
            [
                arm,
                f"{result[f'{arm}/E'][-1]:.2g}",
                f"({path[-1, 0]:.3g}, {path[-1, 1]:.3g})",
                f"{norm.max():.3g}",
                f"{longest:.3g}",
                f"{np.mean(final_E < 1e-3):.1%} of {len(final_E)}",
            ]
        )
    table = tabulate(
        rows,
        headers=[
            "descent",
            "E at the end",
            "(w, b) at the end",
            "largest gradient norm met",
            "longest step",
            "starts that reach E < 0.001",
        ],
        tablefmt="github",
        disable_numparse=True,
    )
    norms = result["gradient_norm"]
    return (
        f"# The error surface\n\nGradient norm over the landscape: median {np.median(norms):.2g}, "
        f"largest {norms.max():.2g}. Clipping at {result['clip_norm']:g}.\n\n{table}\n"
    )


def plot(result: Result) -> dict[str, plotting_theory.Figure]:
    """Every figure, from the numbers alone."""
    arms = ("clipped", "not clipped")
    figure = plotting_theory.error_surface(
        result["w"],
        result["b"],
        result["E"],
        result["gradient_norm"],
        folds=(result["folds/w"], result["folds/b"]),
        paths={arm: (result[f"{arm}/path"], result[f"{arm}/E"]) for arm in arms},
    )
    return {"surface": figure}


def _replot(folder: Path) -> None:
    run = RunFolder(folder)
    run.write_figures(plot(run.read()))
    print(f"Figures are in {run.path / 'figures'}/")


if __name__ == "__main__":
    command_line(Config, main, _replot, __doc__)
