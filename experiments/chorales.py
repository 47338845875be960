"""Predict which keys of a piano sound next in Bach's chorales.

Claim: a network that remembers predicts the next quarter note of a chorale better than one that
sees the present quarter alone, and that better than the frequency of each key. Losses are
log-likelihoods of a frame, in nats, summed over 88 keys. After Boulanger-Lewandowski, Bengio and
Vincent (2012, arXiv 1206.6392), whose recurrent network has −8.71 nats a frame on their cut of the
chorales; this one is of another corpus, in other keys, so that the two numbers stand beside each
other and are not judged. A network is taken where its held-out loss is least, the linear one too.

    python -m experiments.chorales [--setting paper] [--out FOLDER]
    python -m experiments.chorales plot FOLDER

About three minutes on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison, data_sets
from experiments.common.arms import at_end, best, of_one_task
from experiments.common.checks import Check, judged_if, published
from experiments.common.compared_cells import COMPARED, present_alone
from experiments.common.comparison import Comparison
from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax.tasks import bach_chorales
from rnn_jax.types import Params

SOURCE = "Boulanger-Lewandowski, Bengio and Vincent 2012"
THEIRS = 8.71
"""Nats a frame of its recurrent network, without more."""
MIN_SEQUENCES = 20_000
"""Pieces read without which the claim is not judged."""
RECURRENT = ("Elman", "LSTM, forget bias 1", "GRU", "LRU")


@dataclass(frozen=True)
class Config(Comparison):
    """The pieces, the networks and their training."""

    out: Path = Path("runs/chorales")
    """The run folder."""
    T: Size = 64
    """Quarter notes of a piece."""
    hidden_size: Size = by_setting(reduced=64, paper=256)
    """H, units of each network."""
    batch_size: Size = 16
    """Pieces in a batch."""
    sequences: Size = by_setting(reduced=20_000, paper=100_000)
    """Pieces that a network reads, each many times."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned."""
    trial = data_sets.trial_of(bach_chorales, config.batch_size, T=config.T)
    cells = {"the present alone": present_alone} | {name: COMPARED[name] for name in RECURRENT}
    rates = dict.fromkeys(cells, config.learning_rate)
    learned, networks = comparison.measure(
        config, {"chorales": {f"T = {config.T}": trial}}, cells, rates
    )
    return {"arms": learned, "sequences": np.array(config.sequences)}, networks


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    cells = of_one_task(result["arms"])
    loss = {cell: best(of, "loss") for cell, of in cells.items()}
    frequency = float(cells["the present alone"]["chance_loss"])
    name = min(RECURRENT, key=lambda cell: np.median(loss[cell]))
    linear = float(np.median(loss["the present alone"]))
    claim = f"{name}, the best: nats a frame, less those of the present alone"
    found = [
        published(claim, loss[name] - linear, "less", SOURCE, high=0),
        published(
            "the present alone: nats a frame, less those of the frequencies",
            loss["the present alone"] - frequency,
            "less",
            SOURCE,
            high=0,
        ),
    ]
    enough = int(result["sequences"]) >= MIN_SEQUENCES
    return judged_if(enough, f"{MIN_SEQUENCES:,} pieces read", found)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    cells = of_one_task(result["arms"])
    frequency = float(cells["the present alone"]["chance_loss"])
    rows = [["the frequency of each key", f"{frequency:.3f}", "–"]]
    rows += [
        [cell, *(spread(at(of, "loss"), ".3f") for at in (best, at_end))]
        for cell, of in cells.items()
    ]
    rows.append([f"recurrent network of {SOURCE}, on their cut", f"{THEIRS:.3f}", "–"])
    headers = ["nats a frame, held out", "best evaluation", "at the end"]
    return (
        f"# Chorales\n\n{table(rows, headers)}\n\n## Gradients\n\n"
        f"{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {"learning": figures.learning(result["arms"], unit="held-out loss, nats a frame")}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
