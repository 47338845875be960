"""Noiseless memorization: the 5-bit and the 20-bit problem."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_size
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks._copying import blanks_then_guesses
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import from_table
from rnn_jax.types import Key


@of_any_length
def noiseless_memorization(
    *,
    T: int = 100,
    length: int = 5,
    num_symbols: int = 2,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the problem of `length` symbols, shown first, to be said again in the last steps of T.

    The 5-bit problem has 5 symbols of 2, the default; the 20-bit problem 10 symbols of 5,
    `length=10, num_symbols=5`. It is a copying problem whose T counts all steps.

    Inputs, one-hot: the symbols, blanks, a cue at step T − length − 1, blanks. Targets: blanks, and
    the symbols in the last `length` steps. Every step counts.

    Chance: blanks, then every symbol alike: length · ln(num_symbols) / T.

    Args:
      T: number of steps, at least 2 length + 1.
      length: number of symbols to be kept.
      num_symbols: number of different ones.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Martens and Sutskever 2011.

    Departure: sequences are drawn at random, also where a batch could hold each of them once.
    """
    length, num_symbols = check_size("length", length), check_size("num_symbols", num_symbols)
    remedy = "A sequence holds the symbols twice, and the cue."
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2 * length + 1, remedy=remedy)
    blank, cue = num_symbols, num_symbols + 1

    def draw(key: Key):
        symbols = integers(key, (length,), 0, num_symbols)
        blanks = jnp.full(T, blank, jnp.int32)
        shown, targets = blanks.at[:length].set(symbols), blanks.at[-length:].set(symbols)
        shown = shown.at[-length - 1].set(cue)
        return jax.nn.one_hot(shown, num_symbols + 2, dtype=dtype), targets

    return Task(
        input_size=num_symbols + 2,
        output_size=num_symbols + 1,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        chance=from_table(blanks_then_guesses(T - length, length, num_symbols)),
        chance_loss=length * math.log(num_symbols) / T,
        name="noiseless_memorization",
        inputs=(*numbered(num_symbols), "blank", "cue"),
        outputs=(*numbered(num_symbols), "blank"),
    )
