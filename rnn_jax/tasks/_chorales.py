"""Bach's four-part chorales as piano rolls: which keys sound next."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_dtype, check_size, choose, invalid, optional
from rnn_jax.losses import bernoulli_cross_entropy
from rnn_jax.tasks.answers import is_the_set
from rnn_jax.tasks.arrays import from_arrays
from rnn_jax.tasks.examples import of_any_length
from rnn_jax.tasks.task import Task

INSTALL = "pip install music21, or the extra [data]"
KEYS = 88
LOWEST_KEY = 21
"""MIDI number of the lowest key of a piano."""
STEPS_A_QUARTER = 1
HELD_OUT = 5
"""Every fifth chorale is the test's."""
FORMAT = 1
"""Of the file of rolls; another one is made anew."""


@of_any_length
def bach_chorales(
    *,
    T: int = 64,
    split: str = "train",
    cache: str | Path = "~/.cache/rnn_jax/chorales.npz",
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the task of predicting which of 88 keys sound a quarter note later.

    Inputs and targets are 0 and 1 for each key, lowest first; a key that is held sounds. Chorales
    are cut into pieces of T steps, the last of each shorter; all steps with a next one count. The
    loss is the sum over keys, in nats a step.

    Chance, of an answer that reads nothing: each key at its frequency in the training part.

    Args:
      T: number of steps of a piece.
      split: "train" or "test", every fifth chorale.
      cache: file that keeps the rolls, which take minutes to be read from scores.
      batch_size: number of pieces, B.
      dtype: dtype of inputs and targets.

    Raises:
      ImportError: no music21, whose wheel has the scores, and no cache.
      OSError: a cache that cannot be written.
      ValueError: a split of another name; a batch of more pieces than there are; a T or batch size
        that is no positive integer; a dtype that is none of floats; a cache that is damaged.

    Reference: Boulanger-Lewandowski, Bengio and Vincent 2012 for the task.

    Departure: the chorales are those of music21's corpus, in the keys that they are written in, and
    the split is our own, so that losses are not to be held against published ones.
    """
    T, dtype = check_size("T", T), check_dtype("dtype", dtype)
    choose("split", split, {"train": None, "test": None})
    if not isinstance(cache, str | os.PathLike):
        raise invalid("cache", cache, "a path", "Pass the name of a file.")
    rolls = _rolls(Path(cache).expanduser())
    parts = {"test": rolls[HELD_OUT - 1 :: HELD_OUT]}
    parts["train"] = [roll for n, roll in enumerate(rolls) if n % HELD_OUT != HELD_OUT - 1]
    xs, targets, lengths = _pieces(parts[split], T)
    task = from_arrays(
        jnp.asarray(xs, dtype),
        jnp.asarray(targets, dtype),
        lengths=lengths,
        batch_size=batch_size,
        loss=bernoulli_cross_entropy,
        correct=is_the_set,
        name="bach_chorales",
    )
    frequency = np.concatenate([roll[1:] for roll in parts["train"]]).mean(0, dtype=np.float64)
    # A key that never sounds would have an infinite loss where it does: half an occurrence.
    least = 0.5 / sum(len(roll) - 1 for roll in parts["train"])
    frequency = np.clip(frequency, least, 1 - least)
    logits = np.log(frequency) - np.log1p(-frequency)
    heard = np.concatenate([roll[1:] for roll in parts[split]]).mean(0, dtype=np.float64)
    loss = -(heard * np.log(frequency) + (1 - heard) * np.log1p(-frequency)).sum()
    answer = lambda xs: jnp.broadcast_to(jnp.asarray(logits, xs.dtype), xs.shape)
    return task._replace(chance=answer, chance_loss=float(loss))


def _pieces(rolls: list[np.ndarray], T: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pieces of T steps, `[T, N, 88]` and the same a step later, and their lengths `[N]`."""
    starts = [(roll, s) for roll in rolls for s in range(0, len(roll) - 1, T)]
    lengths = np.array([min(T, len(roll) - 1 - start) for roll, start in starts])
    xs = np.zeros((T, len(starts), KEYS), np.float32)
    targets = np.zeros_like(xs)
    for n, ((roll, start), length) in enumerate(zip(starts, lengths, strict=True)):
        xs[:length, n] = roll[start : start + length]
        targets[:length, n] = roll[start + 1 : start + 1 + length]
    return xs, targets, lengths


def _rolls(cache: Path) -> list[np.ndarray]:
    """Return a roll `[steps, 88]`, 0 and 1, of each chorale, from the cache where there is one."""
    if not cache.exists():
        rolls = [_roll(score) for score in _scores() if len(score.parts) == 4]
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cache.with_name(f"{cache.name}.{os.getpid()}")
        with unfinished.open("wb") as file:
            sizes = np.array([len(roll) for roll in rolls])
            np.savez_compressed(file, format=FORMAT, sizes=sizes, rolls=np.concatenate(rolls))
        unfinished.replace(cache)  # whole or not there, also where two runs make it at once
    try:
        with cache.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            sizes, rolls, number = file["sizes"], file["rolls"], int(file["format"])
        if number != FORMAT or rolls.shape != (sizes.sum(), KEYS):
            raise ValueError(f"format {number}, {sizes.sum()} steps, rolls {list(rolls.shape)}")
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        got, expected = f"{cache}: {error}", "a file of rolls"
        raise invalid("cache", got, expected, "Delete it; it will be made anew.") from error
    return np.split(rolls, np.cumsum(sizes)[:-1])


def _scores() -> Iterator[Any]:
    """Read the chorales of music21's corpus, in the order of their numbers."""
    corpus = optional("music21.corpus", INSTALL)
    return iter(corpus.chorales.Iterator(numberingSystem="bwv", returnType="stream"))


def _roll(score: Any) -> np.ndarray:
    """Return which keys sound at each quarter of a score, `[steps, 88]`."""
    steps = math.ceil(float(score.highestTime) * STEPS_A_QUARTER)
    roll = np.zeros((steps, KEYS), np.uint8)
    for part in score.parts:
        for note in part.flatten().notes:
            begin = math.ceil(float(note.offset) * STEPS_A_QUARTER)
            end = math.ceil(float(note.offset + note.quarterLength) * STEPS_A_QUARTER)
            for pitch in note.pitches:
                roll[begin:end, pitch.midi - LOWEST_KEY] = 1
    return roll
