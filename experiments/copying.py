"""Copy ten symbols after a delay: which cells fall below what a network without memory can do.

Claim: without memory the best answer is a guess among eight symbols, 10 ln 8 / (T + 20) a step. A
simple recurrent network stays there, however long it is trained; a network whose recurrent matrix
is orthogonal, or whose factors lie near the unit circle, remembers all ten symbols. After
Arjovsky, Shah and Bengio (2016, arXiv 1511.06464), and Henaff, Szlam and LeCun (2016, arXiv
1602.06662).

    python -m experiments.copying [--setting paper] [--lengths 100] [--out FOLDER]
    python -m experiments.copying plot FOLDER

Departures: Adam, with rates that fall along a cosine, and few sequences: cells that are at the loss
without memory after 20,000 of them may well leave it later.

About five minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.arms import best
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

SOLVED = 0.99
RATES = {
    "Elman": 0.003,
    "LSTM, forget bias 0": 0.003,
    "LSTM, forget bias 1": 0.003,
    "GRU": 0.01,
    "IRNN": 0.001,
    "orthogonal": 0.003,
    "coRNN": 0.01,
    "LEM": 0.01,
    "LRU": 0.01,
}
"""Adam's, at the start of a cosine. Those of Elman, GRU, orthogonal and LRU are of three that were
tried with other seeds; those of the other cells were not tried."""
UNITARY = "Arjovsky, Shah and Bengio 2016"
ORTHOGONAL = "Henaff, Szlam and LeCun 2016"


@dataclass(frozen=True)
class Config(Comparison):
    """The delays, the networks and their training."""

    out: Path = Path("runs/copying")
    """The run folder."""
    lengths: tuple[Size, ...] = by_setting(reduced=(100,), paper=(100, 200, 300, 500))
    """Values of T, steps of the delay."""
    hidden_size: Size = by_setting(reduced=64, paper=128)
    """H, units of each network."""
    sequences: Size = by_setting(reduced=20_000, paper=1_000_000)
    """Most sequences that a network reads."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned at each delay."""
    trials = trials_of(
        tasks.copying, config.lengths, config.batch_size, evaluated=(256, 2), solved=SOLVED
    )
    learned, networks = comparison.measure(config, {"copying": trials}, COMPARED, RATES)
    return {"arms": learned, "sequences": np.array(config.sequences)}, networks


def checks(result: Result) -> list[Check]:
    """Return the papers' results, number by number."""
    of = result["arms"]["copying"]
    T = next(iter(of["Elman"]))
    relative = {cell: best(at[T], "loss") / at[T]["chance_loss"] for cell, at in of.items()}
    claim = lambda cell: f"{cell}, {T}: loss / loss without memory, best"
    long_memory = np.minimum(relative["orthogonal"], relative["LRU"])
    found = [
        published(claim("orthogonal or LRU"), long_memory, "→ 0", ORTHOGONAL, high=0.5),
        published(claim("Elman"), relative["Elman"], "about 1", UNITARY, low=0.98, high=1.02),
    ]
    return judged_if(int(result["sequences"]) >= 20_000, "20,000 sequences", found)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    return (
        f"# Copying\n\nSolved: {SOLVED:.0%} of the held-out sequences right in every symbol.\n\n"
        f"{tables.learned(result['arms'], SOLVED)}\n\n## Gradients\n\n"
        f"{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {"learning": figures.learning(result["arms"], unit="held-out cross-entropy, nats")}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
