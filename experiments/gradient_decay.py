"""Where gradients go in recurrent networks that learn to read.

Claim: ‖∂h_t/∂h_k‖₂ of an Elman network falls or grows exponentially in the lag t − k, always below
(λ_W λ_φ)^(t−k) (Pascanu, Mikolov and Bengio 2013); training moves the rate, and an LSTM, held
against Π ‖J_i‖, keeps gradients alive for longer. An ensemble of Elman networks at three gains and
of LSTMs is trained on text, character by character, with and without clipping, and measured before
and after.

    python -m experiments.gradient_decay [--text FILE] [--out FOLDER]
    python -m experiments.gradient_decay --cell gru
    python -m experiments.gradient_decay --cell my_package.my_module:my_cell
    python -m experiments.gradient_decay plot FOLDER

With --cell the study is of that cell alone: one of `rnn_jax.cells.CELLS`, or what a function of
yours, `hidden_size -> Cell`, returns. What is measured is ∂s_t/∂s_k of the whole state s: h of an
Elman network, (c, h) together of an LSTM. States count from 0, the initial one: step t makes s_t of
s_{t−1}, and the loss E_t is read from s_t.

About four minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import rnn_jax
from experiments.common.cell_named import cell_named
from experiments.common.checks import Check, at_least, at_most, judged_if, within
from experiments.common.norms import measure_norms, state_letters
from experiments.common.numbers import Result
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
from experiments.tables import gradient_decay as gradient_decay_tables
from rnn_jax import plotting
from rnn_jax.cell import Cell
from rnn_jax.cells import elman, initializers, lstm, readout
from rnn_jax.errors import invalid
from rnn_jax.losses import per_step, softmax_cross_entropy
from rnn_jax.tasks import (
    Task,
    Text,
    load_text,
    next_character,
    one_hot,
    streams,
    unigram_entropy,
)
from rnn_jax.theory import mean_field
from rnn_jax.training import over_ensemble
from rnn_jax.types import Array, Key, Params

ARMS = ("clipped", "not clipped")
PHASES = ("before training", "after training")
GAINS = (0.5, 1.0, 2.0)
ELMAN = "Elman, gain "
MIN_LAGS, MIN_STEPS, MIN_SEEDS = 30, 200, 8
"""T, steps of training and networks of each kind, without which some claims are not judged."""


@dataclass(frozen=True)
class Config(Settings):
    """The networks and their training."""

    text: InputFile | None = None
    """Any UTF-8 file; by default the language reference that every Python carries."""
    out: Path = Path("runs/gradient_decay")
    """The run folder."""
    cell: str | None = None
    """Study this cell alone: a name of `cells.CELLS`, or `package.module:factory`."""
    gains: tuple[Positive, ...] | None = None
    """Every singular value of an Elman network's W at the start; 0.5, 1 and 2 by default. 1 is
    critical for tanh. Not together with --cell, whose weights start as the cell has them start."""
    hidden_size: Size = 64
    """H, units of each network."""
    seeds: Size = 16
    """Networks of each kind, all in one program."""
    T: Annotated[int, Limits(least=2)] = 40
    """Steps of a training window, and of the window in which gradients are measured."""
    batch_size: Size = 16
    """Windows in a batch, drawn for each network apart."""
    steps: Size = 350
    """Number of optimizer steps."""
    learning_rate: Positive = 0.03
    """Adam's at the start; it falls along a cosine."""
    clip_norm: Positive = 0.5
    """Global norm that gradients are clipped to, in the clipped arm."""
    seed: Seed = 0
    """PRNG seed."""

    def check_together(self) -> None:
        if self.cell is not None and self.gains is not None:
            raise invalid(
                "gains",
                f"{self.gains} beside --cell {self.cell}",
                "one of the two",
                "Gains are of the Elman networks that are studied without --cell.",
            )
        labels = [f"{gain:g}" for gain in self.gains or ()]
        if len(set(labels)) < len(labels):
            raise invalid("gains", self.gains, "gains that differ in six digits", "Leave one out.")


class Group(NamedTuple):
    """Networks of one architecture, trained together as members of one program.

    `labels` names the kinds of network in it; members are ordered kind by kind, seed by seed.
    """

    name: str
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


def groups(config: Config, size: int) -> tuple[Group, ...]:
    """Return the kinds of network that are studied; inputs are one-hot, so U has unit variance."""
    H, U = config.hidden_size, initializers.gaussian(1.0)
    if config.cell is not None:
        return (Group("cell", (config.cell,), (readout(cell_named(config.cell, H), size),)),)
    gains = config.gains or GAINS
    elmans = tuple(
        readout(elman(H, recurrent_init=initializers.orthogonal(gain), input_init=U), size)
        for gain in gains
    )
    return (
        Group("elman", tuple(f"{ELMAN}{gain:g}" for gain in gains), elmans),
        Group("lstm", ("LSTM",), (readout(lstm(H, input_init=U), size),)),
    )


def prepare(config: Config) -> tuple[dict[str, object], Text, Task, tuple[Group, ...]]:
    """Return what is recorded of the text, the text, the task and what is studied."""
    text = load_text(config.text)
    task = next_character(text, T=config.T, batch_size=config.batch_size)
    check_held_out(text, config.T)
    return inputs_of(text), text, task, groups(config, task.output_size)


def measure(
    config: Config, text: Text, task: Task, studied: tuple[Group, ...]
) -> tuple[Result, dict[str, Params]]:
    """Return all numbers, and the trained networks, "label, arm" -> `[seeds, ...]`."""
    print(f"Training on {text.name}: {len(text):,} characters, {len(text.vocabulary)} distinct.")
    networks: dict[str, Params] = {}
    result: dict[str, Any] = {"unigram_entropy": np.array(unigram_entropy(text.held_out))}
    for number, group in enumerate(studied):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number), 2)
        by_label, trained = _train_and_measure(config, group, text, task, *keys)
        result |= by_label
        networks |= trained
    result["clip_norm"] = np.array(config.clip_norm)
    result["labels"] = np.array([label for group in studied for label in group.labels])
    return result, networks


def _train_and_measure(
    config: Config, group: Group, text: Text, task: Task, key: Key, data_key: Key
) -> tuple[dict[str, Result], dict[str, Params]]:
    """Return, of each label in a group, its numbers by arm and by phase; and the networks."""
    members = members_by_label(group.labels, config.seeds)
    count = len(group.labels) * config.seeds
    cell = group.cells[0]  # they differ in init alone
    before = initial_params(group.cells, task.input_size, key, config.seeds)

    numbers: dict[str, dict[str, np.ndarray]] = {}
    trained: dict[str, Params] = {}
    for arm, clip_norm in zip(ARMS, (config.clip_norm, None), strict=True):
        trained[arm], metrics = train_text_ensemble(
            cell,
            task,
            before,
            data_key,
            seeds=config.seeds,
            steps=config.steps,
            learning_rate=config.learning_rate,
            clip_norm=clip_norm,
            label=f"{group.name}, {count} networks, {arm}",
            checkpoints=RunFolder(config.out).checkpoints / f"{group.name} {arm}",
        )
        evaluate = over_ensemble(functools.partial(_bits_per_character, cell, text), count)
        numbers[arm] = {name: values.T for name, values in metrics.items()}
        numbers[arm]["bits_per_character"] = np.asarray(evaluate(trained[arm]))

    # The held-out window in which every network is measured.
    window = jnp.asarray(text.held_out[: config.T + 1])
    xs, targets = one_hot(text, window[:-1]), window[1:]
    for phase, params in zip(PHASES, (before, trained["clipped"]), strict=True):
        print(f"measuring {', '.join(group.labels)} {phase}", flush=True)
        numbers[phase] = measure_norms(cell, xs, targets, params)
    state = np.array(state_letters(cell, jax.tree.map(lambda leaf: leaf[0], before)))
    part = lambda tree, which: jax.tree.map(lambda leaf: leaf[which], tree)
    results: dict[str, Result] = {
        label: {"state": state, **part(numbers, which)} for label, which in members.items()
    }
    networks = {
        f"{label}, {arm}": part(params, which)
        for arm, params in trained.items()
        for label, which in members.items()
    }
    return results, networks


def _bits_per_character(cell: Cell, text: Text, params: Params) -> Array:
    """Return the loss on the held-out part, read as parallel streams from the initial state."""
    symbols, targets = streams(text.held_out, count=min(64, len(text.held_out) // 2))
    ys = rnn_jax.unroll(cell, params, one_hot(text, symbols))[1]
    return per_step(softmax_cross_entropy, ys, targets).mean() / np.log(2)


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number; that of Elman networks and LSTMs where they are."""
    by_label = {str(label): result[label] for label in result["labels"]}
    elmans = {label: of for label, of in by_label.items() if label.startswith(ELMAN)}
    seeds, steps = next(iter(by_label.values()))[ARMS[0]]["loss"].shape
    many = functools.partial(judged_if, seeds >= MIN_SEEDS, f"{MIN_SEEDS} seeds")
    trained = functools.partial(judged_if, steps >= MIN_STEPS, f"{MIN_STEPS} steps of training")
    before, after = PHASES
    return [
        *_bounds([of[phase] for of in by_label.values() for phase in PHASES]),
        *(check for label, of in elmans.items() for check in _start(label, of[before])),
        *many([_straight(f"{label}, {before}", of[before]) for label, of in elmans.items()]),
        *many(trained([_straight(f"{label}, {after}", of[after]) for label, of in elmans.items()])),
        *trained([_learned(by_label, float(result["unigram_entropy"]))]),
        *many(trained([_moved(by_label)])),
        *trained(_lasting(by_label)),
    ]


def _bounds(measured: Sequence[Result]) -> list[Check]:
    """Claim that ‖∂s_t/∂s_k‖ ≤ Π‖J_i‖ ≤ (λ_W λ_φ)^(t−k), the latter where it is a theorem."""
    violations = lambda bound, of: sum(int(part[f"{bound}_violations"].sum()) for part in of)
    found = [at_most("pairs (t, k) above Π‖J_i‖", violations("product_bound", measured), 0)]
    powers = [part for part in measured if "power_bound" in part]
    if powers:
        t, k = np.tril_indices(powers[0]["power_bound"].shape[-1])
        over = [part["product_bound"][:, t, k] - part["power_bound"][:, t, k] for part in powers]
        found += [
            at_most("pairs (t, k) above (λ_W λ_φ)^(t−k)", violations("power_bound", powers), 0),
            at_most("Π‖J_i‖ over (λ_W λ_φ)^(t−k), nats, largest", np.max(over), 1e-3),
        ]
    return found


def _start(label: str, norms: Result) -> list[Check]:
    """Claim that an Elman network starts with λ_W λ_φ = its gain, and decays by ½ ln χ a step."""
    gain, T = float(label.removeprefix(ELMAN)), norms["measured"].shape[-1] - 1
    # Inputs are one-hot and U has unit variance: each unit is driven by N(0, 1).
    with jax.enable_x64(True):
        half_log_chi = float(mean_field(gain, 0.0, 1.0).largest_exponent)
    power, rate = np.median(norms["power_bound"][:, 1, 0]), np.median(norms["decay"])
    return [
        within(f"{label}: ln (λ_W λ_φ), against ln gain", power, np.log(gain), 1e-5),
        *judged_if(
            T >= MIN_LAGS,
            f"T of {MIN_LAGS}",
            [within(f"{label}: nats per step, against ½ ln χ", float(rate), half_log_chi, 0.06)],
        ),
    ]


def _straight(title: str, norms: Result) -> Check:
    """Claim that ln ‖∂s_t/∂s_k‖ falls or grows along a straight line in t − k."""
    medians = plotting.band_by_lag(norms["measured"], (50,))[1:, 0]
    lags = np.arange(len(medians))
    off = medians - np.polynomial.Polynomial.fit(lags, medians, 1)(lags)
    # A sum over steps strays from its line as a random walk does, by √T.
    return at_most(f"{title}: nats off a line, r.m.s.", off.std(), 0.1 * len(lags) ** 0.5)


def _learned(by_label: Mapping[str, Result], unigram_entropy: float) -> Check:
    """Claim that every kind of network learns, with clipping and without."""
    bits = [np.median(of[arm]["bits_per_character"]) for of in by_label.values() for arm in ARMS]
    return at_most(
        "bits per character / unigram entropy, largest", max(bits) / unigram_entropy, 0.7
    )


def _moved(by_label: Mapping[str, Result]) -> Check:
    """Claim that training moves the rate of every kind of network."""
    before, after = ([of[phase]["decay"] for of in by_label.values()] for phase in PHASES)
    known = np.isfinite(before) & np.isfinite(after)  # -inf: nothing is left at lag 2
    moved = np.where(known, after, 0) - np.where(known, before, 0)
    spread = moved.std(1, ddof=min(1, moved.shape[1] - 1)) / moved.shape[1] ** 0.5
    errors = np.abs(moved.mean(1)) / np.maximum(spread, 1e-30)
    return at_least("rates moved by training, in standard errors, smallest", errors.min(), 4)


def _lasting(by_label: Mapping[str, Result]) -> list[Check]:
    """Claim that gradients of an LSTM last longer than those of any Elman network."""
    rates = {label: np.median(of[PHASES[1]]["decay"]) for label, of in by_label.items()}
    elmans = [rate for label, rate in rates.items() if label.startswith(ELMAN)]
    if "LSTM" not in rates or not elmans:
        return []
    longer = rates["LSTM"] - max(elmans)
    return [at_least("LSTM after training: nats per step over Elman's", longer, 0)]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    return gradient_decay_tables.decay(result, ARMS, PHASES)


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    labels = [str(label) for label in result["labels"]]
    # Spaces that do not break: "s = h" stays on one line.
    title = lambda label: f"{label}, s\u00a0=\u00a0{result[label]['state']}"
    by_phase = lambda of: {
        title(label): {phase: of(result[label][phase]) for phase in PHASES} for label in labels
    }
    by_arm = lambda of: {label: {arm: of(result[label][arm]) for arm in ARMS} for label in labels}
    return {
        "decay": plotting.decay(by_phase(lambda norms: norms)),
        "loss_to_state": plotting.heatmaps(
            by_phase(lambda norms: np.median(norms["loss_to_state"], axis=0))
        ),
        "learning_curves": plotting.learning_curves(
            by_arm(lambda metrics: metrics["loss"].T / np.log(2)),
            baseline=float(result["unigram_entropy"]),
            unit="bits per character",
            baseline_label="unigram entropy",
        ),
        "gradient_norms": plotting.gradient_norms(
            by_arm(lambda metrics: metrics["grad_norm"].T),
            clip_norm=result.get("clip_norm"),  # which runs of earlier versions have not
        ),
    }


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, prepare, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
