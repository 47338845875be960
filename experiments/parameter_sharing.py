"""Find the year wherever it stands: what sharing parameters over time is worth.

Claim: "I went to IIT in 2017" and "in 2017 I went to IIT" say the same, but a network with weights
of its own for each position has to learn so position by position. A recurrent network, which has
the same weights at every step, learns to name the year from fewer sentences, and names it where no
year stood in training; there the position-specific network can only guess. Both read sentences of
4 to 20 words, with other numbers in them, and answer once, after the last word. Each is trained on
sets of several sizes, and once more on sentences without any number at some positions.

    python -m experiments.parameter_sharing [--seeds 10] [--out FOLDER]
    python -m experiments.parameter_sharing plot FOLDER

About ten minutes on two cores.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import rnn_jax
from experiments.common.command_line import command_line
from experiments.common.progress import training_progress
from experiments.common.report import paragraph, table
from experiments.common.run_folder import Result, RunFolder
from experiments.common.settings import Limits, NotNegative, Positive, Seed, Settings, Size
from experiments.figures.parameter_sharing import accuracies
from rnn_jax.cells import elman, gru, initializers, lstm, readout
from rnn_jax.errors import check_integer, invalid
from rnn_jax.linalg import matvec
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks import Sentence, Templates, year_sentences
from rnn_jax.training import create_train_state, fit, make_train_step, over_ensemble
from rnn_jax.types import Array, Key, Params

ARMS = ("year anywhere", "positions held out")


@dataclass(frozen=True)
class Config(Settings):
    """What is trained and measured.

    The defaults for learning rates and weight decays are each network's best of several.
    """

    out: Path = Path("runs/parameter_sharing")
    """The run folder."""
    years: Annotated[int, Limits(least=2, most=2019)] = 40
    """Classes, up to 2019."""
    T: Annotated[int, Limits(least=4)] = 20
    """Words of the longest sentence; the positions of the position-specific network."""
    sizes: tuple[Size, ...] = (30, 100, 300, 1000, 3000)
    """Sentences in a training set; a smaller set is the beginning of a larger one."""
    held_out: tuple[Annotated[int, Limits(least=0)], ...] = (7, 8, 9, 10)
    """Positions without any number in the second arm; 0 is the first word of a sentence."""
    seeds: Size = 10
    """Networks of each kind and size, all in one program: each its own training set and start."""
    cell: Literal["GRU", "LSTM", "Elman"] = "GRU"
    """Of the recurrent network. Elman's, at this size, loses years that are far from the end: it
    does not learn sets of 1,000 sentences by heart."""
    hidden_size: Size = 32
    """H, units of every network."""
    steps: Size = 1500
    """Of training, whatever the size of the set."""
    batch_size: Size = 32
    """Sentences in a batch, drawn from the training set with replacement."""
    learning_rate: Positive = 0.01
    """AdamW's for the recurrent network at the start; it falls along a cosine."""
    weight_decay: NotNegative = 0.0
    """AdamW's for the recurrent network."""
    position_specific_learning_rate: Positive = 0.03
    """As above, for the position-specific network."""
    position_specific_weight_decay: NotNegative = 0.3
    """As above, for the position-specific network."""
    clip_norm: Positive = 1.0
    """Global norm that gradients are clipped to."""
    test_sentences: Size = 200
    """Fresh sentences that have the year at one position, for each position."""
    seed: Seed = 0
    """Of everything random."""

    def check_together(self) -> None:
        remedy = "Positions are those of a sentence's words, from 0."
        check_integer("held_out", max(self.held_out), 0, self.T - 1, remedy)
        if list(self.sizes) != sorted(self.sizes):
            raise invalid("sizes", self.sizes, "numbers that go up", "Sort them.")


class Network(NamedTuple):
    """Reads `xs [T, B, I]`.

    `init: key -> params`; `logits: (params, xs, lengths [B]) -> [B, O]`.
    """

    name: str
    learning_rate: Positive
    weight_decay: NotNegative
    init: Callable[[Key], Params]
    logits: Callable[[Params, Array, Array], Array]


@flax.struct.dataclass
class PositionSpecificParams:
    """`U [T, H, I]`, a matrix for each position; `b [H]`, `V [O, H]`, `c [O]`."""

    U: Array
    b: Array
    V: Array
    c: Array


def position_specific(config: Config, templates: Templates) -> Network:
    """h = tanh(b + Σ_t U_t x_t), o = c + V h, with x_t = 0 past the end of a sentence."""
    T, H, I, O = config.T, config.hidden_size, templates.input_size, templates.years

    def init(key: Key) -> PositionSpecificParams:
        U_key, V_key = jax.random.split(key)
        U = initializers.gaussian(T**-0.5)(U_key, (T, H, I), jnp.float32)  # Var Σ_t U_t x_t = 1
        V = initializers.gaussian()(V_key, (O, H), jnp.float32)
        return PositionSpecificParams(U=U, b=jnp.zeros(H, U.dtype), V=V, c=jnp.zeros(O, U.dtype))

    def logits(p: PositionSpecificParams, xs: Array, lengths: Array) -> Array:
        h = jnp.tanh(p.b + jnp.einsum("thi,tbi->bh", p.U, xs))
        return p.c + matvec(p.V, h)

    return Network(
        "position-specific",
        config.position_specific_learning_rate,
        config.position_specific_weight_decay,
        init,
        logits,
    )


def recurrent(config: Config, templates: Templates) -> Network:
    """A cell's o = c + V h at the last word; U has unit variance, as inputs are one-hot."""
    make = {"GRU": gru, "LSTM": lstm, "Elman": elman}[config.cell]
    cell = make(config.hidden_size, input_init=initializers.gaussian(1.0))
    cell = readout(cell, templates.years)

    def logits(params: Params, xs: Array, lengths: Array) -> Array:
        _, ys = rnn_jax.unroll(cell, params, xs, lengths=lengths)
        return jnp.take_along_axis(ys, lengths[None, :, None] - 1, axis=0)[0]

    return Network(
        f"recurrent ({config.cell})",
        config.learning_rate,
        config.weight_decay,
        functools.partial(cell.init, input_size=templates.input_size),
        logits,
    )


def main(config: Config) -> Result:
    """Train, measure, and leave a run folder behind. Returns what numbers.npz holds."""
    config.check()
    arms = _arms(config)
    inputs = {f"templates, {arm}": len(drawn) for arm, drawn in arms.items()}
    with RunFolder(config.out).running(config, inputs) as folder:
        result, trained = _measured(config, arms, folder)
        folder.conclude(result, summarize, plot, trained)
    return result


def _arms(config: Config) -> dict[str, Templates]:
    """The templates of each arm."""
    templates = year_sentences(range(2020 - config.years, 2020), max_length=config.T)
    held = np.isin(templates.positions, config.held_out)
    if not held.any() or held.all():
        raise invalid(
            "held_out",
            config.held_out,
            f"some of the year's positions, {templates.positions.tolist()}, and not all",
            "The two are compared.",
        )
    return dict(zip(ARMS, (templates, templates.no_number_in(config.held_out)), strict=True))


def _measured(
    config: Config, arms: dict[str, Templates], folder: RunFolder
) -> tuple[dict[str, np.ndarray], dict[str, Params]]:
    """All numbers, and the networks of each kind and arm, by name."""
    templates, trained = arms[ARMS[0]], {}
    print(
        f"{len(templates):,} templates, {templates.input_size} words, {templates.years} years; "
        f"held-out positions: {', '.join(map(str, config.held_out))}."
    )

    *keys, test_key = jax.random.split(jax.random.key(config.seed), 4)
    test = _test_sentences(config, templates, test_key)
    compared = (recurrent(config, templates), position_specific(config, templates))
    result: dict[str, np.ndarray] = {
        "labels": np.array([network.name for network in compared]),
        "sizes": np.array(config.sizes),
        "positions": templates.positions,
        "held_out": np.array(config.held_out),
        "chance": np.array(1 / templates.years),
    }
    for network in compared:
        shapes = jax.eval_shape(network.init, test_key)
        result[f"{network.name}/parameters"] = np.array(
            sum(leaf.size for leaf in jax.tree.leaves(shapes))
        )
        # Held-out positions are asked of the networks that have seen most.
        for arm, sizes in zip(ARMS, (config.sizes, config.sizes[-1:]), strict=True):
            study = Study(network, arm, arms[arm], sizes)
            numbers, trained[f"{network.name}, {arm}"] = _study(config, study, test, folder, keys)
            result |= {f"{network.name}/{arm}/{name}": value for name, value in numbers.items()}
    return result, trained


class Study(NamedTuple):
    """One kind of network, trained on sets of each size that one arm's templates give."""

    network: Network
    arm: str
    templates: Templates
    sizes: tuple[Size, ...]

    def sentences(self, training_set: Key, numbers: Array) -> Sentence:
        """Those of a training set by number: sentence n is a pure function of (set, n)."""
        draw = lambda n: self.templates.draw(jax.random.fold_in(training_set, n))
        return jax.vmap(draw)(numbers)

    def logits(self, params: Params, sentences: Sentence) -> Array:
        """Of symbols `[*batch, T]`: `[*batch, O]`."""
        xs = self.templates.one_hot(jnp.moveaxis(sentences.symbols, -1, 0))
        return self.network.logits(params, xs, sentences.length)

    def loss(self, params: Params, sentences: Sentence) -> Array:
        return softmax_cross_entropy(self.logits(params, sentences), sentences.year).mean()

    def accuracy(self, params: Params, sentences: Sentence) -> Array:
        return (self.logits(params, sentences).argmax(-1) == sentences.year).mean()


def _study(
    config: Config, study: Study, test: Sentence, folder: RunFolder, keys: Sequence[Key]
) -> tuple[dict[str, np.ndarray], Params]:
    """Train and test: name -> array with the sizes, then the seeds, in front; and the networks."""
    network, sizes = study.network, study.sizes
    members = len(sizes) * config.seeds
    # Both networks see the same sets; the members of one seed start from the same weights.
    training_sets, orders, init_keys = (
        jnp.tile(jax.random.split(key, config.seeds), len(sizes)) for key in keys
    )
    size = jnp.repeat(jnp.array(sizes, jnp.int32), config.seeds)

    schedule = optax.cosine_decay_schedule(network.learning_rate, config.steps, alpha=0.01)
    optimizer = optax.adamw(schedule, weight_decay=network.weight_decay)
    train_step = make_train_step(study.loss, optimizer, clip_norm=config.clip_norm)

    def member_step(state, training_set, order, size):
        key = jax.random.fold_in(order, state.step)
        numbers = jax.random.randint(key, (config.batch_size,), 0, size, jnp.int32)
        return train_step(state, study.sentences(training_set, numbers))

    ensemble_step = over_ensemble(member_step, members)
    create = lambda key: create_train_state(network.init(key), optimizer)
    state, metrics = fit(
        lambda state, batch: ensemble_step(state, *batch),
        jax.jit(jax.vmap(create))(init_keys),
        batch_at=lambda step: (training_sets, orders, size),
        steps=config.steps,
        **training_progress(f"{network.name}, {members} networks, {study.arm}", config.steps),
        checkpoint_dir=folder.checkpoints / f"{network.name} {study.arm}",
    )

    def tested(params):
        return jax.lax.map(functools.partial(study.accuracy, params), test)

    def trained(params, training_set, size):
        numbers = jnp.arange(max(sizes), dtype=jnp.int32) % size  # every sentence, equally often
        of_one = lambda n: study.accuracy(params, study.sentences(training_set, n[None]))
        return jax.lax.map(of_one, numbers, batch_size=config.test_sentences).mean()

    params = jax.device_get(state.params)
    numbers = {
        "accuracy": over_ensemble(tested, members)(params),
        "training_accuracy": over_ensemble(trained, members)(params, training_sets, size),
        "training_loss": metrics["loss"].T,
    }
    split = lambda values: np.asarray(values).reshape(len(sizes), config.seeds, *values.shape[1:])
    return {name: split(values) for name, values in numbers.items()}, jax.tree.map(split, params)


def _test_sentences(config: Config, templates: Templates, key: Key) -> Sentence:
    """The same for every network: leaves `[positions, test_sentences, ...]`."""
    keys = jax.random.split(key, (len(templates.positions), config.test_sentences))
    draw = jax.vmap(jax.vmap(templates.draw, (0, None)))
    return jax.jit(draw)(keys, templates.positions)


def summarize(result: Result) -> str:
    """The closing tables, in Markdown."""
    labels = [str(label) for label in result["labels"]]
    held = np.isin(result["positions"], result["held_out"])

    def spread(values):
        low, middle, high = 100 * np.percentile(values, (10, 50, 90))
        return f"{middle:.1f} ({low:.1f}–{high:.1f})"

    def lowest_in_training(label):
        return min(result[f"{label}/{arm}/training_accuracy"].min() for arm in ARMS)

    by_examples = [
        [
            label,
            f"{int(result[f'{label}/parameters']):,}",
            f"{100 * lowest_in_training(label):.1f}",
            *map(spread, result[f"{label}/{ARMS[0]}/accuracy"].mean(-1)),
        ]
        for label in labels
    ]
    by_position = [
        [
            label,
            *(
                spread(result[f"{label}/{arm}/accuracy"][-1][:, where].mean(-1))
                for arm in ARMS
                for where in (held, ~held)
            ),
        ]
        for label in labels
    ]
    examples = [f"{size:,} examples" for size in result["sizes"]]
    held_out = ", ".join(map(str, result["held_out"]))
    seeds = result[f"{labels[0]}/{ARMS[0]}/accuracy"].shape[1]
    after = paragraph(
        f"After {examples[-1]}, with {held_out} words in front of the year (there), or another "
        "number of them (elsewhere), where the year stood anywhere in training, or never there:"
    )
    there = ["there, anywhere", "elsewhere", "there, never", "elsewhere"]
    return (
        "# Parameter sharing\n\nAccuracy on fresh sentences, in %, the year's position uniform:\n\n"
        f"{table(['network', 'parameters', 'lowest in training', *examples], by_examples)}\n\n"
        f"{after}\n\n{table(['network', *there], by_position)}\n\n"
        f"Medians (and 10–90 %) over {seeds} seeds. Chance is "
        f"{100 * float(result['chance']):.1f} %.\n"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Every figure, from the numbers alone."""
    labels = [str(label) for label in result["labels"]]
    trained = {arm: {label: result[f"{label}/{arm}/accuracy"] for label in labels} for arm in ARMS}
    shown = {arm: f"{result['sizes'][-1]:,} sentences, {arm}" for arm in ARMS}
    figure = accuracies(
        {label: values.mean(-1) for label, values in trained[ARMS[0]].items()},
        {
            shown[arm]: {label: values[-1] for label, values in curves.items()}
            for arm, curves in trained.items()
        },
        sizes=result["sizes"],
        positions=result["positions"],
        held_out={shown[ARMS[1]]: result["held_out"]},
        chance=float(result["chance"]),
    )
    return {"accuracy": figure}


if __name__ == "__main__":
    # One CPU device a core: networks of an ensemble are then trained side by side.
    jax.config.update("jax_num_cpu_devices", os.cpu_count())
    command_line(Config, main, plot, __doc__)
