"""The adding problem: the sum of two marked numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.losses import mean_squared_error
from rnn_jax.tasks.answers import within
from rnn_jax.tasks.examples import (
    batch_of,
    check_common,
    integers,
    of_any_length,
    steps_of,
    uniform,
)
from rnn_jax.tasks.task import Task, last_step_only
from rnn_jax.tasks.without_memory import constant
from rnn_jax.types import Key


@of_any_length
def adding(*, T: int = 100, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the adding problem with T steps: y_T = v_i + v_j, i and j the marked steps.

    x_t = (v_t, m_t), v_t from U[0, 1], m_t = 1 at one step of the first half and one of the second,
    else 0. The last step counts; an answer is correct if |y − target| < 0.04.

    Chance: the answer 1, the mean of the sum. Its loss is the variance of two numbers from U[0, 1],
    2/12 = 1/6.

    Args:
      T: number of steps, at least 3.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Hochreiter and Schmidhuber 1997, experiment 4; Le, Jaitly and Hinton 2015 for the
    fixed length, values in [0, 1] and the sum as it is.

    Departure: the last step is never marked. If it were, a network without memory would know one of
    the two numbers, and chance would be less than 1/6.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=3)

    def draw(key: Key):
        of_values, of_first, of_second = jax.random.split(key, 3)
        values, steps = uniform(of_values, (T,), dtype), steps_of(T)
        first = integers(of_first, (), 0, T // 2)
        second = integers(of_second, (), T // 2, T - 1)
        marked = (steps == first) | (steps == second)
        total = jnp.where(marked, values, 0).sum()
        return jnp.stack([values, marked.astype(dtype)], -1), jnp.full((T, 1), total)

    return Task(
        input_size=2,
        output_size=1,
        loss=mean_squared_error,
        batch=batch_of(draw, batch_size),
        mask=last_step_only,
        correct=within(0.04),
        chance=constant([1.0]),
        chance_loss=1 / 6,
        name="adding",
        inputs=("value", "marker"),
        outputs=("sum",),
    )
