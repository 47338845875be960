"""Name a digit that is read pixel by pixel, in the order of the rows and in a random one.

Claim: a recurrent network names a handwritten digit from its pixels, one after another, as well as
a linear classifier that sees the whole image; cells made for long memory do so where the order is
random too. After Le, Jaitly and Hinton (2015, arXiv 1504.00941), for MNIST. Without the files of
MNIST (`--path`), the images are the 8 × 8 digits that scikit-learn carries, of which every fifth is
held out: 64 steps in place of 784, and no published number to be held against.

    python -m experiments.sequential_digits [--setting paper --path FOLDER] [--out FOLDER]
    python -m experiments.sequential_digits plot FOLDER

Not reached: the linear classifier's accuracy, by a percent, after 32,000 sequences. After 100,000
(`--sequences`) the LSTM has 96.7 % pixel by pixel, and the LRU 96.0 % in a random order.

About five minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common import data_sets
from experiments.common.arms import at_end, of_one_length
from experiments.common.checks import Check, judged_if, published
from experiments.common.comparison import Comparison
from experiments.common.numbers import Result
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from rnn_jax.tasks import sequential_digits
from rnn_jax.types import Params

ORDERS = {"pixel by pixel": "pixels", "permuted": "permuted"}
CELLS = ("Elman", "LSTM, forget bias 1", "GRU", "IRNN", "coRNN", "LRU")
MIN_SEQUENCES = 32_000
"""Images read without which the claim is not judged."""
MNIST = {"pixel by pixel": {"IRNN": 0.97}, "permuted": {"IRNN": 0.82}}
"""Accuracies of the paper, on MNIST."""
SOURCE = "Le, Jaitly and Hinton 2015"


@dataclass(frozen=True)
class Config(Comparison):
    """The images, the networks and their training."""

    out: Path = Path("runs/sequential_digits")
    """The run folder."""
    path: Path | None = None
    """Folder with the four files of MNIST; without one, the digits of scikit-learn."""
    hidden_size: Size = by_setting(reduced=64, paper=128)
    """H, units of each network."""
    batch_size: Size = 32
    """Images in a batch."""
    sequences: Size = by_setting(reduced=32_000, paper=1_200_000)
    """Images that a network reads, each many times."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine; a tenth for the IRNN."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned of each order, and classifiers without recurrence."""
    options = {name: {"order": order, "path": config.path} for name, order in ORDERS.items()}
    length = "T = 64" if config.path is None else "T = 784"
    trials = {
        name: {length: data_sets.trial_of(sequential_digits, config.batch_size, **chosen)}
        for name, chosen in options.items()
    }
    learned, networks = data_sets.learned(config, trials, CELLS)
    chosen = next(iter(options.values()))
    return {
        "arms": learned,
        "baselines": data_sets.classified_without_memory(sequential_digits, **chosen),
        "sequences": np.array(config.sequences),
        "is_mnist": np.array(config.path is not None),
    }, networks


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    found, linear = [], float(result["baselines"]["linear"])
    for order, cells in result["arms"].items():
        right = {cell: at_end(of, "solved") for cell, of in of_one_length(cells).items()}
        name = max(right, key=lambda cell: np.median(right[cell]))
        claim = f"{order}, best cell ({name}): accuracy"
        wanted = f"a linear classifier's, {linear:.3f}"
        found.append(published(claim, right[name], wanted, "here", low=linear))
        if result["is_mnist"]:
            for cell, accuracy in MNIST[order].items():
                paper = f"{accuracy:.0%}"
                claim = f"{order}, {cell}: accuracy"
                found.append(published(claim, right[cell], paper, SOURCE, low=accuracy - 0.02))
    enough = int(result["sequences"]) >= MIN_SEQUENCES
    return judged_if(enough, f"{MIN_SEQUENCES:,} images read", found)


def plot(result: Result) -> Mapping[str, Figure]:
    """Return every figure, from the result alone."""
    return data_sets.accuracy_curves(result)


STUDY = Study(
    __doc__,
    Config,
    measure,
    checks,
    functools.partial(data_sets.told, "Digits, one pixel after another"),
    plot,
    ensemble=True,
)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
