"""Learn what the first LSTM learned: how many sequences it takes, beside the numbers of 1997.

Claim: long short-term memory learns the embedded Reber grammar, and tasks with a lag of a hundred
steps: the sum of two marked numbers, their product, and the order of two symbols; a simple
recurrent network does not. The LSTM of 1997 has no forget gate; the one of 2000 has. After
Hochreiter and Schmidhuber (1997), experiments 1, 4, 5 and 6a.

    python -m experiments.lstm_1997 [--setting paper] [--seeds 10] [--out FOLDER]
    python -m experiments.lstm_1997 plot FOLDER

Departures: Adam and full backpropagation through time in place of gradient descent and a truncated
one, a linear readout of all units, fresh sequences throughout.

Not reached: the Elman network, which in the paper never learns the Reber grammar, learns it here in
most runs or all, by way of the full gradient. Temporal order is learned by some six of ten LSTMs;
rates of 0.003 to 0.03 and batches of 10 and 20 were tried, and forget biases of 1, with which none
learns it, 5 and 100.

About six minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.arms import sequences_to_solve
from experiments.common.checks import Check, judged_if, published
from experiments.common.comparison import Comparison, Trial
from experiments.common.numbers import Result
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax.cell import Cell
from rnn_jax.cells import elman, lstm
from rnn_jax.tasks import Task, adding, embedded_reber, multiplication, temporal_order
from rnn_jax.types import Params

SOURCE = "Hochreiter and Schmidhuber 1997"
OPEN = 100.0
"""A forget bias of which σ is 1: no forget gate."""
OPEN_AT_FIRST = 5.0
"""One of which σ is 0.993: with 1, a gradient falls by 0.73 a step, and none is left after 100."""
CELLS: dict[str, Callable[[int], Cell]] = {
    "LSTM of 1997": functools.partial(lstm, forget_bias=OPEN),
    "LSTM with forget gate": functools.partial(lstm, forget_bias=OPEN_AT_FIRST),
    "Elman": elman,
}


class Experiment(NamedTuple):
    """One of the paper's.

    Attributes:
      make: of its task.
      length: name of its length.
      solved: part of the held-out sequences that has to be right.
      presentations: sequences that the paper's networks needed, as it says.
      most: those that a network may read here.
      learning_rate: Adam's, at the start of a cosine, of the few that were tried the best.
    """

    make: Callable[..., Task]
    length: str
    solved: float
    presentations: str
    most: int
    learning_rate: float


EXPERIMENTS = {
    "embedded Reber": Experiment(embedded_reber, "T = 40", 1.0, "8,440 to 39,740", 40_000, 0.01),
    "adding": Experiment(adding, "T = 100", 1 - 3 / 2560, "74,000", 100_000, 0.01),
    "multiplication": Experiment(
        multiplication, "T = 100", 1 - 140 / 2560, "482,000", 500_000, 0.003
    ),
    "temporal order": Experiment(temporal_order, "T = 100", 1 - 3 / 2560, "31,390", 100_000, 0.003),
}


@dataclass(frozen=True)
class Config(Comparison):
    """The networks and their training."""

    out: Path = Path("runs/lstm_1997")
    """The run folder."""
    seeds: Size = by_setting(reduced=10, paper=10)
    """Networks of each arm, all in one program."""
    experiments: tuple[
        Literal["embedded Reber", "adding", "multiplication", "temporal order"], ...
    ] = by_setting(reduced=("embedded Reber", "temporal order"), paper=tuple(EXPERIMENTS))
    """Which of the paper's."""
    hidden_size: Size = 16
    """H, units of each network."""
    batch_size: Size = by_setting(reduced=10, paper=1)
    """Sequences in a batch."""
    learning_rate: Positive | None = None
    """Adam's, at the start of a cosine; if left out, that of each experiment."""
    sequences: Size = by_setting(reduced=100_000, paper=500_000)
    """Most sequences that a network reads, where the paper's did not need fewer."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what the networks of each arm learned."""
    learned: dict[str, Any] = {}
    networks: dict[str, Params] = {}
    for name in config.experiments:
        of = EXPERIMENTS[name]
        trial = Trial(
            of.make(batch_size=config.batch_size),
            of.make(batch_size=256),
            batches=10,
            solved=of.solved,
            sequences=min(of.most, config.sequences),
        )
        rates = dict.fromkeys(CELLS, config.learning_rate or of.learning_rate)
        found, trained = comparison.measure(config, {name: {of.length: trial}}, CELLS, rates)
        learned |= found
        networks |= trained
    return {"arms": learned, "sequences": np.array(config.sequences)}, networks


def checks(result: Result) -> list[Check]:
    """Return the paper's results, number by number."""
    found: list[Check] = []
    for name, cells in result["arms"].items():
        of = EXPERIMENTS[name]
        by_cell = {cell: lengths[of.length] for cell, lengths in cells.items()}
        needed = {cell: sequences_to_solve(r, of.solved) for cell, r in by_cell.items()}
        first, gated, simple = needed.values()
        best = first if np.median(first) <= np.median(gated) else gated
        claim = f"{name}: sequences needed, the better LSTM"
        of_experiment = [
            published(claim, best, of.presentations, SOURCE, high=of.most),
            published(
                f"{name}: seeds that solve it, the better LSTM",
                np.isfinite(best).mean(),
                "0.97 to 1",
                SOURCE,
                low=0.9,
            ),
            published(
                f"{name}: seeds that solve it, Elman",
                np.isfinite(simple).mean(),
                "0",
                SOURCE,
                high=0,
            ),
        ]
        found += judged_if(
            int(result["sequences"]) >= of.most, f"{of.most:,} sequences", of_experiment
        )
    return found


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    parts = [
        f"## {name}\n\nSolved: {EXPERIMENTS[name].solved:.2%} of 2,560 sequences right.\n\n"
        f"{tables.learned({name: cells}, EXPERIMENTS[name].solved)}"
        for name, cells in result["arms"].items()
    ]
    return "\n\n".join(
        ["# The experiments of 1997", *parts, f"## Gradients\n\n{tables.gradients(result['arms'])}"]
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    unit = "held-out sequences right"
    return {
        "learning": figures.learning(result["arms"], metric="solved", unit=unit, log=False),
        "loss": figures.learning(result["arms"]),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
