"""The random permutation problem: the first symbol, after many others that say nothing."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_integer
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task, last_step_only
from rnn_jax.tasks.without_memory import NEVER, constant
from rnn_jax.types import Key


@of_any_length
def random_permutation(
    *,
    T: int = 100,
    num_symbols: int = 100,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the random permutation problem: the symbol after T steps is the first one again.

    Inputs, one-hot: symbol 0 or 1, then T − 1 symbols that are uniform over the others (and may
    come more than once: the name says more than the protocol). Targets are the next symbols, the
    last one x_0. Of these only the last can be known, and it alone counts.

    Chance: symbols 0 and 1 alike, ln 2.

    Args:
      T: number of steps, at least 2.
      num_symbols: number of symbols, at least 3.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Martens and Sutskever 2011, after Hochreiter and Schmidhuber 1997, experiment 2b.

    Departure: they add the losses of the steps whose next symbol cannot be known, and judge by the
    last alone, as here.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2)
    remedy = "There are two first symbols, and one other at least."
    num_symbols = check_integer("num_symbols", num_symbols, 3, remedy=remedy)

    def draw(key: Key):
        of_first, of_others = jax.random.split(key)
        first = integers(of_first, (1,), 0, 2)
        others = integers(of_others, (T - 1,), 2, num_symbols)
        xs = jax.nn.one_hot(jnp.concatenate([first, others]), num_symbols, dtype=dtype)
        return xs, jnp.concatenate([others, first])

    return Task(
        input_size=num_symbols,
        output_size=num_symbols,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=last_step_only,
        chance=constant(np.where(np.arange(num_symbols) < 2, 0, NEVER)),
        chance_loss=math.log(2),
        name="random_permutation",
        inputs=numbered(num_symbols),
        outputs=numbered(num_symbols),
    )
