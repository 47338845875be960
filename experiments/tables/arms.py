"""Tables of arms: what each learned and after how many sequences, and what its gradients do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import arms as measured
from experiments.common.arms import each, label_of, sequences_to_solve
from experiments.common.report import spread, table

GRADIENTS = {"decay_rate": "+.3f", "horizon": ".3g", "largest_exponent": "+.3f"}


def learned(arms: Mapping[str, Any], part: float) -> str:
    """Return for each arm how many of its networks solve the task, and after how many sequences.

    Args:
      arms: results by panel, arm and length.
      part: of the held-out sequences, which counts as solved.
    """
    rows = []
    for names, result in each(arms):
        needed = sequences_to_solve(result, part)
        solved = np.isfinite(needed)
        rows.append(
            [
                label_of(names),
                f"{solved.sum()} of {len(solved)}",
                spread(needed[solved], ",.0f") if solved.any() else "–",
                f"{result['step'][-1] * result['batch_size']:,}",
                spread(measured.best(result, "loss"), ".3g"),
                spread(measured.best(result, "solved"), ".4f"),
            ]
        )
    headers = ["", "solved by", "sequences needed", "read", "loss, best", "solved there"]
    return table(rows, headers)


def accuracies(result: Mapping[str, Any]) -> str:
    """Return the accuracy of each arm at its end on held-out data, beside the baselines."""
    rows = []
    for names, arm in each(result["arms"]):
        percent = spread(100 * measured.at_end(arm, "solved"), ".1f")
        loss = spread(measured.at_end(arm, "loss"), ".3g")
        rows.append([label_of(names), f"{percent} %", loss])
    for name, accuracy in result["baselines"].items():
        rows.append([f"{name}, the whole sequence at once", f"{100 * float(accuracy):.1f} %", "–"])
    return table(rows, ["", "accuracy at the end", "loss"])


def gradients(arms: Mapping[str, Any]) -> str:
    """Return for each arm decay rate, horizon and λ₁ of the first and the best networks."""
    return table(gradient_rows(arms), ["before → after", "decay rate", "horizon", "λ₁"])


def gradient_rows(arms: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of `gradients`, for a table of any width."""
    rows = []
    for names, result in each(arms):
        first, best = (result["laboratory"][phase] for phase in ("first", "best"))
        shown = [
            f"{np.median(first[name]):{form}} → {spread(best[name], form)}"
            for name, form in GRADIENTS.items()
        ]
        rows.append([label_of(names), *shown])
    return rows
