"""Follow a state: which cells count modulo two and multiply permutations, and how far beyond.

Claim: a linear recurrence whose factors lie in [0, 1] can forget, and cannot flip: trained on the
parity of short sequences it guesses on longer ones. With factors in [−1, 1], or complex ones, that
the input chooses, it follows parity at any length; and a gated nonlinear network, the LSTM, follows
the product of permutations of three things as well. Each network learns the state at every step of
short sequences, and is asked for the last state of longer ones. After
Grazzi et al. (2024, arXiv 2411.12537), and Merrill, Petty and Sabharwal (2024, arXiv 2404.08819).

    python -m experiments.state_tracking [--setting paper] [--seeds 6] [--out FOLDER]
    python -m experiments.state_tracking plot FOLDER

Not reached: the linear cell with factors in [−1, 1] knows parity over all that it was trained on,
and less of it four times further: a learned factor is never quite −1, and what is missing adds up.

About five minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.common import arms, comparison
from experiments.common.checks import Check, judged_if, published
from experiments.common.comparison import Comparison, trials_of
from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.settings import Positive, Size, by_setting
from experiments.common.study import Study
from experiments.common.task_ensemble import held_out_key
from experiments.figures import arms as figures
from experiments.figures.state_tracking import accuracies
from experiments.tables import arms as tables
from rnn_jax.cell import Cell, Complex
from rnn_jax.cells import (
    InputParams,
    elman,
    initializers,
    linear,
    lstm,
    min_gru,
    readout,
    rg_lru,
    selective,
)
from rnn_jax.tasks import Task, parity, s3
from rnn_jax.tasks.task import last_step_only
from rnn_jax.training import evaluate
from rnn_jax.types import Array, Key, Params

SOLVED = 0.99
MIN_SEQUENCES = 100_000
"""Sequences without which the claim is not judged."""
FACTORS = {
    "in [0, 1]": lambda a, theta: jax.nn.sigmoid(a),
    "in [−1, 1]": lambda a, theta: jnp.tanh(a),
    "complex": lambda a, theta: jax.nn.sigmoid(a) * jnp.exp(jax.lax.complex(0 * theta, theta)),
}
"""λ of a linear recurrence, of two pre-activations."""


def linear_of(factors: str, hidden_size: int) -> Cell:
    """Return h_t = λ(x_t) ⊙ h_{t-1} + U_n x_t + b_n, whose factors λ lie where `factors` says."""
    H, factor = hidden_size, FACTORS[factors]
    is_complex = factors == "complex"

    def init(key: Key, input_size: int) -> InputParams:
        U = initializers.gaussian(1.0)(key, (4 * H, input_size), jnp.float32)
        return InputParams(U=U, b=jnp.zeros(4 * H, jnp.float32))

    def coefficients(_: Any, a: Array, theta: Array, re: Array, im: Array) -> tuple[Array, Array]:
        return factor(a, theta), jax.lax.complex(re, im) if is_complex else re

    def start(params: Params, batch: tuple[int, ...] = ()) -> Any:
        zeros = jnp.zeros((*batch, H), jnp.float32)
        return Complex(re=zeros, im=zeros) if is_complex else zeros

    def emit(_: Any, h: Array, *drive: Array) -> Array:
        return jnp.concatenate([h.real, h.imag], -1) if is_complex else h

    return linear(
        init,
        start,
        U=lambda params: params.U,
        drive=lambda params, Ux: tuple(jnp.split(Ux + params.b, 4, -1)),
        coefficients=coefficients,
        emit=emit,
    )


LINEAR = {f"linear, λ {factors}": functools.partial(linear_of, factors) for factors in FACTORS}
CELLS: dict[str, Callable[[int], Cell]] = {
    "minGRU": min_gru,
    "RG-LRU": rg_lru,
    "Mamba": functools.partial(selective, state_size=4),
    **LINEAR,
    "Elman": elman,
    "LSTM": lstm,
}
FORGETFUL = ("minGRU", "RG-LRU", "Mamba", next(iter(LINEAR)))
"""Linear cells whose factors lie in [0, 1]."""
FLIPPING = tuple(LINEAR)[1:]
TASKS: dict[str, Callable[..., Task]] = {
    "parity": functools.partial(parity, running=True),
    "S₃": s3,
}
GRAZZI, MERRILL = "Grazzi et al. 2024", "Merrill, Petty and Sabharwal 2024"


@dataclass(frozen=True)
class Config(Comparison):
    """The tasks, the networks and their training."""

    out: Path = Path("runs/state_tracking")
    """The run folder."""
    T: Size = by_setting(reduced=20, paper=40)
    """Steps of the sequences that train."""
    longer: tuple[Size, ...] = by_setting(reduced=(1, 2, 4), paper=(1, 2, 4, 8))
    """How many times as long those are that test."""
    batch_size: Size = 64
    """Sequences in a batch."""
    sequences: Size = by_setting(reduced=100_000, paper=1_000_000)
    """Most sequences that a network reads."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine."""


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what each network learned, and how often its last state is right at each length."""
    trials = {
        name: trials_of(make, (config.T,), config.batch_size, evaluated=(500, 4), solved=0.999)
        for name, make in TASKS.items()
    }
    rates = dict.fromkeys(CELLS, config.learning_rate)
    learned, networks = comparison.measure(config, trials, CELLS, rates)
    lengths = [n * config.T for n in config.longer]
    accuracy: dict[str, dict[str, np.ndarray]] = {}
    for (task, cell, length), _ in arms.each(learned):
        print(f"{task}, {cell}: sequences of {lengths[0]} to {lengths[-1]} steps", flush=True)
        trained = networks[f"{task}, {cell}, {length}, best"]
        whole = readout(CELLS[cell](config.hidden_size), TASKS[task]().output_size)
        right = [_right_at(TASKS[task], whole, trained, T) for T in lengths]
        accuracy.setdefault(task, {})[cell] = np.stack(right)
    return {
        "arms": learned,
        "lengths": np.array(lengths),
        "accuracy": accuracy,
        "guess": {name: np.array(1 / make().output_size) for name, make in TASKS.items()},
        "sequences": np.array(config.sequences),
    }, networks


def _right_at(make: Callable[..., Task], cell: Cell, networks: Params, T: int) -> np.ndarray:
    """Return the part of 2,000 sequences whose last state each network says, `[seeds]`."""
    task = make(T=T, batch_size=500)._replace(mask=last_step_only)
    of_one = lambda params: evaluate(cell, params, task, key=held_out_key(), batches=4).solved
    return np.asarray(jax.jit(lambda networks: jax.lax.map(of_one, networks))(networks))


def checks(result: Result) -> list[Check]:
    """Return the papers' results, number by number."""
    times = [int(T // result["lengths"][0]) for T in result["lengths"]]
    if 4 not in times:
        return []
    at = times.index(4)
    right = lambda task, cell: result["accuracy"][task][cell][at]
    there = f"{result['lengths'][at]} steps"
    found = [
        published(
            f"parity of {there}, {cell}: right",
            right("parity", cell),
            "chance, 0.5",
            GRAZZI,
            low=0.45,
            high=0.55,
        )
        for cell in FORGETFUL
    ]
    found += [
        published(
            f"parity of {there}, {cell}: right", right("parity", cell), "1", GRAZZI, low=SOLVED
        )
        for cell in (*FLIPPING[:1], "LSTM")
    ]
    best = np.max([right("parity", cell) for cell in CELLS], 0)
    found.append(published(f"parity of {there}, best cell: right", best, "1", GRAZZI, low=SOLVED))
    claim = f"S₃, {there}, LSTM: right"
    found.append(published(claim, right("S₃", "LSTM"), "1", MERRILL, low=SOLVED))
    for cell in FORGETFUL:
        claim = f"S₃, {there}, {cell}: right"
        found.append(published(claim, right("S₃", cell), "falls with T", MERRILL, high=0.5))
    return judged_if(
        int(result["sequences"]) >= MIN_SEQUENCES, f"{MIN_SEQUENCES:,} sequences", found
    )


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    rows = [
        [f"{task}, {cell}", *(spread(right, ".3f") for right in by_length)]
        for task, cells in result["accuracy"].items()
        for cell, by_length in cells.items()
    ]
    headers = ["last state right", *(f"T = {T}" for T in result["lengths"])]
    return (
        f"# State tracking\n\n{table(rows, headers)}\n\n## Training\n\n"
        f"{tables.learned(result['arms'], 0.999)}\n\n## Gradients\n\n"
        f"{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {
        "accuracy": accuracies(result),
        "learning": figures.learning(
            result["arms"], metric="solved", unit="sequences right at every step", log=False
        ),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
