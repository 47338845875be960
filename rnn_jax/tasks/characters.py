"""Next-character prediction: random windows of a text, or consecutive ones along streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import (
    check_array,
    check_dtype,
    check_integer,
    check_size,
    describe,
    invalid,
    is_traced,
)
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.text import Text, check_line, check_text
from rnn_jax.types import Array, Key, StepLoss

SHORTER = "Shorten the window, take fewer streams, or pass a longer text."


def next_character(text: Text, *, T: int, batch_size: int) -> Task:
    """Return the task of predicting each next character: random windows of the training part.

    The loss is in nats per character; xs are one-hot `[T, batch_size, I]`, targets the symbols one
    later, `[T, batch_size]`.

    Raises:
      ValueError: windows of T + 1 characters that do not fit the training part; a T or batch size
        that is no positive integer; no Text.
    """
    check_text(text)
    T = check_integer("T", T, most=len(text.train) - 1, remedy=SHORTER)
    batch_size = check_size("batch_size", batch_size)
    symbols = jnp.asarray(text.train)

    def batch(key: Key, step: Any):
        key = jax.random.fold_in(key, step)
        starts = jax.random.randint(key, (batch_size,), 0, len(text.train) - T)
        window = symbols[starts[None, :] + jnp.arange(T + 1)[:, None]]
        return one_hot(text, window[:-1]), window[1:]

    size, names = len(text.vocabulary), tuple(text.vocabulary)
    return Task(
        *(size, size, softmax_cross_entropy, batch),
        name="next_character",
        inputs=names,
        outputs=names,
    )


class StreamTask(NamedTuple):
    """Sequences that go on from batch to batch: a `Task` whose batches say which of them start.

    Attributes:
      input_size, output_size, loss: as for `Task`.
      windows: number of batches in one pass over the streams.
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
    start again with each pass. A pass leaves out the characters of a stream that fill no window;
    the key decides for each pass how many of them are left out at the front.

    Raises:
      ValueError: windows longer than a stream; a T or batch size that is no positive integer.
    """
    check_text(text)
    batch_size = check_integer(
        "batch_size", batch_size, most=len(text.train) - 1, remedy="Take fewer streams."
    )
    longest = (len(text.train) - 1) // batch_size
    there_are = f"There are {longest} steps in each of {batch_size} streams. "
    T = check_integer("T", T, most=longest, remedy=there_are + SHORTER)
    inputs, targets = streams(text.train, batch_size)
    windows = longest // T

    def batch(key: Key, step: Any):
        epoch, window = jnp.divmod(jnp.asarray(step), windows)
        # One offset for the whole pass: the windows of a pass follow each other without a gap.
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
    check_text(text)
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
    symbols, count = check_line("symbols", symbols), check_size("count", count)
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
