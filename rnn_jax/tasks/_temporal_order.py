"""The temporal order problem: in which order X and Y came, with two or three of them."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_integer
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, of_any_length
from rnn_jax.tasks.task import Task, last_step_only
from rnn_jax.tasks.without_memory import constant
from rnn_jax.types import Key

SYMBOLS = ("a", "b", "c", "d", "X", "Y", "E", "B")
START, TRIGGER = 6, 7
PERCENT = {2: ((10, 20), (50, 60)), 3: ((10, 20), (33, 43), (66, 76))}
"""Where the relevant symbols stand, in percent of T, the end excluded."""


@of_any_length
def temporal_order(
    *,
    T: int = 100,
    num_relevant: int = 2,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the temporal order problem: the relevant symbols X and Y, in their order, as a class.

    Inputs, one-hot: E, the distractors a to d at random, the trigger B at the end. Two symbols,
    each X or Y, stand in [T/10, 2T/10) and [5T/10, 6T/10) (experiment 6a, 4 classes); or three, in
    [10T/100, 20T/100), [33T/100, 43T/100) and [66T/100, 76T/100) (6b, 8 classes). The class is the
    binary number of the symbols, X = 0 and Y = 1, the first one leading. The last step counts.

    Chance: every class alike, num_relevant · ln 2.

    Args:
      T: number of steps, at least 10.
      num_relevant: number of relevant symbols, 2 or 3.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Hochreiter and Schmidhuber 1997, experiments 6a and 6b; Pascanu, Mikolov and Bengio
    2013 for T.

    Departure: all sequences have T steps, not T to T + T/10; the largest of the class outputs is
    the answer, where Hochreiter and Schmidhuber ask for errors below 0.3.
    """
    remedy = "Pass 2 for experiment 6a, 3 for 6b."
    num_relevant = check_integer("num_relevant", num_relevant, 2, 3, remedy)
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=10)
    low, high = (
        jnp.array([percent[end] * T // 100 for percent in PERCENT[num_relevant]], jnp.int32)
        for end in (0, 1)
    )

    def draw(key: Key):
        of_distractors, of_symbols, of_positions = jax.random.split(key, 3)
        relevant = integers(of_symbols, (num_relevant,), 0, 2)
        positions = integers(of_positions, (num_relevant,), low, high)
        symbols = integers(of_distractors, (T,), 0, 4).at[positions].set(4 + relevant)
        symbols = symbols.at[0].set(START).at[-1].set(TRIGGER)
        order = (relevant << jnp.arange(num_relevant, dtype=jnp.int32)[::-1]).sum(dtype=jnp.int32)
        return jax.nn.one_hot(symbols, len(SYMBOLS), dtype=dtype), jnp.full(T, order)

    classes = tuple(map("".join, itertools.product("XY", repeat=num_relevant)))
    return Task(
        input_size=len(SYMBOLS),
        output_size=len(classes),
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=last_step_only,
        chance=constant([0.0] * len(classes)),
        chance_loss=num_relevant * math.log(2),
        name="temporal_order",
        inputs=SYMBOLS,
        outputs=classes,
    )
