"""Parity: whether the number of ones is odd."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_flag
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task, every_step, last_step_only
from rnn_jax.tasks.without_memory import first_step_only
from rnn_jax.types import Key


@of_any_length
def parity(
    *,
    T: int = 40,
    running: bool = False,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the parity of T random bits: y_t = x_0 ⊕ ... ⊕ x_t, one of two classes.

    Bits are one-hot. The last step counts, or with `running` every step.

    Chance: both classes alike, ln 2, except at t = 0, where the parity is x_0:
    (T − 1)/T · ln 2 with `running`.

    Args:
      T: number of steps, at least 2.
      running: whether every step counts.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a `running` that is no bool; a dtype that is none
        of floats.

    Reference: Delétang et al. 2023, parity check, for the one answer at the end.

    Departure: all sequences have T steps; the paper draws lengths from 1 to 40.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2)
    running = check_flag("running", running)

    def draw(key: Key):
        bits = integers(key, (T,), 0, 2)
        return jax.nn.one_hot(bits, 2, dtype=dtype), jnp.cumsum(bits, dtype=jnp.int32) % 2

    return Task(
        input_size=2,
        output_size=2,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=every_step if running else last_step_only,
        chance=first_step_only,
        chance_loss=(T - 1) / T * math.log(2) if running else math.log(2),
        name="parity",
        inputs=numbered(2),
        outputs=("even", "odd"),
    )
