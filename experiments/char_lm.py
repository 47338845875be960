"""Predict the next character of a text, and write on in it.

Claim: a network that remembers needs fewer bits a character than one that sees the present
character alone, the frequencies of characters, or a compressor that has read the same text; gated
networks need the fewest. Held out is the end of the text. After Graves (2013, arXiv 1308.0850),
whose numbers are of other texts.

    python -m experiments.char_lm [--text FILE] [--setting paper] [--out FOLDER]
    python -m experiments.char_lm plot FOLDER

Not reached: the bits of the compressors, which have the whole of the other text before them when
they come to the held-out part. Networks of the reduced size read some two million characters, once.

About four minutes on two cores.
"""

from __future__ import annotations

import bz2
import dataclasses
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.arms import best, label_of, of_one_task
from experiments.common.checks import Check, judged_if, published
from experiments.common.compared_cells import COMPARED, present_alone
from experiments.common.comparison import Comparison, Trial
from experiments.common.numbers import Result
from experiments.common.report import spread, table
from experiments.common.settings import InputFile, Positive, Size, by_setting
from experiments.common.study import Study
from experiments.common.text_ensemble import check_held_out, inputs_of
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax.cells import readout
from rnn_jax.errors import invalid
from rnn_jax.tasks import Text, load_text, next_character, one_hot, unigram_entropy
from rnn_jax.topologies import generate, sample_one_hot
from rnn_jax.types import Params

RECURRENT = ("Elman", "LSTM, forget bias 1", "GRU", "LRU")
MIN_SEQUENCES = 24_000
"""Windows read without which the claim is not judged."""
WINDOWS = 64
"""Windows of held-out text in an evaluation, four times."""
COMPRESSORS = {"bz2": bz2.compress, "lzma": lambda text: lzma.compress(text, preset=9)}


@dataclass(frozen=True)
class Config(Comparison):
    """The text, the networks and their training."""

    out: Path = Path("runs/char_lm")
    """The run folder."""
    text: InputFile | None = None
    """UTF-8 text; the language reference that Python carries, if left out."""
    T: Size = 100
    """Characters of a window; a state begins at zero in each."""
    hidden_size: Size = by_setting(reduced=96, paper=512)
    """H, units of each network."""
    batch_size: Size = 32
    """Windows in a batch."""
    sequences: Size = by_setting(reduced=24_000, paper=640_000)
    """Windows that a network reads."""
    learning_rate: Positive = 0.003
    """Adam's, at the start of a cosine."""
    prompt: str = "The "
    """What generation begins with."""
    generated: Size = 300
    """Characters that the best network writes."""
    temperature: Positive = 0.7
    """Of the distribution that they are drawn from."""


def prepare(config: Config) -> tuple[dict[str, object], Text]:
    """Return the text, which has to have held-out windows and the letters of the prompt."""
    text = load_text(config.text)
    check_held_out(text, config.T)
    if missing := set(config.prompt) - set(text.vocabulary):
        got = f"{config.prompt!r} with {', '.join(sorted(map(repr, missing)))}"
        raise invalid("prompt", got, "characters of the text", "Choose another.")
    return inputs_of(text), text


def measure(config: Config, text: Text) -> tuple[Result, dict[str, Params]]:
    """Return what each cell learned, what compressors make of the text, and what is written."""
    held_out = dataclasses.replace(text, train=text.held_out)
    trial = Trial(
        next_character(text, T=config.T, batch_size=config.batch_size),
        next_character(held_out, T=config.T, batch_size=WINDOWS),
        batches=4,
    )
    cells = {"the present alone": present_alone} | {name: COMPARED[name] for name in RECURRENT}
    rates = dict.fromkeys(cells, config.learning_rate)
    learned, networks = comparison.measure(
        config, {"characters": {f"T = {config.T}": trial}}, cells, rates
    )
    name = min(RECURRENT, key=lambda cell: np.median(best(of_one_task(learned)[cell], "loss")))
    first = jax.tree.map(
        lambda leaf: leaf[0], networks[label_of(("characters", name, f"T = {config.T}", "best"))]
    )
    return {
        "arms": learned,
        "bits": _bits_without_a_network(text),
        "writes": {"cell": np.array(name), "text": np.array(_write(config, text, name, first))},
        "sequences": np.array(config.sequences),
    }, networks


def _bits_without_a_network(text: Text) -> dict[str, np.ndarray]:
    """Return bits a held-out character of frequencies, and of compressors that read the rest."""
    letters = np.array(list(text.vocabulary))
    first, rest = ("".join(letters[part]).encode() for part in (text.train, text.held_out))
    bits = {"frequencies": unigram_entropy(text.held_out)}
    for name, compress in COMPRESSORS.items():
        more = len(compress(first + rest)) - len(compress(first))
        bits[name] = 8 * more / len(text.held_out)
    return {name: np.array(value) for name, value in bits.items()}


def _write(config: Config, text: Text, name: str, params: Params) -> str:
    """Return the prompt and what a network writes after it."""
    cell = readout(COMPARED[name](config.hidden_size), len(text.vocabulary))
    symbols = np.array([text.vocabulary.index(letter) for letter in config.prompt])
    drawn = generate(
        cell,
        params,
        one_hot(text, jnp.asarray(symbols)),
        config.generated,
        jax.random.key(config.seed),
        feed=sample_one_hot(config.temperature),
    )
    written = np.asarray(drawn.xs).argmax(-1)
    return config.prompt + "".join(text.vocabulary[symbol] for symbol in written)


def bits_of(result: Result) -> dict[str, np.ndarray]:
    """Return the bits a held-out character of each cell, `[seeds]`."""
    cells = of_one_task(result["arms"])
    return {cell: best(of, "loss") / np.log(2) for cell, of in cells.items()}


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    bits, others = bits_of(result), result["bits"]
    name = min(RECURRENT, key=lambda cell: np.median(bits[cell]))
    present = float(np.median(bits["the present alone"]))
    claim = f"{name}, the best: bits a character"
    found = [
        published(f"{claim}, less those of {other}", bits[name] - value, "less", "here", high=0)
        for other, value in (("the present alone", present), *others.items())
    ]
    gated = np.minimum(bits["LSTM, forget bias 1"], bits["GRU"])
    claim = "better gated network less Elman: bits a character"
    found.append(published(claim, gated - bits["Elman"], "less", "Graves 2013", high=0))
    enough = int(result["sequences"]) >= MIN_SEQUENCES
    return judged_if(enough, f"{MIN_SEQUENCES:,} windows read", found)


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    rows: list[list[Any]] = [[name, f"{float(v):.3f}"] for name, v in result["bits"].items()]
    rows += [[cell, spread(bits, ".3f")] for cell, bits in bits_of(result).items()]
    written = str(result["writes"]["text"]).replace("\n", "\n    ")
    return (
        f"# Characters\n\n{table(rows, ['', 'bits a held-out character'])}\n\n"
        f"{result['writes']['cell']} writes:\n\n    {written}\n\n## Gradients\n\n"
        f"{tables.gradients(result['arms'])}"
    )


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    in_nats = {name: float(value) * np.log(2) for name, value in result["bits"].items()}
    unit = "held-out loss, nats a character"
    return {"learning": figures.learning(result["arms"], unit=unit, log=False, across=in_nats)}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, prepare, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
