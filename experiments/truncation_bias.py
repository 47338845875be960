"""How wrong a truncated gradient is, and for how long back it must go to be right.

Claim: BPTT that goes back k2 steps has a biased gradient, and the bias falls with k2 as the
products of step Jacobians do, e^(r k2) with r their decay rate: fast in a contracting network,
slowly in one that is near critical, and not at all in a chaotic one, whose truncated gradient is
close to orthogonal to the full one until k2 is the whole sequence. Training moves r, and the bias
with it. An LSTM's bias falls faster than its ‖∂s_t/∂s_k‖: its longest memories carry little of the
gradient. (A bias can have the wrong sign, too: `experiments.influence_balancing`.)

    python -m experiments.truncation_bias [--text FILE] [--out FOLDER]
    python -m experiments.truncation_bias plot FOLDER

About three minutes on two cores.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np

from experiments.common.checks import Check, at_least, at_most, within
from experiments.common.numbers import Result
from experiments.common.report import paragraph, table
from experiments.common.run_folder import RunFolder
from experiments.common.settings import InputFile, Limits, Positive, Seed, Settings, Size
from experiments.common.study import Study
from experiments.common.text_ensemble import (
    check_held_out,
    initial_params,
    inputs_of,
    members_by_label,
    train_text_ensemble,
)
from experiments.figures import truncation as truncation_figures
from rnn_jax.cell import Cell
from rnn_jax.cells import elman, initializers, lstm, readout
from rnn_jax.errors import check_integer, check_number, invalid
from rnn_jax.gradients import (
    by_lag,
    effective_horizon,
    jacobian_log_norms,
    truncation_error,
)
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks import Task, Text, load_text, next_character, one_hot, streams
from rnn_jax.theory import critical_gain
from rnn_jax.types import Array, Params

PHASES = ("before training", "after training")


@dataclass(frozen=True)
class Config(Settings):
    """The networks, their training, and where their gradients are cut."""

    text: InputFile | None = None
    """Any UTF-8 file; by default the language reference that every Python carries."""
    out: Path = Path("runs/truncation_bias")
    """The run folder."""
    contracting: Positive = 0.5
    """σ_w of the first kind of Elman network; the second is at its critical σ_w."""
    chaotic: Positive = 3.0
    """σ_w of the third."""
    hidden_size: Size = 64
    """H, units of each network."""
    seeds: Size = 8
    """Networks of each kind."""
    T: Annotated[int, Limits(least=8)] = 64
    """Steps of a training window, and of those in which gradients are cut."""
    k2s: tuple[Size, ...] = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 60)
    """Steps that a truncated gradient goes back, from each step's loss."""
    windows: Size = 4
    """Windows of held-out text over which gradients are summed."""
    batch_size: Size = 16
    """Windows in a training batch."""
    steps: Size = 300
    """Number of optimizer steps, by full BPTT."""
    learning_rate: Positive = 0.01
    """Adam's at the start; it falls along a cosine."""
    clip_norm: Positive = 0.5
    """Global norm that training clips gradients to."""
    seed: Seed = 0
    """PRNG seed."""

    def check_together(self) -> None:
        check_integer("k2s", max(self.k2s), most=self.T, remedy="There are T steps to go back.")
        if list(self.k2s) != sorted(self.k2s):
            raise invalid("k2s", self.k2s, "numbers that go up", "Sort them.")
        if sum(2 <= k2 <= self.T / 2 for k2 in self.k2s) < 2:
            remedy = "Rates are taken from these."
            raise invalid("k2s", self.k2s, f"two at least from 2 to T / 2 = {self.T / 2:g}", remedy)
        check_number("chaotic", self.chaotic, above=self.contracting)


def prepare(config: Config) -> tuple[dict[str, object], Text, Task]:
    """Return what is recorded of the text, the text, and the task."""
    text = load_text(config.text)
    check_held_out(text, config.windows * config.T)
    return inputs_of(text), text, next_character(text, T=config.T, batch_size=config.batch_size)


def measure(config: Config, text: Text, task: Task) -> tuple[Result, dict[str, Params]]:
    """Return all numbers, and the trained networks, by name."""
    trained: dict[str, Params] = {}
    symbols, targets = streams(text.held_out[: config.windows * config.T + 1], config.windows)
    probe = one_hot(text, symbols), targets

    result: dict[str, Any] = {"k2s": np.array(config.k2s), "T": np.array(config.T)}
    for number, kinds in enumerate(networks(config, task.output_size)):
        cell = next(iter(kinds.values()))  # they differ in init alone
        key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
        before = initial_params(list(kinds.values()), task.input_size, key, config.seeds)
        name = next(iter(kinds)).partition(" (")[0]
        after, _ = train_text_ensemble(
            cell,
            task,
            before,
            data_key,
            seeds=config.seeds,
            steps=config.steps,
            learning_rate=config.learning_rate,
            clip_norm=config.clip_norm,
            label=f"training {len(kinds) * config.seeds} networks",
            checkpoints=RunFolder(config.out).checkpoints / name,
        )
        members = members_by_label(list(kinds), config.seeds)
        cut = jax.jit(jax.vmap(functools.partial(_cut, config, cell, *probe)))
        for phase, params in zip(PHASES, (before, after), strict=True):
            print(f"cutting gradients {phase}: {', '.join(kinds)}", flush=True)
            measured = jax.device_get(cut(params))
            for label, which in members.items():
                numbers = {name: values[which] for name, values in measured.items()}
                result.setdefault(label, {})[phase] = numbers
        for label, which in members.items():
            trained[label] = jax.tree.map(lambda leaf, which=which: leaf[which], after)
    result["labels"] = np.array(list(trained))
    return result, trained


def networks(config: Config, output_size: int) -> list[dict[str, Cell]]:
    """Return the networks by name, those of one program together.

    Inputs are one-hot and U has unit variance: each unit is driven by N(0, 1).
    """
    H, U = config.hidden_size, initializers.gaussian(1.0)
    critical = float(critical_gain(0.0, 1.0).weight_std)
    gains = {
        f"Elman, contracting (σ_w = {config.contracting:g})": config.contracting,
        f"Elman, critical (σ_w = {critical:.2f})": critical,
        f"Elman, chaotic (σ_w = {config.chaotic:g})": config.chaotic,
    }
    elmans = {
        label: elman(H, recurrent_init=initializers.gaussian(gain * H**-0.5), input_init=U)
        for label, gain in gains.items()
    }
    return [
        {label: readout(cell, output_size) for label, cell in kinds.items()}
        for kinds in (elmans, {"LSTM": lstm(H, input_init=U)})
    ]


def _cut(config: Config, cell: Cell, xs: Array, targets: Array, params: Params) -> dict[str, Array]:
    """Return errors of one network's gradient of W by BPTT(k2; 1), and its Jacobian products."""
    error = truncation_error(
        cell, params, xs, targets, softmax_cross_entropy, k1=1, k2s=config.k2s, strategy="scan"
    )
    left = by_lag(jacobian_log_norms(cell, params, xs[:, 0]))
    return {
        "error": error.param_relative_error.cell.W,
        "cosine": error.param_cosine.cell.W,
        "log_norm": left,
        "horizon": effective_horizon(left, factor=10.0),
    }


FLOOR = 1e-5
"""Errors below this are rounding, in float32."""


def rates(result: Result, label: str, phase: str) -> tuple[float, float]:
    """Return nats per step of W's error and of ‖∂h_t/∂h_k‖, medians over seeds, at the same lags.

    Least squares over those of `k2s` from 2 to T / 2 at which the error is above rounding.
    """
    measured = result[label][phase]
    k2s, error = result["k2s"], np.median(measured["error"], 0)
    use = (k2s >= 2) & (k2s <= int(result["T"]) / 2) & (error > FLOOR)
    log_norm = np.median(measured["log_norm"], 0)
    return slope(k2s[use], np.log(error[use])), slope(k2s[use], log_norm[k2s[use]])


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the least-squares slope of y over x."""
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    k2s, T = result["k2s"], int(result["T"])
    contracting, critical, chaotic, lstms = result["labels"]
    fall = {
        f"{label}, {phase}": rates(result, label, phase)
        for label in (contracting, critical)
        for phase in PHASES
    }
    middle = k2s <= T / 2
    return [
        *(
            # A norm is that of the best direction, which falls a little slower than a typical one.
            within(f"{kind}: error, nats per step", error, norm, 0.03 + 0.15 * abs(norm))
            for kind, (error, norm) in fall.items()
        ),
        at_most(
            "LSTM: nats per step of the error less those of ‖∂h_t/∂h_k‖, largest",
            max(error - norm for error, norm in (rates(result, lstms, p) for p in PHASES)),
            0,
        ),
        at_least(
            "chaotic: relative error at any k2 ≤ T / 2, median over seeds, smallest",
            np.median(result[chaotic][PHASES[0]]["error"], 0)[middle].min(),
            0.5,
        ),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    k2s, T, rows = result["k2s"], int(result["T"]), []
    middle = int(np.argmin(np.abs(k2s - T / 4)))
    for label in result["labels"]:
        for phase in PHASES:
            measured = result[label][phase]
            rows.append(
                [
                    label.removeprefix("Elman, "),
                    phase.partition(" ")[0],
                    *(f"{of_both:+.3f}" for of_both in rates(result, label, phase)),
                    f"{np.median(measured['horizon']):.1f}",
                    f"{np.median(measured['error'][:, middle]):.2g}",
                    f"{np.median(measured['cosine'][:, middle]):.3f}",
                ]
            )
    at = f"k2 = {k2s[middle]}"
    headers = ["network", "", "error, rate", "‖∂s_t/∂s_k‖, rate", "tenth", f"error, {at}", "cosine"]
    explained = paragraph(
        "Elman networks by their σ_w, and LSTMs: medians over seeds. Error: that of W's gradient, "
        "relative to full BPTT's; cosine: with "
        f"full BPTT's, at {at}. Rates: nats per step of k2 and of t − k, over 2 to {T // 2} steps, "
        f"errors above {FLOOR:g}. Tenth: steps until a tenth of ‖∂s_t/∂s_k‖ is left, s the whole "
        "state, (c, h) of an LSTM."
    )
    return f"# Truncation bias\n\n{table(rows, headers)}\n\n{explained}"


def plot(result: Result) -> dict[str, truncation_figures.Figure]:
    """Return every figure, from the result alone."""
    panels = {
        str(label): {
            phase: {
                "error": result[label][phase]["error"],
                "cosine": result[label][phase]["cosine"],
                "rate": np.array(rates(result, label, phase)[1]),
            }
            for phase in PHASES
        }
        for label in result["labels"]
    }
    return {"truncation_bias": truncation_figures.truncation_bias(result["k2s"], panels)}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, prepare, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
