"""Clip gradients: which thresholds serve, how far a network walks, and what it does without.

Claim: a task that a simple recurrent network learns only now and then by gradient descent, it
learns from every start once gradients are clipped, at any threshold from half the usual norm to ten
times that. Without clipping a few huge steps throw the network out of the region where it was
learning, to where it learns no more. Much smaller thresholds are slow. By
value, in place of the norm, the same holds. After Pascanu, Mikolov and Bengio (2013, arXiv
1211.5063), section 3.2, and Mikolov (2012), section 3.2.2.

    python -m experiments.clipping [--setting paper] [--seeds 8] [--out FOLDER]
    python -m experiments.clipping plot FOLDER

About two minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.common.arms import means_between
from experiments.common.checks import Check, at_most, judged_if, published
from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Positive, Reproduction, Size, by_setting
from experiments.common.study import Study
from experiments.common.task_ensemble import Members, Plan, train
from experiments.figures import clipping as figures
from rnn_jax.cells import elman, readout
from rnn_jax.tasks import temporal_order
from rnn_jax.training.clipping import global_norm
from rnn_jax.types import Array, Params

SOLVED = 0.99
WAYS = ("by norm", "by value")
QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
MIN_STEPS, MIN_SEEDS = 1500, 8
"""Updates and seeds without which the claim is not judged."""
USUAL = (0.5, 10.0)
"""Of the average norm: thresholds between these serve, as the paper has it."""
ROUNDING = 1 + 1e-3
"""Lengths of steps are those of differences of parameters, which are rounded."""
PASCANU, MIKOLOV = "Pascanu, Mikolov and Bengio 2013", "Mikolov 2012"


@dataclass(frozen=True)
class Config(Reproduction):
    """The task, the thresholds and the training."""

    out: Path = Path("runs/clipping")
    """The run folder."""
    seeds: Size = by_setting(reduced=8, paper=20)
    """Networks of each threshold, all in one program."""
    T: Size = by_setting(reduced=20, paper=50)
    """Steps of the temporal order problem."""
    norms: tuple[Positive, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    """Thresholds of the global norm."""
    values: tuple[Positive, ...] = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    """Thresholds of each number of the gradient."""
    steps: Size = by_setting(reduced=1500, paper=50_000)
    """Updates of each network."""
    hidden_size: Size = 50
    """H, units of each network."""
    batch_size: Size = 20
    """Sequences in a batch."""
    learning_rate: Positive = 0.1
    """Of stochastic gradient descent."""


def step_length(before: Any, after: Any) -> dict[str, Array]:
    """Return how far a step has gone, ‖θ' − θ‖."""
    difference = jax.tree.map(lambda a, b: b - a, before.params, after.params)
    return {"step_length": global_norm(difference).value}


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each way of clipping does, `[thresholds + 1, seeds]`: the last one does not."""
    task = temporal_order(T=config.T, batch_size=config.batch_size)
    every = min(100, config.steps)
    plan = Plan(
        cell=readout(elman(config.hidden_size), task.output_size),
        task=task,
        held_out=temporal_order(T=config.T, batch_size=1000),
        steps=config.steps,
        evaluate_every=every,
        held_out_batches=1,
        solved=None,
        optimizer="sgd",
        measured=step_length,
    )
    result: dict[str, Any] = {
        "learning_rate": np.array(config.learning_rate),
        "steps": np.array(config.steps),
        "parameters": np.array(0),
    }
    networks = {}
    for way, thresholds in zip(WAYS, (config.norms, config.values), strict=True):
        levels = np.array([*thresholds, np.inf])
        members = Members(
            seed=np.tile(config.seed + np.arange(config.seeds), len(levels)),
            learning_rate=np.full(len(levels) * config.seeds, config.learning_rate),
            clip_norm=np.full(len(levels) * config.seeds, np.inf),
        )
        each = np.repeat(levels, config.seeds)
        name = "clip_norm" if way == WAYS[0] else "clip_value"
        folder = RunFolder(config.out).checkpoints / name
        trained = train(plan, members._replace(**{name: each}), folder, way, max_skipped=None)
        shape = (len(levels), config.seeds)
        result[way] = _numbers(config, trained.metrics, levels, shape)
        first, last = (_flat(networks) for networks in (trained.first, trained.last))
        distance = np.linalg.norm(last - first, axis=-1)
        result[way]["distance"] = distance.reshape(shape)
        result["parameters"] = np.array(first.shape[-1])
        networks[way] = trained.last
    return result, networks


def _numbers(config: Config, metrics: Any, levels: np.ndarray, shape: Any) -> dict[str, Any]:
    """Return what is kept of a training: quantiles of norms, paths, and some of the series."""
    split = lambda values: np.asarray(values).reshape(-1, *shape)
    norms, lengths = split(metrics["grad_norm"]), split(metrics["step_length"])
    applied = lengths / config.learning_rate
    held_out = metrics["held_out"]
    step = np.asarray(held_out["step"])
    loss = split(metrics["loss"])
    kept = {"none": len(levels) - 1, "clipped": (len(levels) - 1) // 2}
    return {
        "thresholds": levels,
        "step": step,
        "solved": split(held_out["solved"]),
        "before": np.quantile(_finite(norms), QUANTILES, axis=0),
        "after": np.quantile(applied, QUANTILES, axis=0),
        "mean_norm": _finite(norms).mean(0),
        "path": lengths.sum(0),
        "skipped": split(metrics["skipped"]).sum(0),
        "series": {
            name: {
                "threshold": levels[n],
                "loss": loss[:, n],
                "grad_norm": norms[:, n],
                "mean_loss": means_between(loss[:, n], step),
            }
            for name, n in kept.items()
        },
    }


def _finite(norms: np.ndarray) -> np.ndarray:
    """Return norms, the largest float32 in place of those beyond it."""
    return np.where(np.isfinite(norms), norms, np.finfo(np.float32).max)


def _flat(networks: Params) -> np.ndarray:
    """Return all parameters of each network in a row, `[members, P]`."""
    leaves = jax.tree.leaves(networks)
    return np.concatenate([np.asarray(leaf).reshape(len(leaf), -1) for leaf in leaves], -1)


def solved_by(of: Result) -> np.ndarray:
    """Return the part of the seeds that solve the task at the end, `[thresholds + 1]`."""
    return (of["solved"][-1] >= SOLVED).mean(-1)


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    by_norm, by_value = (result[way] for way in WAYS)
    levels = by_norm["thresholds"]
    # The average over a training that goes well: at the threshold that the most seeds solve with.
    best = int(solved_by(by_norm)[:-1].argmax())
    average = float(np.median(by_norm["mean_norm"][best]))
    serving = (levels >= USUAL[0] * average) & (levels <= USUAL[1] * average)
    without = solved_by(by_norm)[-1]
    usual = published(
        f"seeds that solve it, thresholds of {USUAL[0]:g} to {USUAL[1]:g} average norms",
        solved_by(by_norm)[serving],
        "it converges",
        PASCANU,
        low=0.9,
    )
    found = [
        *judged_if(serving.any(), "a threshold in that range", [usual]),
        published(
            "seeds that solve it, best threshold less none",
            solved_by(by_norm)[best] - without,
            "more",
            PASCANU,
            low=0.25,
        ),
        published(
            "seeds that solve it by value, best threshold less none",
            solved_by(by_value)[:-1].max() - without,
            "more",
            MIKOLOV,
            low=0.25,
        ),
        published(
            "largest norm of a training without clipping, over the average of one with it",
            by_norm["before"][-1, -1] / average,
            "it explodes",
            PASCANU,
            low=10,
        ),
    ]
    rate, steps = float(result["learning_rate"]), int(result["steps"])
    most = levels[:-1, None]
    clipped = by_norm["after"][-1, :-1] / most
    path = by_norm["path"][:-1] / (rate * most * steps)
    by_number = by_value["after"][-1, :-1] / by_value["thresholds"][:-1, None]
    by_number /= np.sqrt(result["parameters"])
    straight = max((result[way]["distance"] / result[way]["path"]).max() for way in WAYS)
    found += [
        at_most(claim, measured.max(), ROUNDING)
        for claim, measured in (
            ("largest norm after clipping / threshold", clipped),
            ("path / (learning rate · threshold · steps)", path),
            ("largest norm after clipping by value / (threshold · √parameters)", by_number),
            ("distance from the start / path", straight),
        )
    ]
    enough = steps >= MIN_STEPS and by_norm["solved"].shape[-1] >= MIN_SEEDS
    judged = judged_if(enough, f"{MIN_STEPS:,} updates and {MIN_SEEDS} seeds", found[:4])
    return [*judged, *found[4:]]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    parts = ["# Clipping"]
    for way in WAYS:
        of = result[way]
        rows = [
            [
                "none" if np.isinf(level) else f"{level:g}",
                f"{solved_by(of)[n]:.0%}",
                spread(of["before"][2, n], ".3g"),
                spread(of["before"][-1, n], ".3g"),
                spread(of["after"][-1, n], ".3g"),
                spread(of["path"][n], ".3g"),
                spread(of["distance"][n], ".3g"),
            ]
            for n, level in enumerate(of["thresholds"])
        ]
        headers = ["threshold", "seeds that solve it", "norm, median", "norm, largest"]
        headers += ["largest after", "path", "distance from the start"]
        parts.append(f"## {way.capitalize()}\n\n{table(rows, headers)}")
    return "\n\n".join([*parts, _without(result[WAYS[0]])])


def _without(of: Result) -> str:
    """Return what becomes of each network that is not clipped, and when."""
    series, rows = of["series"]["none"], []
    for seed, solved in enumerate(of["solved"][-1, -1]):
        loss, norms = (series[name][:, seed] for name in ("loss", "grad_norm"))
        lowest, largest = int(np.nanargmin(loss)), int(np.nanargmax(norms))
        row = [f"{loss[lowest]:.3g} at {lowest:,}", f"{norms[largest]:.3g} at {largest:,}"]
        rows.append([f"{seed}", *row, f"{series['mean_loss'][-1, seed]:.3g}", f"{solved:.3f}"])
    headers = ["seed", "lowest loss of a batch", "largest norm", "loss at the end", "right"]
    return f"## Without clipping\n\nAt steps of the training:\n\n{table(rows, headers)}"


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {
        "thresholds": figures.thresholds(result, WAYS, SOLVED),
        "norms": figures.norms(result, WAYS),
        "without": figures.without(result[WAYS[0]]),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
