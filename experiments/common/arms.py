"""Arms of a reproduction: ways to learn a task, the seeds of each in one program."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.common import laboratory
from experiments.common.numbers import Result
from experiments.common.task_ensemble import Members, Plan, held_out_key, train
from rnn_jax.types import Params

TRAINING = ("loss", "grad_norm", "clipped", "skipped")
"""Metrics of training that are kept, as means between evaluations."""


class Arm(NamedTuple):
    """One way to learn a task.

    Attributes:
      plan: what its networks have in common.
      learning_rate: of its optimizer.
      clip_norm: global norm that gradients are clipped to; inf for no clipping.
    """

    plan: Plan
    learning_rate: float
    clip_norm: float = np.inf


Arms = Mapping[str, Mapping[str, Mapping[str, Arm]]]
"""`panel -> arm -> length`: what stands in one panel of a figure, a line of it, a point of that."""


def measure(
    arms: Arms, seeds: np.ndarray, checkpoints: Path
) -> tuple[dict[str, Any], dict[str, Params]]:
    """Train all arms; return what came of each, and the networks by name, `[seeds, ...]`.

    Args:
      arms: by panel, arm and length, which have names, without a slash.
      seeds: of the networks of each arm, which draw the same batches.
      checkpoints: folder from which an interrupted run goes on, arm by arm.

    Returns:
      By panel, arm and length: `step` of each evaluation, `[n]`; `batch_size`; `chance_loss` of the
      held-out task; `held_out`, what was found there, `[n, seeds]`, and `training`, means of the
      steps since the evaluation before, `[n − 1, seeds]`; `laboratory`, what gradients do in the
      first and in the best networks, `[seeds]`.
    """
    results: dict[str, Any] = {}
    networks: dict[str, Params] = {}
    for names, arm in each(arms):
        panel, line, length = names
        # They are paths in numbers.npz.
        assert all(name and "/" not in name for name in names), names
        label = label_of(names)
        result, trained = _measure(arm, seeds, checkpoints / _folder(names), label)
        results.setdefault(panel, {}).setdefault(line, {})[length] = result
        networks |= {f"{label}, {phase}": params for phase, params in trained.items()}
    return results, networks


def _measure(
    arm: Arm, seeds: np.ndarray, checkpoints: Path, label: str
) -> tuple[Result, dict[str, Params]]:
    """Train the networks of one arm."""
    plan = arm.plan
    members = Members(
        seed=seeds,
        learning_rate=np.full(len(seeds), arm.learning_rate),
        clip_norm=np.full(len(seeds), arm.clip_norm),
    )
    # A network that explodes is a result.
    trained = train(plan, members, checkpoints, label, max_skipped=None)
    phases = {"first": trained.first, "best": trained.best}
    held_out = dict(trained.metrics["held_out"])
    step = np.asarray(held_out.pop("step"))
    between = lambda metric: means_between(np.asarray(trained.metrics[metric]), step)
    xs = plan.held_out.batch(held_out_key(), 0)[0]
    result = {
        "step": step,
        "batch_size": np.array(plan.task.batch(held_out_key(), 0)[0].shape[1]),
        "chance_loss": np.array(plan.held_out.chance_loss),
        "held_out": held_out,
        "training": {metric: between(metric) for metric in TRAINING},
        "laboratory": laboratory.measure(plan.cell, phases, xs, window=20, sequences=2),
    }
    return result, phases


def each(arms: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], Any]]:
    """Yield names of panel, arm and length, and what stands there."""
    for panel, lines in arms.items():
        for line, lengths in lines.items():
            for length, arm in lengths.items():
                yield (panel, line, length), arm


def length_of(name: str) -> float:
    """Return T of the name of a length, as "T = 100"."""
    return float(name.removeprefix("T = "))


def of_one_length(lines: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what stands at the one length of each line of a panel."""
    return {line: next(iter(lengths.values())) for line, lengths in lines.items()}


def of_one_task(arms: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands at the one length of each line of the one panel."""
    return of_one_length(next(iter(arms.values())))


def label_of(names: Sequence[str]) -> str:
    """Return the names of panel, arm and length in one."""
    return ", ".join(names)


def sequences_to_solve(result: Result, part: float) -> np.ndarray:
    """Return how many sequences each network had read when it first solved this part, `[seeds]`.

    Of the held-out sequences, at an evaluation; inf for a network that never did.
    """
    solved = result["held_out"]["solved"] >= part
    read = result["step"] * result["batch_size"]
    return np.where(solved.any(0), read[solved.argmax(0)], np.inf)


def best(result: Result, metric: str) -> np.ndarray:
    """Return a metric of the held-out sequences where the loss was least, `[seeds]`."""
    held_out = result["held_out"]
    # NaN last: a network that has diverged was best before.
    at = np.where(np.isnan(held_out["loss"]), np.inf, held_out["loss"]).argmin(0)
    return held_out[metric][at, np.arange(len(at))]


def at_end(result: Result, metric: str) -> np.ndarray:
    """Return a metric of the held-out sequences at the last evaluation, `[seeds]`."""
    return result["held_out"][metric][-1]


def means_between(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return means of `[steps, seeds]` from one evaluation to the next, `[n − 1, seeds]`."""
    parts = [values[a:b].mean(0) for a, b in itertools.pairwise(steps)]
    return np.stack(parts) if parts else values[:0]


def _folder(names: tuple[str, ...]) -> str:
    return "".join(c if c.isalnum() else "_" for c in "-".join(names))
