"""Tables of gradient decay: what networks learned, how fast gradients decay, and their bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.common.numbers import Result
from experiments.common.report import paragraph, spread, table

BOUNDS = ("power_bound", "product_bound")


def decay(result: Result, arms: Sequence[str], phases: Sequence[str]) -> str:
    """Return bits per character, rates of decay, and violations and slack of two bounds.

    Args:
      result: measurements of `experiments.gradient_decay`.
      arms: with clipping, and without.
      phases: before training, and after it.
    """
    by_label = {str(label): result[label] for label in result["labels"]}
    before, after = phases
    bits = [
        [
            label,
            *(spread(of[arm]["bits_per_character"]) for arm in arms),
            f"{np.mean(of[arms[0]]['clipped']):.1%}",
        ]
        for label, of in by_label.items()
    ]
    rates = [
        [label, str(of["state"]), *(f"{np.median(of[phase]['decay']):+.3f}" for phase in phases)]
        for label, of in by_label.items()
    ]
    bounds = [
        [
            label,
            *(_violations((of[before], of[after]), bound) for bound in BOUNDS),
            *(_slack(of[after], bound) for bound in BOUNDS),
        ]
        for label, of in by_label.items()
    ]
    seeds, states = next(iter(by_label.values()))[before]["measured"].shape[:2]
    explained = paragraph(
        "Norms are of ∂s_t/∂s_k, s the whole state. Rate: what is left of them, nats per step of "
        "t − k. Violations of two bounds, (λ_W λ_φ)^(t−k) (power) and Π‖J_i‖ (product), at all "
        f"{states * (states + 1) // 2:,} pairs (t, k) of every network, before and after training, "
        f"and their slack after it, in nats. – : no such theorem. Medians (and 10–90 %) over "
        f"{seeds} seeds. Unigram entropy of the held-out text: "
        f"{result['unigram_entropy']:.3f} bits per character."
    )
    tables = (
        table(bits, ["cell", "bits per character, clipped", "not clipped", "clip rate"]),
        table(rates, ["cell", "s", "rate before training", "after"]),
        table(bounds, ["cell", "violations: power", "product", "slack: power", "product"]),
    )
    return "\n\n".join(("# Gradient decay", *tables, explained))


def _violations(measured: Sequence[Result], bound: str) -> int | str:
    name = f"{bound}_violations"
    return sum(int(part[name].sum()) for part in measured) if name in measured[0] else "–"


def _slack(measured: Result, bound: str) -> str:
    name = f"{bound}_slack"
    return f"{np.median(measured[name]):.1f}" if name in measured else "–"
