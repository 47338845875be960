"""The effective horizon: the lag over which a gradient falls by e."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from rnn_jax.errors import check_array, check_number, choose, describe, invalid, is_traced
from rnn_jax.types import Array, at_least_float32


def by_lag(log_norms: Array, *, average: str = "median") -> Array:
    """Return one value for each lag l = t − k: `[T+1, T+1, *batch] -> [T+1, *batch]`.

    The median or the mean over t of table[t, t − l], of logarithms: the mean is that of a geometric
    mean. T + 1 − l pairs have lag l; the last lag has one.

    Args:
      log_norms: a table of natural logarithms at [t, k], measured or a bound.
      average: "median" or "mean".

    Raises:
      ValueError: an unknown average; a table that is not one of floats, square, or is empty.
    """
    over = choose("average", average, AVERAGES)
    table = ("T+1", "T+1", "*batch")
    log_norms = check_array("log_norms", log_norms, table, remedy="Pass a table at [t, k].")
    if len(log_norms) == 0:
        raise invalid("log_norms", log_norms, "T+1 of at least 1", "Pass a table with an entry.")
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
    r"""Return the lag, in steps, at which a gradient has fallen by `factor`: `[*batch]`.

    .. math:: \min\{l : g(l) \le g(0) - \ln(\mathrm{factor})\}, \qquad g = \mathrm{log\_left}

    with g a straight line from each lag to the next. inf where it has not fallen so far at any lag
    of the table, NaN where a NaN comes first. What falls to zero at once (−inf) has fallen at the
    lag before: the limit of ever steeper lines.

    Of a table, measured or a bound, `effective_horizon(by_lag(table))`; a bound's is never below
    the measured one's. Where g(l) = −r l it is ln(factor) / r; with factor e this is the −1 / decay
    rate that `training.Telemetry` records, which extrapolates one step's rate where this waits for
    the fall to be seen.

    Args:
      log_left: `[L+1, *batch]`, natural logarithms by lag, as `by_lag` returns them, or a list
        of them.
      factor: above 1.

    Raises:
      ValueError: log_left without a lag, or of anything but real numbers; a factor that is not
        above 1.
    """
    remedy = "Pass 10 for the lag where a tenth is left."
    check_number("factor", factor, above=1, remedy=remedy)
    g = _by_lag("log_left", log_left)
    fall = jnp.log(factor) if is_traced(factor) else math.log(factor)
    level = g[0] - jnp.asarray(fall, g.dtype)
    ends = (g <= level) | jnp.isnan(g)
    lag = jnp.argmax(ends, axis=0)
    at = lambda lag: jnp.take_along_axis(g, lag[None], axis=0)[0]
    before, after = at(jnp.maximum(lag - 1, 0)), at(lag)
    crossing = (lag - 1).astype(g.dtype) + (before - level) / (before - after)
    # A fall that is lost in the rounding of g(0) is there at once.
    crossing = jnp.where((lag == 0) & ~jnp.isnan(g[0]), 0, crossing)
    return jnp.where(ends.any(0), crossing, jnp.inf)


def _by_lag(argument: str, values: Any) -> Array:
    """Return values by lag as floats, in float32 at least: lags are counted in them."""
    expected, remedy = "real numbers [L+1, *batch]", "Pass by_lag(table)."
    try:
        numbers = values if hasattr(values, "dtype") else np.asarray(values)
    except ValueError as error:  # a ragged list
        raise invalid(argument, values, expected, remedy) from error
    real = any(jnp.issubdtype(numbers.dtype, kind) for kind in (jnp.floating, jnp.integer))
    if not real or numbers.ndim == 0 or len(numbers) == 0:
        raise invalid(argument, describe(values), expected, remedy)
    integers = jnp.issubdtype(numbers.dtype, jnp.integer)
    return at_least_float32(jnp.asarray(numbers, float if integers else None))
