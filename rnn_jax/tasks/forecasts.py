"""Forecasts of a chaotic series: its value some steps later."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnn_jax.errors import check_integer, check_size
from rnn_jax.losses import mean_squared_error
from rnn_jax.tasks.answers import root_mean_square_within, within
from rnn_jax.tasks.examples import batch_of, check_common, steps_of
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key, wide_dtype

TOLERANCE = 0.05
"""Error of an answer that counts as right, in standard deviations of the series."""


class Chance(NamedTuple):
    """The best answer that knows s_t alone, E[s_{t+1} | s_t], as it was measured.

    It is the piecewise linear function, of knots that are equally far from each other, that fits
    2.4 million steps best in least squares. Its loss is that of 50,000 other sequences of 400
    steps; with 64 knots and with 1,000 bins of s_t it was the same to 1e-5.

    Attributes:
      first, last: first and last knot.
      values: the answer at each.
      loss: its mean loss.
    """

    first: float
    last: float
    values: tuple[float, ...]
    loss: float

    def __call__(self, xs: Array) -> Array:
        """Return the answer to `xs [T, B, 1]`."""
        wide = wide_dtype(xs.dtype)
        knots = jnp.linspace(self.first, self.last, len(self.values), dtype=wide)
        return jnp.interp(xs.astype(wide), knots, jnp.asarray(self.values, wide)).astype(xs.dtype)


def forecast(
    series: Callable[[Key, int, Any], Array],
    name: str,
    T: Any,
    horizon: Any,
    washout: Any,
    batch_size: Any,
    dtype: Any,
    chance: Callable[[Array], Array] | None = None,
    chance_loss: float = math.nan,
) -> Task:
    """Return the task of forecasting a series: xs = s_t, targets s_{t+horizon}, `[T, B, 1]`.

    Args:
      series: `(key, steps, dtype) -> [steps]`, of mean about 0 and variance about 1.
      name: name of the task.
      T: number of steps.
      horizon: steps from the input to what is forecast.
      washout: number of first steps that do not count.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.
      chance, chance_loss: the best answer that knows s_t alone, and its loss; None and NaN if they
        were not measured.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.
    """
    T, batch_size, dtype = check_common(T, batch_size, dtype)
    horizon = check_size("horizon", horizon)
    washout = check_integer("washout", washout, 0, T - 1, "Leave some steps that count.")

    def draw(key: Key):
        values = series(key, T + horizon, wide_dtype(dtype))[:, None].astype(dtype)
        return values[:T], values[horizon:]

    def after_washout(xs: Array, targets: Array) -> Array:
        del targets
        return jnp.broadcast_to(steps_of(len(xs))[:, None] >= washout, xs.shape[:2])

    return Task(
        input_size=1,
        output_size=1,
        loss=mean_squared_error,
        batch=batch_of(draw, batch_size),
        mask=after_washout,
        correct=within(TOLERANCE),
        chance=chance,
        chance_loss=chance_loss,
        name=name,
        inputs=("now",),
        outputs=(f"{horizon} later",),
        solved_when=root_mean_square_within(TOLERANCE),
    )
