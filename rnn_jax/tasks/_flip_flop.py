"""The flip-flop: the sign of the last pulse on each of several channels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_number, check_size
from rnn_jax.losses import mean_squared_error
from rnn_jax.tasks.answers import within
from rnn_jax.tasks.examples import batch_of, check_common, numbered, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.types import Key


@of_any_length
def flip_flop(
    *,
    T: int = 100,
    num_bits: int = 3,
    pulse_probability: float = 0.1,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the flip-flop of several bits: y_t is the last pulse, +1 or −1, of each channel.

    Each input is +1 or −1 with probability p, else 0. Every step counts; an answer is correct if
    every output is nearer to its target than to the other value, |y − target| < 1.

    Chance: x_t itself. Where there is no pulse both values are alike, and the best answer is 0,
    with loss 1: (1 − p)(T − 1)/T.

    Args:
      T: number of steps.
      num_bits: number of channels, 3 in the paper.
      pulse_probability: p, above 0 and at most 1.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no positive integers; a p out of range; a dtype that is none of
        floats.

    Reference: Sussillo and Barak 2013.

    Departure: every channel has a pulse at the first step, so that every target is determined; a
    pulse lasts one step, and the targets change with it.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype)
    num_bits = check_size("num_bits", num_bits)
    remedy = "Pass 0.1 for a pulse in ten steps."
    p = float(check_number("pulse_probability", pulse_probability, above=0, most=1, remedy=remedy))

    def draw(key: Key):
        of_pulses, of_signs = jax.random.split(key)
        is_pulse = jax.random.uniform(of_pulses, (T, num_bits), jnp.float32) < p
        sign = jax.random.rademacher(of_signs, (T, num_bits), dtype=jnp.int32)
        pulses = jnp.where(is_pulse.at[0].set(True), sign, 0)
        hold = lambda last, new: (jnp.where(new == 0, last, new),) * 2
        _, targets = jax.lax.scan(hold, pulses[0], pulses)
        return pulses.astype(dtype), targets.astype(dtype)

    return Task(
        input_size=num_bits,
        output_size=num_bits,
        loss=mean_squared_error,
        batch=batch_of(draw, batch_size),
        correct=within(1.0),
        chance=lambda xs: xs,
        chance_loss=(1 - p) * (T - 1) / T,
        name="flip_flop",
        inputs=numbered(num_bits),
        outputs=numbered(num_bits),
    )
