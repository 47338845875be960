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
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnn_jax
from experiments.checks import Check, at_least, at_most, checks_table, within
from experiments.run_folder import Result, RunFolder, command_line, redraw
from rnn_jax import plotting_truncation
from rnn_jax.cells import elman, initializers, lstm, readout
from rnn_jax.gradients import (
    by_lag,
    effective_horizon,
    jacobian_log_norms,
    truncation_error,
)
from rnn_jax.losses import per_step, softmax_cross_entropy
from rnn_jax.tasks import Task, load_text, next_character, one_hot, streams
from rnn_jax.theory import critical_gain
from rnn_jax.training import create_train_state, fit, make_train_step, over_ensemble
from rnn_jax.types import Array, Cell, Key, Params

PHASES = ("before training", "after training")


@dataclass(frozen=True)
class Config:
    """What is trained, and where its gradients are cut."""

    text: Path | None = None
    """Any UTF-8 file; by default the language reference that every Python carries."""
    out: Path = Path("runs/truncation_bias")
    """The run folder."""
    contracting: float = 0.5
    """σ_w of the first kind of Elman network; the second is at its critical σ_w."""
    chaotic: float = 3.0
    """σ_w of the third."""
    hidden_size: int = 64
    """H, units of each network."""
    seeds: int = 8
    """Networks of each kind."""
    T: int = 64
    """Steps of a training window, and of those in which gradients are cut."""
    k2s: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 60)
    """Steps that a truncated gradient goes back, from each step's loss."""
    windows: int = 4
    """Of held-out text, over which gradients are summed."""
    batch_size: int = 16
    """Windows in a training batch."""
    steps: int = 300
    """Of training, by full BPTT."""
    learning_rate: float = 0.01
    """Adam's at the start; it falls along a cosine."""
    clip_norm: float = 0.5
    """Global norm that training clips gradients to."""
    seed: int = 0
    """Of everything random."""


def main(config: Config) -> Result:
    """Train, cut, compare, and leave a run folder behind. Returns what numbers.npz holds."""
    text = load_text(config.text)
    folder = RunFolder(config.out)
    provenance = {"text": text.name, "characters": len(text), "sha256": text.sha256}
    folder.begin(config, inputs=provenance)
    task = next_character(text, T=config.T, batch_size=config.batch_size)
    symbols, targets = streams(text.held_out[: config.windows * config.T + 1], config.windows)
    probe = one_hot(text, symbols), targets

    result: dict[str, np.ndarray] = {"k2s": np.array(config.k2s), "T": np.array(config.T)}
    labels: list[str] = []
    for number, kinds in enumerate(networks(config, task.output_size)):
        cell = next(iter(kinds.values()))  # they differ in init alone
        key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), number))
        before = _initial_params(config, kinds, task.input_size, key)
        after = _train(config, list(kinds), cell, task, folder, before, data_key)
        cut = jax.jit(jax.vmap(functools.partial(_cut, config, cell, *probe)))
        for phase, params in zip(PHASES, (before, after), strict=True):
            print(f"cutting gradients {phase}: {', '.join(kinds)}", flush=True)
            measured = jax.device_get(cut(params))
            for i, label in enumerate(kinds):
                seeds = slice(i * config.seeds, (i + 1) * config.seeds)
                result |= {f"{label}/{phase}/{name}": v[seeds] for name, v in measured.items()}
        labels += kinds
    result["labels"] = np.array(labels)
    folder.conclude(result, summarize, plot)
    return result


def networks(config: Config, output_size: int) -> list[dict[str, Cell]]:
    """By name, those of one program together.

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


def _initial_params(config: Config, kinds: dict[str, Cell], input_size: int, key: Key) -> Params:
    """Kind by kind; the kinds of one program share their draws."""
    keys = jax.random.split(key, config.seeds)
    of_kinds = [
        jax.jit(jax.vmap(functools.partial(cell.init, input_size=input_size)))(keys)
        for cell in kinds.values()
    ]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *of_kinds)


def _train(
    config: Config,
    labels: list[str],
    cell: Cell,
    task: Task,
    folder: RunFolder,
    params: Params,
    key: Key,
) -> Params:
    """All networks of one program; every kind sees the same batches, seed by seed."""
    keys = jnp.tile(jax.random.split(key, config.seeds), len(labels))
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.steps, alpha=0.02)
    )

    def loss(params, batch):
        xs, targets = batch
        return per_step(task.loss, rnn_jax.unroll(cell, params, xs)[1], targets).mean()

    train_step = make_train_step(loss, optimizer, clip_norm=config.clip_norm)
    state, _ = fit(
        over_ensemble(lambda state, key: train_step(state, task.batch(key, state.step)), len(keys)),
        jax.vmap(lambda p: create_train_state(p, optimizer))(params),
        batch_at=lambda step: keys,
        steps=config.steps,
        label=f"training {len(keys)} networks",
        checkpoint_dir=folder.checkpoints / labels[0].partition(" (")[0],
    )
    return jax.device_get(state.params)


def _cut(config: Config, cell: Cell, xs: Array, targets: Array, params: Params) -> dict[str, Array]:
    """One network: W's gradient by BPTT(k2; 1) against full BPTT, and its Jacobian products."""
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
"""Errors below are rounding's, in float32."""


def rates(result: Result, kind: str) -> tuple[float, float]:
    """Nats per step of W's error and of ‖∂h_t/∂h_k‖, medians over seeds, at the same lags.

    Least squares over those of `k2s` from 2 to T / 2 at which the error is above rounding.
    """
    k2s, error = result["k2s"], np.median(result[f"{kind}/error"], 0)
    use = (k2s >= 2) & (k2s <= int(result["T"]) / 2) & (error > FLOOR)
    log_norm = np.median(result[f"{kind}/log_norm"], 0)
    return slope(k2s[use], np.log(error[use])), slope(k2s[use], log_norm[k2s[use]])


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Least squares."""
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def checks(result: Result) -> list[Check]:
    """The claim, number by number."""
    k2s, T = result["k2s"], int(result["T"])
    contracting, critical, chaotic, lstms = result["labels"]
    fall = {
        f"{label}, {phase}": rates(result, f"{label}/{phase}")
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
            max(error - norm for error, norm in (rates(result, f"{lstms}/{p}") for p in PHASES)),
            0,
        ),
        at_least(
            "chaotic: relative error at any k2 ≤ T / 2, median over seeds, smallest",
            np.median(result[f"{chaotic}/{PHASES[0]}/error"], 0)[middle].min(),
            0.5,
        ),
    ]


def summarize(result: Result) -> str:
    """The tables, in Markdown."""
    from tabulate import tabulate

    k2s, T, rows = result["k2s"], int(result["T"]), []
    middle = int(np.argmin(np.abs(k2s - T / 4)))
    for label in result["labels"]:
        for phase in PHASES:
            of = lambda name, where=f"{label}/{phase}": result[f"{where}/{name}"]
            rows.append(
                [
                    label,
                    phase,
                    *(f"{of_both:+.3f}" for of_both in rates(result, f"{label}/{phase}")),
                    f"{np.median(of('horizon')):.1f}",
                    f"{np.median(of('error')[:, middle]):.2g}",
                    f"{np.median(of('cosine')[:, middle]):.3f}",
                ]
            )
    table = tabulate(
        rows,
        headers=[
            "network",
            "",
            "error of W's gradient, nats per step of k2",
            "‖∂h_t/∂h_k‖, nats per step",
            "steps until a tenth is left",
            f"relative error at k2 = {k2s[middle]}",
            "cosine",
        ],
        tablefmt="github",
        disable_numparse=True,
    )
    return (
        f"# Truncation bias\n\n{table}\n\n"
        f"Medians; rates over 2 to {T // 2} steps, errors above {FLOOR:g}.\n\n"
        f"{checks_table(checks(result))}"
    )


def plot(result: Result) -> dict[str, plotting_truncation.Figure]:
    """Every figure, from the numbers alone."""
    panels = {
        str(label): {
            phase: {
                "error": result[f"{label}/{phase}/error"],
                "cosine": result[f"{label}/{phase}/cosine"],
                "rate": np.array(rates(result, f"{label}/{phase}")[1]),
            }
            for phase in PHASES
        }
        for label in result["labels"]
    }
    return {"truncation_bias": plotting_truncation.truncation_bias(result["k2s"], panels)}


if __name__ == "__main__":
    # One CPU device a core: networks of an ensemble are then trained side by side.
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    command_line(Config, main, functools.partial(redraw, plot), __doc__)
