"""Hold every cell's claim about its gradients against its gradients, before and after training.

Claim: a cell whose paper says that gradients stay alive in it has, as it is drawn, a norm
‖∂s_t/∂s_k‖ that changes by less than a factor e over the whole of a sequence; one whose paper says
that they cannot explode, a norm that does not grow by more than that. All learn the temporal order
problem, in the same way; what training has made of the claim is measured again.

    python -m experiments.gradient_claims [--setting paper] [--T 60] [--out FOLDER]
    python -m experiments.gradient_claims plot FOLDER

Not reached: half of what is asked, in cells of each kind. In all that learn the task but the linear
ones, gradients grow once they are trained, those of cells that were made to keep them too: the task
needs two symbols of long ago, and training finds parameters that hand on more than it got. Of the
LSTM the papers speak of c alone; what is measured is the whole state, at a forget bias of 1.

About three minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.arms import best, of_one_task, sequences_to_solve
from experiments.common.checks import Check, judged_if, published
from experiments.common.comparison import Comparison, trials_of
from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from experiments.figures import arms as figures
from experiments.figures.gradient_claims import rates
from rnn_jax.cell import Cell
from rnn_jax.cells import (
    antisymmetric,
    antisymmetric_gated,
    cornn,
    elman,
    indrnn,
    irnn,
    lem,
    lipschitz,
    lru,
    lstm,
    min_gru,
    orthogonal_rnn,
    rg_lru,
    slstm,
)
from rnn_jax.tasks import temporal_order
from rnn_jax.types import Params

SOLVED = 0.99
MIN_SEQUENCES = 30_000
"""Sequences without which the claim is not judged."""


class Claim(NamedTuple):
    """What the paper of a cell says of its gradients.

    Attributes:
      make: the cell.
      source: the paper.
      says: what it says, in our words.
      kind: "alive" where it says that they neither vanish nor explode, "bounded" where they do not
        explode; "none" for the cell without a claim that the others are measured beside.
    """

    make: Callable[[int], Cell]
    source: str
    says: str
    kind: Literal["alive", "bounded", "none"]


CLAIMS = {
    "Elman": Claim(elman, "Elman 1990", "none", "none"),
    "LSTM": Claim(
        lstm, "Hochreiter and Schmidhuber 1997", "error flows unchanged through c", "alive"
    ),
    "IRNN": Claim(irnn, "Le, Jaitly and Hinton 2015", "at first, errors are copied back", "alive"),
    "orthogonal": Claim(
        orthogonal_rnn, "Henaff, Szlam and LeCun 2016", "W keeps every norm", "bounded"
    ),
    "IndRNN": Claim(indrnn, "Li et al. 2018", "a range of w keeps them in range", "alive"),
    "antisymmetric": Claim(
        antisymmetric, "Chang et al. 2019", "at the edge between growth and decay", "alive"
    ),
    "antisymmetric, gated": Claim(
        antisymmetric_gated, "Chang et al. 2019", "at the edge, with gates too", "alive"
    ),
    "coRNN": Claim(cornn, "Rusch and Mishra 2021", "neither vanish nor explode", "alive"),
    "lipschitz": Claim(lipschitz, "Erichson et al. 2021", "a Lipschitz map is stable", "bounded"),
    "LEM": Claim(lem, "Rusch et al. 2022", "neither vanish nor explode", "alive"),
    "LRU": Claim(lru, "Orvieto et al. 2023", "|λ| < 1, and near 1 at first", "alive"),
    "RG-LRU": Claim(rg_lru, "De et al. 2024", "a of at most 1, and near 1 at first", "alive"),
    "sLSTM": Claim(slstm, "Beck et al. 2024", "exponential gates, normalized", "bounded"),
    "minGRU": Claim(min_gru, "Feng et al. 2024", "gates in (0, 1), no product of W", "bounded"),
}


@dataclass(frozen=True)
class Config(Comparison):
    """The task, the networks and their training."""

    out: Path = Path("runs/gradient_claims")
    """The run folder."""
    T: Size = by_setting(reduced=60, paper=200)
    """Steps of the temporal order problem."""
    seeds: Size = by_setting(reduced=4, paper=10)
    """Networks of each cell, all in one program."""
    sequences: Size = by_setting(reduced=30_000, paper=500_000)
    """Most sequences that a network reads."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine; a third for the IRNN."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each cell's gradients do, before and after, and what it learned."""
    trials = trials_of(
        temporal_order, (config.T,), config.batch_size, evaluated=(500, 4), solved=SOLVED
    )
    cells = {name: claim.make for name, claim in CLAIMS.items()}
    learning_rates = dict.fromkeys(cells, config.learning_rate)
    learning_rates["IRNN"] /= 3
    learned, networks = comparison.measure(
        config, {"temporal order": trials}, cells, learning_rates
    )
    sizes = {"sequences": np.array(config.sequences), "T": np.array(config.T)}
    return {"arms": learned, **sizes}, networks


def checks(result: Result) -> list[Check]:
    """Return each paper's claim, before and after training."""
    cells, found = of_one_task(result["arms"]), []
    limit = 1 / float(result["T"])
    for name, claim in CLAIMS.items():
        if claim.kind == "none":
            continue
        low = -limit if claim.kind == "alive" else -np.inf
        for phase, when in (("first", "as drawn"), ("best", "trained")):
            rate = cells[name]["laboratory"][phase]["decay_rate"]
            what = f"{name}, {when}: decay rate"
            found.append(published(what, rate, claim.says, claim.source, low=low, high=limit))
    before = cells["Elman"]["laboratory"]["first"]["decay_rate"]
    what = "Elman, as drawn: decay rate"
    found.append(published(what, before, "vanishes", "Pascanu et al. 2013", high=-limit))
    enough = int(result["sequences"]) >= MIN_SEQUENCES
    return judged_if(enough, f"{MIN_SEQUENCES:,} sequences", found)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    cells, rows = of_one_task(result["arms"]), []
    for name, claim in CLAIMS.items():
        of = cells[name]
        needed = sequences_to_solve(of, SOLVED)
        solved = np.isfinite(needed)
        for phase, when in (("first", "as drawn"), ("best", "trained")):
            at = of["laboratory"][phase]
            learned = f"{solved.sum()} of {len(solved)}, {np.median(best(of, 'solved')):.2f}"
            rows.append(
                [
                    f"{name}, {when}",
                    spread(at["decay_rate"], "+.4f"),
                    spread(at["horizon"], ".3g"),
                    spread(at["bound_rate"], "+.4f"),
                    spread(at["largest_exponent"], "+.4f"),
                    learned if phase == "best" else "",
                    claim.says if phase == "first" else "",
                ]
            )
    headers = ["", "decay rate", "horizon", "bound's rate", "λ₁", "solved by, part solved"]
    return f"# What papers say of gradients\n\n{table(rows, [*headers, 'the paper says'])}"


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    kinds = {name: claim.kind for name, claim in CLAIMS.items()}
    unit = "held-out sequences answered"
    return {
        "rates": rates(result, kinds),
        "learning": figures.learning(result["arms"], metric="solved", unit=unit, log=False),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
