"""Add two numbers that stand far apart: how many sequences each cell has to read, by length.

Claim: a network without memory answers with the mean, at a squared error of 1/6. Gated networks,
and those whose recurrent matrix keeps norms or whose units oscillate, learn to remember two numbers
over a hundred steps; the simple recurrent network of the same size stays with the mean, or comes
away from it late. After Hochreiter and Schmidhuber (1997), Le, Jaitly and Hinton (2015, arXiv
1504.00941), and Rusch and Mishra (2021, arXiv 2010.00951).

    python -m experiments.adding [--setting paper] [--lengths 100] [--out FOLDER]
    python -m experiments.adding plot FOLDER

Departures: Adam, with rates that fall along a cosine, and small networks. The LRU is one layer,
linear up to its readout: it cannot multiply a number by its marker, and is here to show it; the
paper's is a stack with nonlinear layers between.

Not reached: within 80,000 sequences some networks of the IRNN come below a tenth of the loss
without memory and others do not; their median stays above.

About twelve minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.arms import best, sequences_to_solve
from experiments.common.checks import Check, judged_if, published
from experiments.common.compared_cells import COMPARED
from experiments.common.comparison import Comparison, trials_of
from experiments.common.numbers import Result
from experiments.common.settings import Size, by_setting
from experiments.common.study import Study
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax import tasks
from rnn_jax.types import Params

SOLVED = 1 - 3 / 2560
"""At most 3 of 2,560 held-out sequences answered wrongly, by 0.04 or more."""
LEARNED = 0.1
"""Part of the loss without memory below which a network has learned what the task is."""
MIN_SEQUENCES = 80_000
"""Sequences without which the claims are not judged."""
RATES = {
    "Elman": 0.003,
    "LSTM, forget bias 0": 0.03,
    "LSTM, forget bias 1": 0.03,
    "GRU": 0.03,
    "IRNN": 0.001,
    "orthogonal": 0.003,
    "coRNN": 0.03,
    "LEM": 0.01,
    "LRU": 0.003,
}
"""Adam's, at the start of a cosine: of three tried with other seeds, a factor 3 apart, each cell's
best after 40,000 sequences at T = 100. The orthogonal network and the LRU learned with none."""
LSTM_1997 = "Hochreiter and Schmidhuber 1997"
IRNN_2015 = "Le, Jaitly and Hinton 2015"
CORNN_2021 = "Rusch and Mishra 2021"


@dataclass(frozen=True)
class Config(Comparison):
    """The task's lengths, the networks and their training."""

    out: Path = Path("runs/adding")
    """The run folder."""
    lengths: tuple[Size, ...] = by_setting(reduced=(30, 100), paper=(100, 200, 400, 700))
    """Values of T."""
    batch_size: Size = 10
    """Sequences in a batch."""
    sequences: Size = by_setting(reduced=80_000, paper=1_000_000)
    """Most sequences that a network reads."""
    evaluations: Size = by_setting(reduced=20, paper=50)
    """Evaluations of each training, evenly spread, besides the one before it."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned at each length."""
    trials = trials_of(
        tasks.adding, config.lengths, config.batch_size, evaluated=(256, 10), solved=SOLVED
    )
    learned, networks = comparison.measure(config, {"adding": trials}, COMPARED, RATES)
    return {"arms": learned, "sequences": np.array(config.sequences)}, networks


def checks(result: Result) -> list[Check]:
    """Return the papers' results, number by number."""
    of = result["arms"]["adding"]
    T = "T = 100" if "T = 100" in of["Elman"] else next(iter(of["Elman"]))
    lstm = sequences_to_solve(of["LSTM, forget bias 1"][T], SOLVED)
    learned = lambda cell: best(of[cell][T], "loss") / of[cell][T]["chance_loss"]
    found = [
        published(f"LSTM, {T}: sequences needed", lstm, "74,000", LSTM_1997, high=100_000),
        published(
            f"LSTM, {T}: seeds that solve it",
            np.isfinite(lstm).mean(),
            "1",
            LSTM_1997,
            low=0.8,
        ),
    ]
    for cell, source in (("IRNN", IRNN_2015), ("coRNN", CORNN_2021)):
        claim = f"{cell}, {T}: loss / loss without memory, best"
        found.append(published(claim, learned(cell), "≪ 1", source, high=LEARNED))
    claim = f"Elman, {T}: loss / loss without memory, best, less the LSTM's"
    difference = learned("Elman") - learned("LSTM, forget bias 1")
    found.append(published(claim, difference, "it fails", IRNN_2015, low=LEARNED))
    return judged_if(
        int(result["sequences"]) >= MIN_SEQUENCES, f"{MIN_SEQUENCES:,} sequences", found
    )


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    return (
        "# Adding\n\nSolved: at most 3 of 2,560 held-out sequences wrong by 0.04 or more.\n\n"
        f"{tables.learned(result['arms'], SOLVED)}\n\n## Gradients\n\n"
        f"{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {
        "learning": figures.learning(result["arms"], unit="held-out squared error"),
        "needed": figures.needed(result["arms"], SOLVED),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
