"""The Lorenz system, of which one coordinate is seen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.tasks.examples import of_any_length
from rnn_jax.tasks.forecasts import Chance, forecast
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key

INTERVAL = 0.02
"""Time between two steps of the series."""
SUBSTEPS = 4
"""Steps of integration for each step of the series."""
TRANSIENT = 1000
"""Steps that are left out at the start of the series."""
DEVIATION = 7.9
"""Of x, whose mean is 0; rounded."""
CHANCE = Chance(
    -2.4,
    2.4,
    (
        *(-2.3269, -2.0539, -1.7747, -1.4907, -1.2028, -0.9080, -0.6080, -0.3052, 0.0),
        *(0.3052, 0.6080, 0.9081, 1.2028, 1.4908, 1.7745, 2.0540, 2.3276),
    ),
    0.0115761,
)
"""For the defaults."""


@of_any_length
def lorenz(
    *,
    T: int = 500,
    horizon: int = 1,
    washout: int = 100,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the Lorenz system's x, whose value `horizon` steps later is to be forecast.

    ẋ = 10 (y − x), ẏ = x (28 − z) − y, ż = x y − 8/3 z, sampled every 0.02 units of time, x divided
    by 7.9, about its standard deviation. Of x alone one cannot tell where x goes next: y and z must
    be inferred from its past. The first `washout` steps do not count. A sequence is solved if the
    root of its mean squared error is below 0.05.

    Each sequence starts near the attractor, at (0, 0, 25) + 5 N(0, I), and its first 1000 steps are
    left out.

    Chance: no closed form is known. For the defaults, E[x_{t+1} | x_t] was measured
    (`tasks.forecasts.Chance`), and what is left of the variance, 0.0116; elsewhere chance is None
    and its loss NaN. It is not far from that at another T, though not the same: sequences are not
    in all phases of the attractor alike after 1000 steps. Measured in 400 bins of x_t, 0.24 and
    0.93 are left at horizons of 6 and 84. The answer 0 has a loss near 1.

    Args:
      T: number of steps.
      horizon: steps from the input to what is forecast.
      washout: number of first steps that do not count, below T.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets; the integration is in float32 at least.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Lorenz 1963; Pathak et al. 2017 for the sampling and for networks that infer what is
    not seen.

    Departure: x alone is seen and forecast, and never fed back; the criterion of a solved sequence
    is ours.
    """

    def series(key: Key, steps: int, dtype: DTypeLike) -> Array:
        start = jnp.array([0, 0, 25], dtype) + 5 * jax.random.normal(key, (3,), dtype)
        return integrate(start, TRANSIENT + steps)[TRANSIENT:, 0] / DEVIATION

    measured = (CHANCE, CHANCE.loss) if (T, horizon, washout) == (500, 1, 100) else ()
    return forecast(series, "lorenz", T, horizon, washout, batch_size, dtype, *measured)


def integrate(
    start: Array, steps: int, interval: float = INTERVAL, substeps: int = SUBSTEPS
) -> Array:
    """Return (x, y, z) at times 0, interval, ..., by Runge-Kutta of fourth order: `[steps, 3]`."""
    h = interval / substeps

    def velocity(at: Array) -> Array:
        x, y, z = at
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    def step(_: int, at: Array) -> Array:
        k1 = velocity(at)
        k2 = velocity(at + h / 2 * k1)
        k3 = velocity(at + h / 2 * k2)
        k4 = velocity(at + h * k3)
        return at + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    one = lambda at, _: (jax.lax.fori_loop(0, substeps, step, at), at)
    return jax.lax.scan(one, start, length=steps)[1]
