"""The multiplication problem: the product of two marked numbers, in sequences of random length."""

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
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import constant
from rnn_jax.types import Array, Key

EARLY = 10
"""The first number is among so many steps."""


@of_any_length
def multiplication(*, T: int = 100, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the multiplication problem: y = v_i v_j at the end, i and j the marked steps.

    x_t = (v_t, m_t), v_t from U[0, 1]. Sequences have T to T + T/10 steps, and zeros behind them. m
    is −1 at the first and the last step of a sequence, 1 at the marked ones: i of the first ten, j
    of the first T/2 − 1 others. If the first step is chosen, its number is set to 1 and its marker
    stays −1. The last step counts; an answer is correct if |y − target| < 0.04.

    Chance: the mean of the product. The first step is chosen with probability
    q = 1/10 + 9/10 · 1/(T/2 − 1), and the target is one number then, else a product of two:
    E[y] = q/2 + (1 − q)/4, E[y²] = q/3 + (1 − q)/9, and the loss is their E[y²] − E[y]², 7/144 for
    q = 0.

    Args:
      T: least number of steps, at least 12.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Hochreiter and Schmidhuber 1997, experiment 5.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=EARLY + 2)
    longest, others = T + T // 10, T // 2 - 1

    def draw(key: Key):
        of_values, of_first, of_second, of_length = jax.random.split(key, 4)
        first = integers(of_first, (), 0, EARLY)
        second = integers(of_second, (), 0, others)
        second += (second >= first).astype(jnp.int32)  # the first step that is not marked yet
        last = integers(of_length, (), T, longest + 1) - 1
        steps = steps_of(longest)
        chosen = (steps == first) | (steps == second)
        values = uniform(of_values, (longest,), dtype)
        values = jnp.where(chosen & (steps == 0), 1, values)
        product = jnp.where(chosen, values, 1).prod()
        ends = (steps == 0) | (steps == last)
        markers = jnp.where(ends, -1, chosen.astype(jnp.int32)).astype(dtype)
        xs = jnp.stack([values, markers], -1)
        return jnp.where((steps <= last)[:, None], xs, 0), jnp.full((longest, 1), product)

    q = 1 / EARLY + (1 - 1 / EARLY) / others
    mean, square = q / 2 + (1 - q) / 4, q / 3 + (1 - q) / 9
    return Task(
        input_size=2,
        output_size=1,
        loss=mean_squared_error,
        batch=batch_of(draw, batch_size),
        mask=at_end_marker,
        correct=within(0.04),
        chance=constant([mean]),
        chance_loss=square - mean**2,
        name="multiplication",
        inputs=("value", "marker"),
        outputs=("product",),
    )


def at_end_marker(xs: Array, targets: Array) -> Array:
    """Return True where the marker is −1, but for the first step: `[T, B]`."""
    del targets
    return (xs[..., 1] == -1).at[0].set(False)
