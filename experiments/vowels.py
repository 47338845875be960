"""Tell nine speakers apart by two vowels of 7 to 29 steps.

Claim: a recurrent network that reads twelve coefficients a step names the speaker of an utterance
that it has not heard more often than the method with which the data were published, 94.1 %, and
than a linear classifier that sees the whole utterance. After Kudo, Toyama and Shimbo (1999).

    python -m experiments.vowels [--setting paper] [--out FOLDER]
    python -m experiments.vowels plot FOLDER

About three minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common import data_sets
from experiments.common.arms import at_end, of_one_task
from experiments.common.checks import Check, judged_if, published
from experiments.common.compared_cells import COMPARED
from experiments.common.comparison import Comparison
from experiments.common.numbers import Result
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from rnn_jax.tasks import japanese_vowels
from rnn_jax.types import Params

MIN_SEQUENCES = 10_000
"""Utterances read without which the claim is not judged."""
SOURCE, PUBLISHED = "Kudo, Toyama and Shimbo 1999", 0.941
CELLS = tuple(name for name in COMPARED if name != "LSTM, forget bias 0")


@dataclass(frozen=True)
class Config(Comparison):
    """The networks and their training."""

    out: Path = Path("runs/vowels")
    """The run folder."""
    hidden_size: Size = by_setting(reduced=64, paper=128)
    """H, units of each network."""
    batch_size: Size = 30
    """Utterances in a batch."""
    sequences: Size = by_setting(reduced=15_000, paper=60_000)
    """Utterances that a network reads, each many times."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine; a tenth for the IRNN."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned, and classifiers without recurrence."""
    trial = data_sets.trial_of(japanese_vowels, config.batch_size)
    trials = {"Japanese vowels": {"T = 29": trial}}
    learned, networks = data_sets.learned(config, trials, CELLS)
    return {
        "arms": learned,
        "baselines": data_sets.classified_without_memory(japanese_vowels),
        "sequences": np.array(config.sequences),
    }, networks


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    right = {cell: at_end(of, "solved") for cell, of in of_one_task(result["arms"]).items()}
    name = max(right, key=lambda cell: np.median(right[cell]))
    linear = float(result["baselines"]["linear"])
    gated = right["LSTM, forget bias 1"]
    best, paper = f"best cell ({name}): accuracy", f"{PUBLISHED:.1%}"
    there = f"a linear classifier's, {linear:.3f}"
    found = [
        published("LSTM: accuracy", gated, paper, SOURCE, low=PUBLISHED),
        published(best, right[name], paper, SOURCE, low=PUBLISHED),
        published(best, right[name], there, "here", low=linear),
    ]
    enough = int(result["sequences"]) >= MIN_SEQUENCES
    return judged_if(enough, f"{MIN_SEQUENCES:,} utterances read", found)


def plot(result: Result) -> Mapping[str, Figure]:
    """Return every figure, from the result alone."""
    return data_sets.accuracy_curves(result)


STUDY = Study(
    __doc__,
    Config,
    measure,
    checks,
    functools.partial(data_sets.told, "Japanese vowels"),
    plot,
    ensemble=True,
)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
