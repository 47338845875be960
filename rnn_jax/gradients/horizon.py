"""How far back a gradient reaches."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rnn_jax.errors import choose, invalid
from rnn_jax.types import Array


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
    lag, k = jnp.indices(log_norms.shape[:2], dtype=jnp.int32)
    pairs = len(log_norms) - lag[:, 0]
    there = (k < pairs[:, None]).reshape(*lag.shape, *[1] * (log_norms.ndim - 2))
    # The row of a lag has its pairs in front, and +inf where there is none.
    rows = jnp.where(there, log_norms[jnp.minimum(k + lag, len(log_norms) - 1), k], jnp.inf)
    return jnp.where(jnp.isnan(rows).any(1), jnp.nan, over(rows, pairs, there))


def _median(rows: Array, pairs: Array, there: Array) -> Array:
    ordered = jnp.sort(rows, axis=1)
    lag = jnp.arange(len(rows))
    low, high = ordered[lag, (pairs - 1) // 2], ordered[lag, pairs // 2]
    return jnp.where(low == high, low, (low + high) / 2)


def _mean(rows: Array, pairs: Array, there: Array) -> Array:
    total = jnp.where(there, rows, 0).sum(1)
    return total / pairs.reshape(-1, *[1] * (total.ndim - 1)).astype(total.dtype)


AVERAGES: dict[str, Callable[..., Array]] = {"median": _median, "mean": _mean}


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
