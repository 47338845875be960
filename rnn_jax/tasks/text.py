"""Text, character by character."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import (
    check_array,
    check_dtype,
    check_integer,
    check_number,
    check_size,
    describe,
    invalid,
    is_traced,
)
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key, StepLoss

PYTHON_REFERENCE = "the Python language reference"


@dataclass(frozen=True)
class Text:
    """A text as integers.

    Attributes:
      name: the file, or `PYTHON_REFERENCE`.
      vocabulary: its distinct characters, sorted; symbol s is vocabulary[s].
      train: `[n]` symbols, the first part of the text.
      held_out: `[m]` symbols, the rest.
      sha256: of the text in UTF-8, as hexadecimal digits.
    """

    name: str
    vocabulary: str
    train: np.ndarray = field(repr=False)
    held_out: np.ndarray = field(repr=False)
    sha256: str

    def __len__(self) -> int:
        return len(self.train) + len(self.held_out)


def load_text(path: str | Path | None = None, *, held_out_fraction: float = 0.1) -> Text:
    """Read a UTF-8 file, or, with no path, the language reference that every CPython carries.

    The reference is `pydoc_data.topics`, about 465,000 characters of English; it differs between
    Python versions, so a run records `len(text)` and `text.sha256`.

    Args:
      path: any UTF-8 text.
      held_out_fraction: how much of the end of the text is kept from training, in (0, 1).

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does, with the path.
      ValueError: a file that is not UTF-8 or is too short to split; a fraction outside (0, 1); a
        path that is none.
    """
    remedy = "Pass 0.1 to keep a tenth."
    check_number("held_out_fraction", held_out_fraction, above=0, below=1, remedy=remedy)
    if not (path is None or isinstance(path, str | os.PathLike)):
        raise invalid("path", path, "a path, or None", "Pass the name of a file.")
    characters = _python_reference() if path is None else _read_utf8(Path(path))
    train_size = round(len(characters) * (1 - held_out_fraction))
    if not 0 < train_size < len(characters):
        raise invalid(
            "text",
            f"{len(characters)} characters in {path}",
            "enough for a training and a held-out part",
            "Pass a longer file.",
        )
    vocabulary, symbols = np.unique(np.array(list(characters)), return_inverse=True)
    symbols = symbols.astype(np.int32)
    return Text(
        name=PYTHON_REFERENCE if path is None else str(path),
        vocabulary="".join(vocabulary),
        train=symbols[:train_size],
        held_out=symbols[train_size:],
        sha256=hashlib.sha256(characters.encode()).hexdigest(),
    )


def next_character(text: Text, *, T: int, batch_size: int) -> Task:
    """Return the task of predicting each next character: random windows of the training part.

    The loss is in nats per character.

    xs are one-hot `[T, batch_size, I]`, targets the symbols one later, `[T, batch_size]`.

    Raises:
      ValueError: windows of T + 1 characters that do not fit the training part; a T or batch size
        that is no positive integer; no Text.
    """
    _check_text(text)
    T = check_integer("T", T, most=len(text.train) - 1, remedy=SHORTER)
    batch_size = check_size("batch_size", batch_size)
    symbols = jnp.asarray(text.train)

    def batch(key, step):
        key = jax.random.fold_in(key, step)
        starts = jax.random.randint(key, (batch_size,), 0, len(text.train) - T)
        window = symbols[starts[None, :] + jnp.arange(T + 1)[:, None]]
        return one_hot(text, window[:-1]), window[1:]

    size = len(text.vocabulary)
    return Task(size, size, softmax_cross_entropy, batch)


class StreamTask(NamedTuple):
    """Sequences that go on from batch to batch: a `Task` whose batches say which of them start.

    Attributes:
      input_size, output_size, loss: as for `Task`.
      windows: batches in one pass over the streams.
      batch: `(key, step) -> (xs [T, B, I], targets [T, B, ...], starts [B])`, a pure function;
        `starts` is True for the streams that do not go on from the batch of the step before.
    """

    input_size: int
    output_size: int
    loss: StepLoss
    windows: int
    batch: Callable[[Key, Array | int], tuple[Array, Array, Array]]


def consecutive_characters(text: Text, *, T: int, batch_size: int) -> StreamTask:
    """Return the task of predicting each next character of the training part, read in order.

    The loss is in nats per character.

    The text is cut into `batch_size` streams, and each batch holds the next T characters of all of
    them: one-hot xs `[T, batch_size, I]` and the symbols one later, `[T, batch_size]`. All streams
    start anew with each pass. A pass leaves out the characters of a stream that fill no window; the
    key decides, for each pass anew, how many of them are left out at the front.

    Raises:
      ValueError: windows longer than a stream; a T or batch size that is no positive integer.
    """
    _check_text(text)
    batch_size = check_integer(
        "batch_size", batch_size, most=len(text.train) - 1, remedy="Take fewer streams."
    )
    longest = (len(text.train) - 1) // batch_size
    there_are = f"There are {longest} steps in each of {batch_size} streams. "
    T = check_integer("T", T, most=longest, remedy=there_are + SHORTER)
    inputs, targets = streams(text.train, batch_size)
    windows = longest // T

    def batch(key, step):
        epoch, window = jnp.divmod(jnp.asarray(step), windows)
        spare = longest - windows * T
        offset = jax.random.randint(jax.random.fold_in(key, epoch), (), 0, spare + 1)
        here = lambda rows: jax.lax.dynamic_slice_in_dim(rows, offset + window * T, T)
        return one_hot(text, here(inputs)), here(targets), jnp.full(batch_size, window == 0)

    size = len(text.vocabulary)
    return StreamTask(size, size, softmax_cross_entropy, windows, batch)


def one_hot(text: Text, symbols: Array, dtype: DTypeLike = jnp.float32) -> Array:
    """Return the symbols as unit vectors: `[...] -> [..., I]`, I the size of the vocabulary.

    Raises:
      ValueError: no Text; symbols that are no integers, or, outside `jit` (inside, their vectors
        are NaN), that the vocabulary does not have; a dtype that is none of floats.
    """
    _check_text(text)
    size = len(text.vocabulary)
    symbols = check_symbols("symbols", symbols, size)
    known = (symbols >= 0) & (symbols < size)
    vectors = jax.nn.one_hot(symbols, size, dtype=check_dtype("dtype", dtype))
    return jnp.where(known[..., None], vectors, jnp.nan) if is_traced(symbols) else vectors


def streams(symbols: np.ndarray, count: int) -> tuple[Array, Array]:
    """Return `count` parallel streams: inputs and next symbols, each `[n // count, count]`.

    The last `n mod count` predictions, which fill no row, are left out.

    Args:
      symbols: `[n + 1]` integers.
      count: number of streams.

    Raises:
      ValueError: symbols that are no such array; a count that is no positive integer; a stream
        that would be empty.
    """
    symbols, count = _line("symbols", symbols), check_size("count", count)
    steps = (len(symbols) - 1) // count
    if steps < 1:
        raise invalid(
            "symbols",
            f"{len(symbols)} characters",
            f"at least {count + 1}, two for each of {count} streams",
            "Hold out more of the text, or evaluate in fewer streams.",
        )
    rows = np.arange(steps)[:, None] + steps * np.arange(count)[None, :]
    return jnp.asarray(symbols[rows]), jnp.asarray(symbols[rows + 1])


def unigram_entropy(symbols: np.ndarray) -> float:
    """Return −Σ p log₂ p, bits per character: no predictor that ignores context does better.

    Args:
      symbols: `[n]` integers, from 0.

    Raises:
      ValueError: anything else, or no symbol at all.
    """
    symbols = _line("symbols", symbols)
    if len(symbols) == 0 or symbols.min() < 0:
        got = f"{describe(symbols)} from {symbols.min()}" if len(symbols) else describe(symbols)
        raise invalid("symbols", got, "one or more, from 0 on", "Pass text.held_out.")
    p = np.bincount(symbols) / len(symbols)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


SHORTER = "Shorten the window, take fewer streams, or pass a longer text."


def check_symbols(argument: str, symbols: Array, size: int) -> Array:
    """Return `symbols [...]` as an array.

    Raises:
      ValueError: no array of integers; one that is not from 0 to size − 1, outside `jit`.
    """
    remedy = "Pass symbols, integers that stand for characters or words."
    symbols = check_array(argument, symbols, ("*batch",), kind="integer", remedy=remedy)
    if not is_traced(symbols) and symbols.size:
        least, most = int(symbols.min()), int(symbols.max())
        if least < 0 or most >= size:
            got = f"{describe(symbols)} from {least} to {most}"
            raise invalid(argument, got, f"symbols from 0 to {size - 1}", remedy)
    return symbols


def _check_text(text: Text) -> None:
    if not isinstance(text, Text):
        raise invalid("text", describe(text), "a Text", "Pass load_text(path).")


def _line(argument: str, symbols: np.ndarray) -> np.ndarray:
    remedy = "Pass text.held_out, one axis of integers."
    if is_traced(symbols):
        raise invalid(argument, symbols, "integers [n] with values", "Call this outside jit.")
    check_array(argument, symbols, ("n",), kind="integer", remedy=remedy)
    return np.asarray(symbols)  # not what check_array returns, which is traced inside jit


def _read_utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        characters = data.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            "text",
            f"byte 0x{data[error.start]:02x} at offset {error.start} of {path}",
            "UTF-8",
            f"Convert it: iconv -f LATIN1 -t UTF-8 {path}",
        ) from error
    if not characters:
        raise invalid("text", f"the empty file {path}", "characters", "Pass a file with text.")
    return characters


def _python_reference() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))
