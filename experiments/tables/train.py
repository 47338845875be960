"""Tables of a training: losses and solved sequences, and what training did to the gradients."""

from __future__ import annotations

import numpy as np

from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.task_ensemble import PHASES


def training(result: Result) -> str:
    """Return what was learned, and the laboratory's numbers of first, best and last parameters."""
    metrics, held_out = result["metrics"], result["metrics"]["held_out"]
    steps, seeds = metrics["loss"].shape
    best = np.nanargmin(held_out["loss"], axis=0)
    at_best = lambda values: values[best, np.arange(seeds)]
    learned = [
        ["steps taken", f"{steps:,}"],
        ["step of the best evaluation", spread(held_out["step"][best], ",.0f")],
        ["held-out loss, first", spread(held_out["loss"][0], ".4g")],
        ["held-out loss, best", spread(at_best(held_out["loss"]), ".4g")],
        ["loss without memory", _number(float(result["chance_loss"]))],
        ["held-out sequences solved, first", _percent(held_out["solved"][0])],
        ["held-out sequences solved, best", _percent(at_best(held_out["solved"]))],
        ["steps clipped", f"{metrics['clipped'].mean():.1%}" if len(metrics["clipped"]) else "–"],
        ["steps skipped", f"{int(metrics['skipped'].sum()):,}"],
    ]
    by_phase = result["laboratory"]
    laboratory = [
        [
            phase,
            spread(of["decay_rate"], "+.4f"),
            spread(of["horizon"], ".3g"),
            spread(of["largest_exponent"], "+.4f"),
        ]
        for phase, of in ((phase, by_phase[phase]) for phase in PHASES)
    ]
    gradients = ["parameters", "decay rate", "horizon", "λ₁"]
    return (
        f"# {result['cell']} on {result['title']}\n\n"
        f"{table(learned, ['', f'median (10 %–90 %) of {seeds} seeds' if seeds > 1 else ''])}\n\n"
        "## Gradients\n\nOn held-out sequences, in nats a step; the horizon in steps:\n\n"
        f"{table(laboratory, gradients)}"
    )


def _percent(values: np.ndarray) -> str:
    return f"{spread(100 * values, '.1f')} %"


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "not known"
