"""Associative recall: the value that was shown with a key."""

from __future__ import annotations

import math
import string

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task, last_step_only
from rnn_jax.tasks.without_memory import constant
from rnn_jax.types import Key

LETTERS, DIGITS = string.ascii_lowercase, string.digits
SIGN = len(LETTERS) + len(DIGITS)


@of_any_length
def associative_recall(*, T: int = 8, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return associative recall with T pairs: "c9k8j3f1??c" asks for 9.

    Inputs, one-hot: T pairs of a letter and a digit, "??", and one of the letters; 2 T + 3 steps.
    Letters differ, digits are drawn one by one. The answer is the digit that stood behind the
    letter; the last step counts.

    Chance: every digit alike, ln 10.

    Args:
      T: number of pairs, at most 26.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Ba et al. 2016, associative retrieval. (The associative recall of Graves, Wayne and
    Danihelka 2014 asks for the item that came after a given one, each a sequence of random
    vectors.)
    """
    remedy = "There are 26 letters, and each is a key at most once."
    T, batch_size, dtype = check_common(T, batch_size, dtype, most=len(LETTERS), remedy=remedy)

    def draw(key: Key):
        of_keys, of_values, of_query = jax.random.split(key, 3)
        letters = jax.random.permutation(of_keys, jnp.arange(len(LETTERS), dtype=jnp.int32))[:T]
        digits = integers(of_values, (T,), 0, len(DIGITS))
        asked = integers(of_query, (), 0, T)
        pairs = jnp.stack([letters, len(LETTERS) + digits], -1).reshape(-1)
        query = jnp.stack([jnp.int32(SIGN), jnp.int32(SIGN), letters[asked]])
        symbols = jnp.concatenate([pairs, query])
        return jax.nn.one_hot(symbols, SIGN + 1, dtype=dtype), jnp.full(2 * T + 3, digits[asked])

    return Task(
        input_size=SIGN + 1,
        output_size=len(DIGITS),
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=last_step_only,
        chance=constant([0.0] * len(DIGITS)),
        chance_loss=math.log(len(DIGITS)),
        name="associative_recall",
        inputs=(*LETTERS, *DIGITS, "?"),
        outputs=numbered(len(DIGITS)),
    )
