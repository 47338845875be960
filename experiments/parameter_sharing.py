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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.common.checks import Check, at_least, at_most, judged_if
from experiments.common.numbers import Result
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Limits, NotNegative, Positive, Seed, Settings, Size
from experiments.common.study import Study
from experiments.common.year_networks import Network, position_specific, recurrent
from experiments.figures.parameter_sharing import accuracies
from experiments.tables import parameter_sharing as parameter_sharing_tables
from rnn_jax.errors import check_integer, invalid
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.reporting import Line, Lines, Panel
from rnn_jax.reporting.norms_by_lag import percentiles
from rnn_jax.tasks import Sentence, Templates, year_sentences
from rnn_jax.training import create_train_state, fit, make_train_step, over_ensemble
from rnn_jax.types import Array, Key, Params

ARMS = ("year anywhere", "positions held out")
SENTENCES = ("I went to IIT in {year}", "in {year} I went to IIT")
"""The source's two sentences, in words of the task."""
MIN_STEPS, MIN_SENTENCES = 1000, 1000
"""Steps of training and sentences in the largest set, without which the claim is not judged."""


@dataclass(frozen=True)
class Config(Settings):
    """The sentences, the networks and their training.

    The defaults for learning rates and weight decays are each network's best of several.
    """

    out: Path = Path("runs/parameter_sharing")
    """The run folder."""
    years: Annotated[int, Limits(least=2, most=2019)] = 40
    """Number of classes, the years up to 2019."""
    T: Annotated[int, Limits(least=4)] = 20
    """Words of the longest sentence; the positions of the position-specific network."""
    sizes: tuple[Size, ...] = (30, 100, 300, 1000, 3000)
    """Sentences in a training set; a smaller set is the beginning of a larger one."""
    held_out: tuple[Annotated[int, Limits(least=0)], ...] = (7, 8, 9, 10)
    """Positions without any number in the second arm; 0 is the first word of a sentence."""
    seeds: Size = 10
    """Networks of each kind and size, all in one program: each its own training set and start."""
    cell: Literal["GRU", "LSTM", "Elman"] = "GRU"
    """Cell of the recurrent network. Elman's, at this size, loses years far from the end: it does
    not learn sets of 1,000 sentences by heart."""
    hidden_size: Size = 32
    """H, units of every network."""
    steps: Size = 1500
    """Number of optimizer steps, whatever the size of the set."""
    batch_size: Size = 32
    """Sentences in a batch, drawn from the training set with replacement."""
    learning_rate: Positive = 0.01
    """AdamW's for the recurrent network at the start; it falls along a cosine."""
    weight_decay: NotNegative = 0.0
    """AdamW's for the recurrent network."""
    position_specific_learning_rate: Positive = 0.03
    """AdamW's for the position-specific network at the start; it falls along a cosine."""
    position_specific_weight_decay: NotNegative = 0.3
    """AdamW's for the position-specific network."""
    clip_norm: Positive = 1.0
    """Global norm that gradients are clipped to."""
    test_sentences: Size = 200
    """Fresh sentences that have the year at one position, for each position."""
    seed: Seed = 0
    """PRNG seed."""

    def check_together(self) -> None:
        remedy = "Positions are those of a sentence's words, from 0."
        check_integer("held_out", max(self.held_out), 0, self.T - 1, remedy)
        if list(self.sizes) != sorted(self.sizes):
            raise invalid("sizes", self.sizes, "numbers that go up", "Sort them.")


def prepare(config: Config) -> tuple[dict[str, int], dict[str, Templates]]:
    """Return how many templates each arm has, and the templates."""
    templates = year_sentences(range(2020 - config.years, 2020), max_length=config.T)
    held = np.isin(templates.positions, config.held_out)
    if not held.any() or held.all():
        raise invalid(
            "held_out",
            config.held_out,
            f"some of the year's positions, {templates.positions.tolist()}, and not all",
            "The two are compared.",
        )
    arms = dict(zip(ARMS, (templates, templates.no_number_in(config.held_out)), strict=True))
    return {f"templates, {arm}": len(drawn) for arm, drawn in arms.items()}, arms


def measure(config: Config, arms: dict[str, Templates]) -> tuple[Result, dict[str, Params]]:
    """Return all numbers, and the networks of each kind and arm, by name."""
    templates, trained = arms[ARMS[0]], {}
    print(
        f"{len(templates):,} templates, {templates.input_size} words, {templates.years} years; "
        f"held-out positions: {', '.join(map(str, config.held_out))}."
    )

    *keys, test_key = jax.random.split(jax.random.key(config.seed), 4)
    test = _test_sentences(config, templates, test_key)
    compared = (recurrent(config, templates), position_specific(config, templates))
    asked, year = the_sentences(templates)
    result: dict[str, Any] = {
        "asked": {"text": np.array([templates.text(s) for s in asked]), "year": np.array(year)},
        "labels": np.array([network.name for network in compared]),
        "sizes": np.array(config.sizes),
        "positions": templates.positions,
        "held_out": np.array(config.held_out),
        "chance": np.array(1 / templates.years),
    }
    for network in compared:
        shapes = jax.eval_shape(network.init, test_key)
        size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        result[network.name] = {"parameters": np.array(size)}
        # Held-out positions are asked of the networks that have seen most.
        for arm, sizes in zip(ARMS, (config.sizes, config.sizes[-1:]), strict=True):
            learner = Learner(network, arm, arms[arm], sizes)
            numbers, networks = _train_and_test(config, learner, test, keys)
            numbers["answers"] = _answers(learner, networks, asked)
            result[network.name][arm] = numbers
            trained[f"{network.name}, {arm}"] = networks
    return result, trained


class Learner(NamedTuple):
    """One kind of network, trained on sets of each size that one arm's templates give."""

    network: Network
    arm: str
    templates: Templates
    sizes: tuple[Size, ...]

    def sentences(self, training_set: Key, numbers: Array) -> Sentence:
        """Return sentences of a training set: sentence n is a pure function of (set, n)."""
        draw = lambda n: self.templates.draw(jax.random.fold_in(training_set, n))
        return jax.vmap(draw)(numbers)

    def logits(self, params: Params, sentences: Sentence) -> Array:
        """Return logits `[*batch, O]` of symbols `[*batch, T]`."""
        xs = self.templates.one_hot(jnp.moveaxis(sentences.symbols, -1, 0))
        return self.network.logits(params, xs, sentences.length)

    def loss(self, params: Params, sentences: Sentence) -> Array:
        return softmax_cross_entropy(self.logits(params, sentences), sentences.year).mean()

    def accuracy(self, params: Params, sentences: Sentence) -> Array:
        return (self.logits(params, sentences).argmax(-1) == sentences.year).mean()


def _train_and_test(
    config: Config, learner: Learner, test: Sentence, keys: Sequence[Key]
) -> tuple[dict[str, np.ndarray], Params]:
    """Return name -> array with the sizes, then the seeds, in front; and the networks."""
    network, sizes = learner.network, learner.sizes
    members = len(sizes) * config.seeds
    # Both networks see the same sets; the members of one seed start from the same weights.
    training_sets, orders, init_keys = (
        jnp.tile(jax.random.split(key, config.seeds), len(sizes)) for key in keys
    )
    size = jnp.repeat(jnp.array(sizes, jnp.int32), config.seeds)

    schedule = optax.cosine_decay_schedule(network.learning_rate, config.steps, alpha=0.01)
    optimizer = optax.adamw(schedule, weight_decay=network.weight_decay)
    train_step = make_train_step(learner.loss, optimizer, clip_norm=config.clip_norm)

    def member_step(state, training_set, order, size):
        key = jax.random.fold_in(order, state.step)
        numbers = jax.random.randint(key, (config.batch_size,), 0, size, jnp.int32)
        return train_step(state, learner.sentences(training_set, numbers))

    ensemble_step = over_ensemble(member_step, members)
    create = lambda key: create_train_state(network.init(key), optimizer)
    state, metrics = fit(
        lambda state, batch: ensemble_step(state, *batch),
        jax.jit(jax.vmap(create))(init_keys),
        batch_at=lambda step: (training_sets, orders, size),
        steps=config.steps,
        label=f"{network.name}, {members} networks, {learner.arm}",
        checkpoint_dir=RunFolder(config.out).checkpoints / f"{network.name} {learner.arm}",
    )

    def tested(params):
        return jax.lax.map(functools.partial(learner.accuracy, params), test)

    def trained(params, training_set, size):
        numbers = jnp.arange(max(sizes), dtype=jnp.int32) % size  # every sentence, equally often
        of_one = lambda n: learner.accuracy(params, learner.sentences(training_set, n[None]))
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
    """Return the same sentences for every network: leaves `[positions, test_sentences, ...]`."""
    keys = jax.random.split(key, (len(templates.positions), config.test_sentences))
    draw = jax.vmap(jax.vmap(templates.draw, (0, None)))
    return jax.jit(draw)(keys, templates.positions)


def the_sentences(templates: Templates) -> tuple[np.ndarray, int]:
    """Return `SENTENCES` in symbols, `[2, T]`, and their year: 2017, or the last one there is."""
    year = "2017" if "2017" in templates.vocabulary else templates.vocabulary[templates.years]
    symbols = np.zeros((len(SENTENCES), templates.first.shape[1]), np.int32)
    for row, sentence in zip(symbols, SENTENCES, strict=True):
        words = sentence.format(year=year).split()
        row[: len(words)] = [templates.vocabulary.index(word) for word in words]
    return symbols, int(year)


def _answers(learner: Learner, networks: Params, asked: np.ndarray) -> np.ndarray:
    """Return the year that each network of the largest set answers, `[seeds, sentences]`."""
    templates = learner.templates
    none = jnp.zeros(len(asked), jnp.int32)
    lengths = jnp.asarray((asked != 0).sum(-1, dtype=np.int32))
    sentences = Sentence(jnp.asarray(asked), lengths, none, none)
    largest = jax.tree.map(lambda leaf: leaf[-1], networks)
    logits = jax.jit(jax.vmap(lambda params: learner.logits(params, sentences)))(largest)
    years = np.array([int(word) for word in templates.vocabulary[1 : 1 + templates.years]])
    return years[np.asarray(logits).argmax(-1)]


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number, of medians over seeds."""
    shared, specific = (result[label] for label in result["labels"])
    anywhere, held_out = ARMS
    held, sizes = np.isin(result["positions"], result["held_out"]), result["sizes"]
    overall = lambda of, size: np.median(of[anywhere]["accuracy"][size].mean(-1))
    at = lambda of, where: np.median(of[held_out]["accuracy"][-1][:, where].mean(-1))
    in_training = min(
        of[arm]["training_accuracy"].min() for of in (shared, specific) for arm in ARMS
    )
    steps = shared[anywhere]["training_loss"].shape[-1]
    fewer = max(len(sizes) - 2, 0)
    named = (shared[anywhere]["answers"] == result["asked"]["year"]).mean()
    return judged_if(
        steps >= MIN_STEPS and sizes[-1] >= MIN_SENTENCES,
        f"{MIN_STEPS:,} steps of training and {MIN_SENTENCES:,} sentences",
        [
            at_least("accuracy on the training set, lowest of all networks", in_training, 0.99),
            at_least("recurrent: accuracy on fresh sentences", overall(shared, -1), 0.95),
            at_least(
                f"recurrent after {sizes[fewer]:,} sentences, less position-specific after "
                f"{sizes[-1]:,}",
                overall(shared, fewer) - overall(specific, -1),
                0,
            ),
            at_least("recurrent, where no year stood in training", at(shared, held), 0.95),
            at_most(
                "position-specific there, over the accuracy of a guess",
                at(specific, held) / result["chance"],
                2,
            ),
            at_least(
                "position-specific elsewhere, over the accuracy of a guess",
                at(specific, ~held) / result["chance"],
                5,
            ),
            at_least("recurrent: part of the two sentences' years named, all seeds", named, 0.95),
        ],
    )


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    tables = parameter_sharing_tables
    verdict = tables.verdict([check.holds for check in checks(result)])
    return f"{tables.accuracies(result, ARMS)}\n\n{tables.answers(result, ARMS)}\n\n{verdict}"


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    return {"accuracy": accuracies(result, ARMS)}


def panels(result: Result) -> list[Panel]:
    """Return the report's accuracies by the position of the year, for each set of sentences."""
    views: dict[str, list[Line]] = {}
    for label in map(str, result["labels"]):
        for arm in ARMS:
            accuracy = result[label][arm]["accuracy"]  # [sizes, seeds, positions]
            for size, of_seeds in zip(result["sizes"][-len(accuracy) :], accuracy, strict=True):
                low, middle, high = percentiles(of_seeds, (10, 50, 90))
                line = Line(label, middle, result["positions"], (low, high))
                views.setdefault(f"{size:,} sentences, {arm}", []).append(line)
    note = f"Medians over seeds, and 10–90 %. Chance is {float(result['chance']):.1%}."
    x, y = "words in front of the year", "accuracy on fresh sentences"
    return [Lines("Accuracy by position", x, y, views, limits=(-0.02, 1.02), note=note)]


STUDY = Study(
    __doc__, Config, measure, checks, summarize, plot, prepare, ensemble=True, panels=panels
)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
