"""Learn in which order two symbols came: what clipping and Ω are worth, by length.

Claim: a network of 50 units, trained by stochastic gradient descent, cannot learn a dependency over
some tens of steps, since its gradients explode or vanish. With gradients clipped to a norm it
learns longer ones, and with Ω besides, which asks gradients to keep their norm on the way back,
those of more than 100 steps. A network that has learned at lengths from 50 to 200 answers at
lengths far beyond. After Pascanu, Mikolov and Bengio (2013, arXiv 1211.5063), section 4.

    python -m experiments.temporal_order [--setting paper] [--seeds 4] [--out FOLDER]
    python -m experiments.temporal_order plot FOLDER

Not reached: with the reduced sizes, networks that learn lengths of 10 to 30 answer half of the
sequences of 300 steps; clipping alone solves hardly more than plain descent does, and the sigmoid
network, with Ω, is not through at T = 30 after 6,000 updates. Ω as a mean over steps, as the
authors' code has it, served less than the sum of their equation. With as many as 100,000 updates
(`--lengths 50 100 --steps 100000 --seeds 5`, basic tanh), clipping and Ω solve T = 50 in five seeds
of five and T = 100 in four, after 7,000 to 79,500 updates; these four, trained on one length, err
in 6,800 to 7,800 of 10,000 sequences of 1,000 steps, as a guess does.

About nine minutes on two cores.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.common import arms, report
from experiments.common.arms import Arm, sequences_to_solve
from experiments.common.checks import Check, judged_if, published
from experiments.common.numbers import Result
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Positive, Reproduction, Size, by_setting
from experiments.common.study import Study
from experiments.common.task_ensemble import Plan, held_out_key
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax.cell import Cell
from rnn_jax.cells import elman_preactivation, initializers, readout
from rnn_jax.gradients import omega
from rnn_jax.tasks import Task, random_lengths, temporal_order
from rnn_jax.training import evaluate
from rnn_jax.types import Array, Params

SOLVED = 0.99
"""Part of 10,000 held-out sequences that has to be answered rightly, as in the paper."""
METHODS = ("SGD", "clipped", "clipped, Ω")
STARTS: Any = ("basic tanh", "smart tanh", "sigmoid")
SOURCE = "Pascanu, Mikolov and Bengio 2013"
MIN_STEPS = 6000
"""Updates without which the claim is not judged."""
GENERALIST = "one network, several lengths"


@dataclass(frozen=True)
class Config(Reproduction):
    """The task, the network and its training; the paper's, but for what is left out."""

    out: Path = Path("runs/temporal_order")
    """The run folder."""
    seeds: Size = by_setting(reduced=4, paper=50)
    """Networks of each arm, all in one program."""
    starts: tuple[Literal["basic tanh", "smart tanh", "sigmoid"], ...] = STARTS
    """Ways to draw the first parameters; the first one is that of `mixed` too."""
    lengths: tuple[Size, ...] = by_setting(reduced=(10, 30), paper=(50, 100, 150, 200, 250))
    """Values of T of networks that learn one length."""
    mixed: tuple[Size, ...] = by_setting(
        reduced=(10, 20, 30), paper=(50, 75, 100, 125, 150, 175, 200)
    )
    """Values of T of networks that learn several, a batch at a time."""
    far: tuple[Size, ...] = by_setting(reduced=(50, 100, 300), paper=(500, 1000, 2000, 5000))
    """Values of T at which those are tested besides."""
    steps: Size = by_setting(reduced=6000, paper=5_000_000)
    """Most updates of a network."""
    evaluate_every: Size = 500
    """Updates between evaluations on 10,000 held-out sequences."""
    hidden_size: Size = 50
    """H, units of each network."""
    batch_size: Size = 20
    """Sequences in a batch."""
    learning_rate: Positive = 0.01
    """Of stochastic gradient descent."""
    clip_norm: Positive = 1.0
    """Global norm that gradients are clipped to."""
    alpha: Positive = 4.0
    """Weight of Ω."""


def cell_of(start: str, hidden_size: int, outputs: int) -> Cell:
    """Return x_t = b + W σ(x_{t-1}) + U u_t and its readout, drawn as in the paper."""
    activation = "sigmoid" if start == "sigmoid" else "tanh"
    others = initializers.gaussian(0.1 if start == "basic tanh" else 0.01)
    W = initializers.sparse_spectral_radius(0.95, 15) if start == "smart tanh" else others
    cell = elman_preactivation(hidden_size, activation, recurrent_init=W, input_init=others)
    return readout(cell, outputs, output_init=others)


def arms_of(config: Config) -> dict[str, dict[str, dict[str, Arm]]]:
    """Return the ways to learn: by start, method and length."""
    of_length = lambda T: lambda batch_size: temporal_order(T=T, batch_size=batch_size)
    several = lambda batch_size: random_lengths(temporal_order(batch_size=batch_size), config.mixed)
    ways: dict[str, Any] = {
        start: {
            method: {f"T = {T}": _arm(config, start, method, of_length(T)) for T in config.lengths}
            for method in METHODS
        }
        for start in config.starts
    }
    mixed = f"T = {config.mixed[0]} to {config.mixed[-1]}"
    one_of_all = _arm(config, config.starts[0], METHODS[-1], several)
    # It goes on learning once it answers: what it does far beyond gets better for long.
    one_of_all = one_of_all._replace(plan=one_of_all.plan._replace(solved=None))
    return {**ways, GENERALIST: {METHODS[-1]: {mixed: one_of_all}}}


def _arm(config: Config, start: str, method: str, task_of: Callable[[int], Task]) -> Arm:
    """Return one way to learn a task, which is had in batches of any size."""
    task = task_of(config.batch_size)
    cell = cell_of(start, config.hidden_size, task.output_size)

    def penalty(params: Params, xs: Array, targets: Array) -> Array:
        loss = lambda ys: task.mean_loss(ys, xs, targets)
        return config.alpha * omega(cell, params, xs, loss)

    plan = Plan(
        cell=cell,
        task=task,
        held_out=task_of(1000),
        steps=config.steps,
        evaluate_every=min(config.steps, config.evaluate_every),
        held_out_batches=10,
        solved=SOLVED,
        optimizer="sgd",
        penalty=penalty if method == METHODS[-1] else None,
    )
    return Arm(plan, config.learning_rate, np.inf if method == METHODS[0] else config.clip_norm)


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each arm learned, and what networks of several lengths answer far beyond."""
    ways = arms_of(config)
    seeds = config.seed + np.arange(config.seeds)
    learned, networks = arms.measure(ways, seeds, RunFolder(config.out).checkpoints)
    (mixed,) = ways[GENERALIST][METHODS[-1]]
    trained = networks[f"{GENERALIST}, {METHODS[-1]}, {mixed}, best"]
    cell = ways[GENERALIST][METHODS[-1]][mixed].plan.cell
    lengths = (*config.mixed, *config.far)
    right = [_right_at(cell, trained, T) for T in lengths]
    return {
        "arms": learned,
        "far": {"T": np.array(lengths), "right": np.stack(right)},
        "steps": np.array(config.steps),
    }, networks


def _right_at(cell: Cell, networks: Params, T: int) -> np.ndarray:
    """Return the part of 10,000 sequences of T steps that each network answers, `[seeds]`."""
    print(f"10,000 sequences of {T} steps", flush=True)
    task = temporal_order(T=T, batch_size=1000)
    of_one = lambda params: evaluate(cell, params, task, key=held_out_key(), batches=10).solved
    # One after another: the states of 1,000 sequences fill a cache.
    return np.asarray(jax.lax.map(of_one, networks))


def checks(result: Result) -> list[Check]:
    """Return the paper's results, number by number."""
    found = []
    ways = {name: lines for name, lines in result["arms"].items() if name != GENERALIST}
    solved = lambda of: np.isfinite(sequences_to_solve(of, SOLVED)).mean()
    rates = np.array(
        [
            [solved(lines[method][T]) for method in METHODS]
            for lines in ways.values()
            for T in lines[METHODS[0]]
        ]
    )
    for n, (fewer, more) in enumerate(itertools.pairwise(METHODS)):
        claim = f"seeds that solve it, {more} less {fewer}, mean over starts and lengths"
        gained = (rates[:, n + 1] - rates[:, n]).mean()
        found.append(published(claim, gained, "≥ 0", SOURCE, low=0))
    for T in next(iter(ways.values()))[METHODS[-1]]:
        values = [solved(lines[METHODS[-1]][T]) for lines in ways.values()]
        claim = f"{T}: seeds that solve it, {METHODS[-1]}, by start"
        found.append(published(claim, values, "1, up to T = 200", SOURCE, low=0.8))
    far = result["far"]
    claim = f"T = {far['T'][-1]}: right, best of the networks that learned several lengths"
    found.append(
        published(claim, far["right"][-1].max(), "> 0.99, up to T = 5,000", SOURCE, low=SOLVED)
    )
    needs = f"{MIN_STEPS:,} updates"
    return judged_if(int(result["steps"]) >= MIN_STEPS, needs, found)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    far = result["far"]
    rows = [
        [f"{T:,}", report.spread(right, ".4f"), f"{right.max():.4f}"]
        for T, right in zip(far["T"], far["right"], strict=True)
    ]
    return (
        f"# Temporal order\n\nSolved: {SOLVED:.0%} of 10,000 fresh sequences.\n\n"
        f"{tables.learned(result['arms'], SOLVED)}\n\n"
        f"## Networks that learned several lengths\n\nRight, of 10,000 sequences:\n\n"
        f"{report.table(rows, ['T', 'median (10 %–90 %)', 'best'])}\n\n"
        f"## Gradients\n\n{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    every = result["arms"]
    ways = {name: lines for name, lines in every.items() if name != GENERALIST}
    unit = "held-out sequences answered"
    return {
        "success": figures.success(ways, SOLVED),
        "learning": figures.learning(every, metric="solved", unit=unit, log=False),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
