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
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import rnn_jax
from experiments.common.cell_named import cell_named
from experiments.common.command_line import command_line
from experiments.common.held_out import check_held_out
from experiments.common.progress import training_progress
from experiments.common.report import paragraph, table
from experiments.common.run_folder import Result, RunFolder
from experiments.common.settings import InputFile, Limits, Positive, Seed, Settings, Size
from rnn_jax import plotting
from rnn_jax.cell import Cell
from rnn_jax.cells import elman, initializers, lstm, readout
from rnn_jax.errors import invalid
from rnn_jax.gradients import (
    check_bound,
    decay_rate,
    decompose,
    norm_bound,
    power_bound,
    product_bound,
    product_log_norms,
    state_blocks,
    step_jacobians,
)
from rnn_jax.losses import per_step
from rnn_jax.tasks import (
    Task,
    Text,
    load_text,
    next_character,
    one_hot,
    streams,
    unigram_entropy,
)
from rnn_jax.training import create_train_state, fit, make_train_step, over_ensemble
from rnn_jax.types import Key, Params

ARMS = ("clipped", "not clipped")
PHASES = ("before training", "after training")
BOUNDS = ("power_bound", "product_bound")
GAINS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Config(Settings):
    """What is trained and measured."""

    text: InputFile | None = None
    """Any UTF-8 file; by default the language reference that every Python carries."""
    out: Path = Path("runs/gradient_decay")
    """The run folder."""
    cell: str | None = None
    """Study this cell alone: a name of `cells.CELLS`, or `package.module:factory`."""
    gains: tuple[Positive, ...] | None = None
    """Of the Elman networks: every singular value of W at the start; 0.5, 1 and 2 by default. 1 is
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
    """Of training."""
    learning_rate: Positive = 0.03
    """Adam's at the start; it falls along a cosine."""
    clip_norm: Positive = 0.5
    """Global norm that gradients are clipped to, in the clipped arm."""
    seed: Seed = 0
    """Of everything random."""

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
    """The kinds of network that are studied; inputs are one-hot, so U has unit variance."""
    H, U = config.hidden_size, initializers.gaussian(1.0)
    if config.cell is not None:
        return (Group("cell", (config.cell,), (readout(cell_named(config.cell, H), size),)),)
    gains = config.gains or GAINS
    elmans = tuple(
        readout(elman(H, recurrent_init=initializers.orthogonal(gain), input_init=U), size)
        for gain in gains
    )
    return (
        Group("elman", tuple(f"Elman, gain {gain:g}" for gain in gains), elmans),
        Group("lstm", ("LSTM",), (readout(lstm(H, input_init=U), size),)),
    )


def main(config: Config) -> Result:
    """Train, measure, and leave a run folder behind. Returns what numbers.npz holds."""
    config.check()
    text = load_text(config.text)
    task = next_character(text, T=config.T, batch_size=config.batch_size)
    check_held_out(text, config.T)
    studied = groups(config, task.output_size)
    with RunFolder(config.out).running(config, _provenance(text)) as folder:
        result, trained = _measured(config, studied, task, text, folder)
        folder.conclude(result, summarize, plot, trained)
    return result


def _measured(
    config: Config, studied: tuple[Group, ...], task: Task, text: Text, folder: RunFolder
) -> tuple[dict[str, np.ndarray], dict[str, Params]]:
    """All numbers, and the trained networks: "label, arm" -> parameters, the seeds in front."""
    print(f"Training on {text.name}: {len(text):,} characters, {len(text.vocabulary)} distinct.")
    trained: dict[str, Params] = {}
    result: dict[str, np.ndarray] = {"unigram_entropy": np.array(unigram_entropy(text.held_out))}
    for number, group in enumerate(studied):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number), 2)
        by_label, networks = _study(config, group, task, text, folder, *keys)
        trained |= networks
        for label, numbers in by_label.items():
            result |= {f"{label}/{name}": value for name, value in numbers.items()}
    result["labels"] = np.array([label for group in studied for label in group.labels])
    return result, trained


def _study(
    config: Config, group: Group, task: Task, text: Text, folder: RunFolder, key: Key, data_key: Key
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Params]]:
    """Train and measure one group: label -> name -> array with the seeds in front; and networks."""
    members = len(group.labels) * config.seeds
    cell = group.cells[0]  # they differ in init alone
    before = _initial_params(config, group, task, key)
    # Every kind of network sees the same batches, seed by seed.
    data_keys = jnp.tile(jax.random.split(data_key, config.seeds), len(group.labels))

    rows = [slice(i * config.seeds, (i + 1) * config.seeds) for i in range(len(group.labels))]
    numbers: dict[str, np.ndarray] = {}
    networks: dict[str, Params] = {}
    for arm, clip_norm in zip(ARMS, (config.clip_norm, None), strict=True):
        params, metrics = _train(
            config, group, cell, task, folder, arm, clip_norm, before, data_keys
        )
        evaluate = over_ensemble(functools.partial(_bits_per_character, cell, text), members)
        numbers |= {f"{arm}/{name}": values.T for name, values in metrics.items()}
        numbers[f"{arm}/bits_per_character"] = np.asarray(evaluate(params))
        for label, row in zip(group.labels, rows, strict=True):
            networks[f"{label}, {arm}"] = jax.tree.map(lambda leaf, row=row: leaf[row], params)
        if arm == "clipped":
            trained = params

    xs, targets = _probe(config, text)
    for phase, params in zip(PHASES, (before, trained), strict=True):
        print(f"measuring {', '.join(group.labels)} {phase}", flush=True)
        measured = _measure(cell, xs, targets, params)
        numbers |= {f"{phase}/{name}": values for name, values in measured.items()}
    state = np.array(state_letters(cell, jax.tree.map(lambda leaf: leaf[0], before)))
    by_label = {
        label: {"state": state} | {name: values[row] for name, values in numbers.items()}
        for label, row in zip(group.labels, rows, strict=True)
    }
    return by_label, networks


def state_letters(cell: Cell, params: Params) -> str:
    """Return the names of the state's parts, as "(c, h)"; "h" for a state without."""
    parts = list(state_blocks(cell, params))
    leaves = [name for name in parts if not any(p.startswith(f"{name}.") for p in parts)]
    if len(leaves) > 4:
        return f"({', '.join(leaves[:2])}, .. {leaves[-1]})"
    return f"({', '.join(leaves)})" if leaves else "h"


def _initial_params(config: Config, group: Group, task: Task, key: Key) -> Params:
    """Parameters of every member, kind by kind; the kinds of one group share their draws."""
    keys = jax.random.split(key, config.seeds)
    kinds = [
        jax.jit(jax.vmap(functools.partial(cell.init, input_size=task.input_size)))(keys)
        for cell in group.cells
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kinds)


def _train(
    config: Config,
    group: Group,
    cell: Cell,
    task: Task,
    folder: RunFolder,
    arm: str,
    clip_norm: float | None,
    params: Params,
    data_keys: Key,
) -> tuple[Params, dict[str, np.ndarray]]:
    """One arm of one group: final parameters, and metrics `[steps, members]`."""
    members = len(data_keys)
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.02)
    optimizer = optax.adam(schedule)

    def loss(params, batch):
        xs, targets = batch
        return per_step(task.loss, rnn_jax.unroll(cell, params, xs)[1], targets).mean()

    train_step = make_train_step(loss, optimizer, clip_norm=clip_norm)
    state, metrics = fit(
        over_ensemble(lambda state, key: train_step(state, task.batch(key, state.step)), members),
        jax.vmap(lambda p: create_train_state(p, optimizer))(params),
        batch_at=lambda step: data_keys,
        steps=config.steps,
        **training_progress(f"{group.name}, {members} networks, {arm}", config.steps),
        checkpoint_dir=folder.checkpoints / f"{group.name} {arm}",
    )
    # Fetched, so that what follows runs on one device: see over_ensemble on jnp.linalg.
    return jax.device_get(state.params), metrics


def _bits_per_character(cell: Cell, text: Text, params: Params) -> jax.Array:
    """On the held-out part, read as parallel streams from the initial state."""
    symbols, targets = streams(text.held_out, count=min(64, len(text.held_out) // 2))
    xs = one_hot(text, symbols)
    task_loss = rnn_jax.losses.softmax_cross_entropy
    return per_step(task_loss, rnn_jax.unroll(cell, params, xs)[1], targets).mean() / np.log(2)


def _probe(config: Config, text: Text) -> tuple[jax.Array, jax.Array]:
    """The held-out window in which every network is measured: xs `[T, I]`, targets `[T]`."""
    window = jnp.asarray(text.held_out[: config.T + 1])
    return one_hot(text, window[:-1]), window[1:]


def _measure(
    cell: Cell, xs: jax.Array, targets: jax.Array, params: Params
) -> dict[str, np.ndarray]:
    """All that is measured of an ensemble: name -> array with the members in front.

    One program for each batch of singular values, and one at a time: see `linalg.spectral_norm`.
    """

    def ensemble(function):
        program = jax.jit(jax.vmap(function))
        return lambda *args: jax.block_until_ready(program(*args))

    jacobians = ensemble(lambda p: step_jacobians(cell, p, xs))(params)
    log_norms = ensemble(product_log_norms)(jacobians)
    bounds = {"product_bound": ensemble(product_bound)(jacobians)}
    if cell.recurrence is not None:
        lambda_W, lambda_phi = ensemble(functools.partial(norm_bound, cell))(params)
        bounds["power_bound"] = ensemble(functools.partial(power_bound, T=len(xs)))(
            lambda_W, lambda_phi
        )

    @ensemble
    def loss_to_state(p):
        return decompose(cell, p, xs, targets, rnn_jax.losses.softmax_cross_entropy).state_log_norms

    measured = {
        "measured": log_norms,
        "decay": ensemble(_rate)(log_norms),
        "loss_to_state": loss_to_state(params),
    }
    state_size = jacobians.shape[-1]
    for name, bound in bounds.items():
        check = ensemble(functools.partial(check_bound, state_size=state_size))(log_norms, bound)
        measured |= {
            name: bound,
            f"{name}_violations": check.violations,
            f"{name}_slack": jnp.nanmedian(check.slack, axis=(1, 2)),
        }
    return jax.device_get(measured)


def _rate(log_norms: jax.Array) -> jax.Array:
    """`decay_rate`, and -inf where all is gone before a rate can be seen: at the second lag."""
    lag = jnp.subtract.outer(*[jnp.arange(len(log_norms))] * 2)
    gone = jnp.all(jnp.where(lag >= 2, log_norms, -jnp.inf) == -jnp.inf)
    return jnp.where(gone, -jnp.inf, decay_rate(log_norms))


def summarize(result: Result) -> str:
    """The closing tables, in Markdown."""
    labels = [str(label) for label in result["labels"]]

    def spread(label, name):
        low, middle, high = np.percentile(result[f"{label}/{name}"], (10, 50, 90))
        return f"{middle:.3f} ({low:.3f}–{high:.3f})"

    def median(label, name, shown):
        name = f"{label}/{name}"
        return format(np.median(result[name]), shown) if name in result else "–"

    def violations(label, bound):
        key = [f"{label}/{phase}/{bound}_violations" for phase in PHASES]
        return sum(int(result[k].sum()) for k in key) if key[0] in result else "–"

    training = [
        [
            label,
            *(spread(label, f"{arm}/bits_per_character") for arm in ARMS),
            f"{np.mean(result[f'{label}/clipped/clipped']):.1%}",
        ]
        for label in labels
    ]
    rates = [
        [
            label,
            str(result[f"{label}/state"]),
            *(median(label, f"{phase}/decay", "+.3f") for phase in PHASES),
        ]
        for label in labels
    ]
    bounds = [
        [
            label,
            *(violations(label, bound) for bound in BOUNDS),
            *(median(label, f"{PHASES[1]}/{bound}_slack", ".1f") for bound in BOUNDS),
        ]
        for label in labels
    ]
    pairs = result[f"{labels[0]}/{PHASES[0]}/measured"]
    T = pairs.shape[-1] - 1
    explained = paragraph(
        "Norms are of ∂s_t/∂s_k, s the whole state. Rate: what is left of them, nats per step of "
        "t − k. Violations of two bounds, (λ_W λ_φ)^(t−k) (power) and Π‖J_i‖ (product), at all "
        f"{(T + 1) * (T + 2) // 2:,} pairs (t, k) of every network, before and after training, and "
        "their slack after it, in nats. – : no such theorem. Medians (and 10–90 %) over "
        f"{len(pairs)} seeds. Unigram entropy of the held-out text: "
        f"{result['unigram_entropy']:.3f} bits per character."
    )
    bits = table(["cell", "bits per character, clipped", "not clipped", "clip rate"], training)
    decay = table(["cell", "s", "rate before training", "after"], rates)
    of_bounds = ["violations: power", "product", "slack: power", "product"]
    held = table(["cell", *of_bounds], bounds)
    return f"# Gradient decay\n\n{bits}\n\n{decay}\n\n{held}\n\n{explained}\n"


def plot(result: Result) -> dict[str, Figure]:
    """Every figure, from the numbers alone."""
    labels = [str(label) for label in result["labels"]]
    shown = ("measured", "product_bound", "power_bound")
    states = {label: f"{label}, s = {result[f'{label}/state']}" for label in labels}
    return {
        "decay": plotting.decay(
            {
                states[label]: {
                    phase: {
                        name: result[f"{label}/{phase}/{name}"]
                        for name in shown
                        if f"{label}/{phase}/{name}" in result
                    }
                    for phase in PHASES
                }
                for label in labels
            }
        ),
        "loss_to_state": plotting.heatmaps(
            {
                states[label]: {
                    phase: np.median(result[f"{label}/{phase}/loss_to_state"], axis=0)
                    for phase in PHASES
                }
                for label in labels
            }
        ),
        "learning_curves": plotting.learning_curves(
            {
                label: {arm: result[f"{label}/{arm}/loss"].T / np.log(2) for arm in ARMS}
                for label in labels
            },
            baseline=float(result["unigram_entropy"]),
        ),
        "gradient_norms": plotting.gradient_norms(
            {label: {arm: result[f"{label}/{arm}/grad_norm"].T for arm in ARMS} for label in labels}
        ),
    }


def _provenance(text: Text) -> dict[str, object]:
    return {"text": text.name, "characters": len(text), "sha256": text.sha256}


if __name__ == "__main__":
    # One CPU device a core: networks of an ensemble are then trained side by side.
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    command_line(Config, main, plot, __doc__)
