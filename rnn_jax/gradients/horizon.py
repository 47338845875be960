"""How far back a gradient reaches."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rnn_jax.cells.checks import choose
from rnn_jax.errors import invalid
from rnn_jax.types import Array

AVERAGES: dict[str, Callable[..., Array]] = {"median": jnp.median, "mean": jnp.mean}


def by_lag(log_norms: Array, *, average: str = "median") -> Array:
    """One value for each lag l = t − k: `[T+1, T+1, *batch] -> [T+1, *batch]`.

    The median or the mean over t of table[t, t − l], of logarithms: the mean is that of a geometric
    mean. T + 1 − l pairs have lag l; the last lag has one.

    Args:
      log_norms: a table of natural logarithms, measured or a bound.
      average: "median" or "mean".

    Raises:
      ValueError: an unknown average, a table that is not square.
    """
    over = choose("average", average, AVERAGES)
    if log_norms.ndim < 2 or log_norms.shape[0] != log_norms.shape[1]:
        raise invalid("log_norms", log_norms, "[T+1, T+1, ...]", "Pass a table at [t, k].")
    size = log_norms.shape[0]
    return jnp.stack([over(jnp.diagonal(log_norms, -lag), axis=-1) for lag in range(size)])


def effective_horizon(log_left: ArrayLike, *, factor: float = float(np.e)) -> Array:
    r"""The lag at which a gradient has fallen by `factor`: `[L+1, *batch] -> [*batch]`, steps.

    .. math:: \min\{l : g(l) \le g(0) - \ln(\mathrm{factor})\}, \qquad g = \mathrm{log\_left}

    with g a straight line from each lag to the next. inf where it has not fallen so far at any lag
    of the table, NaN where a NaN comes first. What falls to zero at once (−inf) has fallen at the
    lag before: the limit of ever steeper lines.

    Of a table, measured or a bound, `effective_horizon(by_lag(table))`; a bound's is never below
    the measured one's. Where g(l) = −r l it is ln(factor) / r; with factor e this is the −1 / decay
    rate that `training.Telemetry` records, which extrapolates one step's rate where this waits for
    the fall to be seen.

    Args:
      log_left: natural logarithms by lag, the lag first, as `by_lag` returns them.
      factor: above 1.

    Raises:
      ValueError: a factor that is not above 1.
    """
    if not factor > 1:
        raise invalid("factor", factor, "above 1", "Pass 10 for the lag where a tenth is left.")
    g = jnp.asarray(log_left)
    level = g[0] - jnp.log(jnp.asarray(factor, g.dtype))
    ends = (g <= level) | jnp.isnan(g)
    lag = jnp.argmax(ends, axis=0)
    at = lambda lag: jnp.take_along_axis(g, lag[None], axis=0)[0]
    before, after = at(jnp.maximum(lag - 1, 0)), at(lag)
    crossing = (lag - 1).astype(g.dtype) + (before - level) / (before - after)
    return jnp.where(ends.any(0), crossing, jnp.inf)
