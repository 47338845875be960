"""Tables of parameter sharing: accuracy by the size of a training set and by position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.common.numbers import Result
from experiments.common.report import paragraph, spread, table


def accuracies(result: Result, arms: Sequence[str]) -> str:
    """Return accuracies on fresh sentences, in per cent.

    Args:
      result: measurements of `experiments.parameter_sharing`.
      arms: the year anywhere, and positions held out.
    """
    by_label = {str(label): result[label] for label in result["labels"]}
    held = np.isin(result["positions"], result["held_out"])
    percent = lambda values: spread(100 * values, ".1f")
    by_examples = [
        [
            label,
            f"{int(of['parameters']):,}",
            f"{100 * min(of[arm]['training_accuracy'].min() for arm in arms):.1f}",
            *map(percent, of[arms[0]]["accuracy"].mean(-1)),
        ]
        for label, of in by_label.items()
    ]
    by_position = [
        [
            label,
            *(
                percent(of[arm]["accuracy"][-1][:, where].mean(-1))
                for arm in arms
                for where in (held, ~held)
            ),
        ]
        for label, of in by_label.items()
    ]
    examples = [f"{size:,} examples" for size in result["sizes"]]
    held_out = ", ".join(map(str, result["held_out"]))
    seeds = next(iter(by_label.values()))[arms[0]]["accuracy"].shape[1]
    after = paragraph(
        f"After {examples[-1]}, with {held_out} words in front of the year (there), or another "
        "number of them (elsewhere), where the year stood anywhere in training, or never there:"
    )
    there = ["there, anywhere", "elsewhere", "there, never", "elsewhere"]
    return (
        "# Parameter sharing\n\nAccuracy on fresh sentences, in %, the year's position uniform:\n\n"
        f"{table(by_examples, ['network', 'parameters', 'lowest in training', *examples])}\n\n"
        f"{after}\n\n{table(by_position, ['network', *there])}\n\n"
        f"Medians (and 10–90 %) over {seeds} seeds. Chance is "
        f"{100 * float(result['chance']):.1f} %."
    )


def answers(result: Result, arms: Sequence[str]) -> str:
    """Return what the networks of the largest training set answer to the source's sentences."""
    asked, rows = result["asked"], []
    for label in map(str, result["labels"]):
        for arm in arms:
            of_sentences = result[label][arm]["answers"].T
            rows.append([f"{label}, {arm}", *map(_answered, of_sentences)])
    heading = "## The source's two sentences"
    return f"{heading}\n\n{table(rows, ['', *map(str, asked['text'])])}"


def _answered(years: np.ndarray) -> str:
    """Return the years that networks answer, the commonest first, and how many do."""
    found, counts = np.unique(years, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:3]
    shown = ", ".join(f"{found[n]} ({counts[n]} of {len(years)})" for n in order)
    return shown if len(found) <= 3 else f"{shown}, ..."


def verdict(holds: Sequence[bool | None]) -> str:
    """Return in a sentence whether the claim is borne out, from its checks."""
    judged = [held for held in holds if held is not None]
    if not judged:
        return "Verdict: not judged; this run is too small to tell."
    if all(judged):
        return paragraph(
            "Verdict: borne out. With parameters shared over time the network names the year "
            "wherever it stands; with parameters of its own for each position it names those that "
            "it has seen there."
        )
    failed = len(judged) - sum(judged)
    return f"Verdict: not borne out in {failed} of {len(judged)} points, below."
