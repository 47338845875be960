"""A stream of bits, and what was shown T steps ago: the bit itself, or an exclusive or of two."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_integer
from rnn_jax.losses import bernoulli_cross_entropy
from rnn_jax.tasks.answers import is_the_set
from rnn_jax.tasks.examples import batch_of, check_common, of_any_length, steps_of
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import constant
from rnn_jax.types import Array, Key


@of_any_length
def delay(
    *,
    T: int = 24,
    steps: int | None = None,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the task of recalling the input of T steps ago: y_t = x_{t−T}.

    Inputs are random bits, 0 or 1, and the output is the logit of the bit's probability. Steps
    count from t = T on.

    Chance: both bits alike, ln 2.

    Args:
      T: steps from a bit to its answer.
      steps: steps of a sequence, more than T; 3 T by default.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Engelken 2023, the delayed copy task.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype)
    return _of_bits(lambda xs: jnp.roll(xs, T, 0), T, steps, batch_size, dtype, "delay")


@of_any_length
def delayed_xor(
    *,
    T: int = 24,
    steps: int | None = None,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the delayed exclusive or: y_t = x_{t−⌊T/2⌋} ⊕ x_{t−T}.

    As `delay`, but that two bits of the stream must be combined. (Martens and Sutskever 2011 call
    another task by this name: the adding problem with bits.)

    Chance: both bits alike, ln 2; one of the two bits says nothing about the answer.

    Args:
      T: steps from the earlier bit to the answer, at least 2.
      steps: steps of a sequence, more than T; 3 T by default.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Engelken 2023, the delayed temporal exclusive or.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2)
    recalled = lambda xs: jnp.abs(jnp.roll(xs, T // 2, 0) - jnp.roll(xs, T, 0))
    return _of_bits(recalled, T, steps, batch_size, dtype, "delayed_xor")


def _of_bits(recalled: Any, T: int, steps: Any, batch_size: int, dtype: Any, name: str) -> Task:
    remedy = "Sequences are longer than the delay."
    steps = 3 * T if steps is None else check_integer("steps", steps, T + 1, remedy=remedy)

    def draw(key: Key):
        xs = jax.random.bernoulli(key, 0.5, (steps, 1)).astype(dtype)
        return xs, recalled(xs)

    def from_T_on(xs: Array, targets: Array) -> Array:
        del targets
        return jnp.broadcast_to(steps_of(len(xs))[:, None] >= T, xs.shape[:2])

    return Task(
        input_size=1,
        output_size=1,
        loss=bernoulli_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=from_T_on,
        correct=is_the_set,
        chance=constant([0.0]),
        chance_loss=math.log(2),
        name=name,
        inputs=("bit",),
        outputs=("answer",),
    )
