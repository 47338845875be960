"""The copying problem: symbols that are said again after a delay."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_size
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import NEVER, from_table
from rnn_jax.types import Key


@of_any_length
def copying(
    *,
    T: int = 100,
    length: int = 10,
    num_symbols: int = 8,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the copying problem with a delay of T steps, T + 2 length in all.

    Inputs, one-hot: `length` random symbols, T − 1 blanks, a cue, `length` blanks. Targets: T +
    length blanks, then the symbols in their order. Every step counts.

    Chance: blanks, then every symbol alike: length · ln(num_symbols) / (T + 2 length), which is
    10 ln 8 / (T + 20) by default.

    Args:
      T: delay: a symbol is said again T + length steps after it was shown.
      length: number of symbols to be kept, 10 in the paper.
      num_symbols: number of different ones, 8 in the paper.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no positive integers; a dtype that is none of floats.

    Reference: Arjovsky, Shah and Bengio 2016, after Hochreiter and Schmidhuber 1997.

    Departure: the cue, which is never a target, has no output.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype)
    length, num_symbols = check_size("length", length), check_size("num_symbols", num_symbols)
    blank, cue = num_symbols, num_symbols + 1
    blanks = lambda count: jnp.full(count, blank, jnp.int32)

    def draw(key: Key):
        symbols = integers(key, (length,), 0, num_symbols)
        shown = [symbols, blanks(T - 1), jnp.full(1, cue, jnp.int32), blanks(length)]
        xs = jax.nn.one_hot(jnp.concatenate(shown), num_symbols + 2, dtype=dtype)
        return xs, jnp.concatenate([blanks(T + length), symbols])

    return Task(
        input_size=num_symbols + 2,
        output_size=num_symbols + 1,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        chance=from_table(blanks_then_guesses(T + length, length, num_symbols)),
        chance_loss=length * math.log(num_symbols) / (T + 2 * length),
        name="copying",
        inputs=(*numbered(num_symbols), "blank", "cue"),
        outputs=(*numbered(num_symbols), "blank"),
    )


def blanks_then_guesses(blanks: int, guesses: int, num_symbols: int) -> np.ndarray:
    """Return the logits of an answer that knows only t: `[T, 1, num_symbols + 1]`."""
    table = np.full((blanks + guesses, 1, num_symbols + 1), NEVER)
    table[:blanks, :, num_symbols] = 0
    table[blanks:, :, :num_symbols] = 0
    return table
