"""Feeds: functions of an output that return the next input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rnn_jax.errors import check_number, is_traced
from rnn_jax.types import Array, Key, at_least_float32

Feed = Callable[[Key, Array], Array]


def feed_output(key: Key, y: Array) -> Array:
    """Return the output itself as the next input."""
    del key
    return y


def sample_one_hot(temperature: float | Array = 1.0) -> Feed:
    """Return a feed that draws a symbol from softmax(y / temperature), as a one-hot vector.

    0, as a Python number, takes the likeliest symbol. No gradient passes through a draw.

    Raises:
      ValueError: a temperature that is not a number of at least 0.
    """
    remedy = "Pass 0 for the likeliest symbol."
    check_number("temperature", temperature, least=0, infinite=True, remedy=remedy)
    return _SampleOneHot(temperature)


@dataclass(frozen=True)
class _SampleOneHot:
    """A feed that equals another of the same temperature, so that a loop of calls compiles once."""

    temperature: float | Array

    def __call__(self, key: Key, y: Array) -> Array:
        if not is_traced(self.temperature) and float(self.temperature) == 0:
            symbol = y.argmax(-1)
        else:
            # In half precision draws would tie, and a small temperature overflow. Less its maximum
            # the largest logit is 0, also at a traced temperature of 0, where 0 / 0 is NaN.
            below = at_least_float32(y) - at_least_float32(y.max(-1, keepdims=True))
            logits = below / jnp.asarray(self.temperature, below.dtype)
            symbol = jax.random.categorical(key, jnp.where(below == 0, 0, logits))
        return jax.nn.one_hot(symbol, y.shape[-1], dtype=y.dtype)
