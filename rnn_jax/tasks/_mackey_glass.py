"""The Mackey-Glass series, a delay equation integrated one delay at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_size
from rnn_jax.tasks.examples import of_any_length
from rnn_jax.tasks.forecasts import Chance, forecast
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key

SUBSTEPS = 10
"""Steps of integration for each unit of time."""
TRANSIENT = 1000
"""Units of time that are left out at the start of the series."""
MEAN, DEVIATION = 0.93, 0.227
"""Of the series with τ = 17, rounded."""
CHANCE = Chance(
    -2.24,
    1.76,
    (
        *(-2.2072, -1.9603, -1.7189, -1.4721, -1.2271, -0.9839, -0.7366, -0.4888, -0.2446),
        *(0.0092, 0.2572, 0.5074, 0.7544, 1.0014, 1.2501, 1.4896, 1.7316),
    ),
    0.0210036,
)
"""For the defaults."""


@of_any_length
def mackey_glass(
    *,
    T: int = 500,
    tau: int = 17,
    horizon: int = 1,
    washout: int = 100,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the Mackey-Glass series, whose value `horizon` steps later is to be forecast.

    ẋ(t) = 0.2 x(t − τ) / (1 + x(t − τ)¹⁰) − 0.1 x(t), sampled at every unit of time, less 0.93 and
    divided by 0.227, about its mean and its standard deviation at τ = 17. The first `washout` steps
    do not count. A sequence is solved if the root of its mean squared error is below 0.05.

    Each sequence starts from a constant history of its own, x = U[0.5, 1.5], and its first 1000
    units of time are left out.

    Chance: no closed form is known. For the defaults, E[x_{t+1} | x_t] was measured
    (`tasks.forecasts.Chance`), and what is left of the variance, 0.0210; elsewhere chance is None
    and its loss NaN. It is not far from that at another T, though not the same: sequences are not
    in all phases of the attractor alike after 1000 units of time. Measured in 400 bins of x_t, 0.53
    and 0.72 are left at horizons of 6 and 84. The answer 0 has a loss near 1.

    Args:
      T: number of steps.
      tau: delay, τ, in units of time; chaotic from 17 on.
      horizon: steps from the input to what is forecast.
      washout: number of first steps that do not count, below T.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets; the integration is in float32 at least.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Mackey and Glass 1977; Jaeger and Haas 2004, who forecast 84 steps, for the task.

    Departure: forecasts are made at every step from the true series, not fed back; the criterion of
    a solved sequence is ours.
    """
    tau = check_size("tau", tau)

    def series(key: Key, steps: int, dtype: DTypeLike) -> Array:
        start = jax.random.uniform(key, (), dtype, 0.5, 1.5)
        x = integrate(start, tau, TRANSIENT + steps)[TRANSIENT:]
        return (x - MEAN) / DEVIATION

    measured = (CHANCE, CHANCE.loss) if (T, tau, horizon, washout) == (500, 17, 1, 100) else ()
    return forecast(series, "mackey_glass", T, horizon, washout, batch_size, dtype, *measured)


def integrate(start: Array, tau: int, steps: int, substeps: int = SUBSTEPS) -> Array:
    """Return x(0), ..., x(steps − 1) from the constant history x(t) = start, t ≤ 0: `[steps]`.

    The method of steps: on each interval of length τ the delayed values are those of the interval
    before it, so that the equation is an ordinary one there, solved by Runge-Kutta steps of fourth
    order. Between grid points the delayed value is that of the cubic Hermite polynomial, whose
    slopes are the equation's own.
    """
    h, count = 1 / substeps, tau * substeps

    def slope(x: Array, delayed: Array) -> Array:
        return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

    def step(x: Any, delayed: Any):
        now, halfway, after = delayed
        k1 = slope(x, now)
        k2 = slope(x + h / 2 * k1, halfway)
        k3 = slope(x + h / 2 * k2, halfway)
        k4 = slope(x + h * k3, after)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return x, x

    def interval(before: Any, _: None):
        x, dx = before  # on the grid of the interval before, both ends included
        halfway = (x[:-1] + x[1:]) / 2 + h / 8 * (dx[:-1] - dx[1:])
        delayed: Any = (x[:-1], halfway, x[1:])
        _, later = jax.lax.scan(step, x[-1], delayed)
        now = jnp.append(x[-1], later)
        return (now, slope(now, x)), now[:-1:substeps]

    history = (jnp.full(count + 1, start), jnp.zeros(count + 1, start.dtype))
    _, x = jax.lax.scan(interval, history, length=-(-steps // tau))
    return x.reshape(-1)[:steps]
