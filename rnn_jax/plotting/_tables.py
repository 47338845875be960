"""Tables of norms over (t, k), in whatever order of axes and as whichever result they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.plotting._bands import band_without_nan

TABLES = "tables [T+1, T+1], [seeds, T+1, T+1] or [T+1, T+1, *batch]"


def tables_of(argument: str, log_norms: Any) -> np.ndarray:
    """Return tables over (t, k) as `[n, T+1, T+1]`, whichever side the other axes stand on.

    Where both would fit, the axes (t, k) are those in which nothing comes before its cause.

    Raises:
      ValueError: arrays of another shape, or no numbers.
    """
    tables = as_numbers(argument, log_norms, TABLES)
    last = tables.ndim >= 2 and tables.shape[-1] == tables.shape[-2]
    first = tables.ndim >= 2 and tables.shape[0] == tables.shape[1]
    if not tables.size or not (first or last):
        remedy = "Pass what jacobian_log_norms returns, or an array of such tables."
        raise invalid(argument, tables, TABLES, remedy)
    if first and (not last or (tables.ndim > 2 and not is_causal(tables))):
        tables = np.moveaxis(tables, (0, 1), (-2, -1))
    return tables.reshape(-1, *tables.shape[-2:])


def is_causal(tables: np.ndarray) -> bool:
    """Return whether all entries of `[..., t, k]` with k > t are −∞ or NaN."""
    above = np.triu(np.ones(tables.shape[-2:], bool), 1)
    return not np.isfinite(tables[..., above]).any()


def as_numbers(argument: str, values: Any, expected: str) -> np.ndarray:
    """Return an array of floats. ValueError for what is no array of real numbers."""
    remedy = "Pass an array of real numbers."
    if np.iscomplexobj(values):
        raise invalid(argument, values, expected, remedy)
    try:
        return np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise invalid(argument, values, expected, remedy) from error


def band_by_lag(log_norms: np.ndarray, percentiles: Sequence[float] = (10, 50, 90)) -> np.ndarray:
    """Return percentiles by lag t − k of tables `[..., T+1, T+1]`: `[lag, 3]`.

    Entries that are NaN are left out; NaN where there are no others.
    """
    tables = np.asarray(log_norms)
    lags = range(tables.shape[-1])
    diagonals = [np.diagonal(tables, -lag, -2, -1).ravel() for lag in lags]
    return np.stack([band_without_nan(diagonal, percentiles) for diagonal in diagonals])


def measured_and_bounds(
    log_norms: Any, bounds: Mapping[str, Any] | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return tables of measured norms `[n, T+1, T+1]` and of bounds by name, `[n or 1, ...]`.

    Args:
      log_norms: measured tables, or name -> BoundCheck, as of `gradients.check_bounds`.
      bounds: more bounds by name.

    Raises:
      ValueError: no tables, or bounds of another T.
    """
    found: dict[str, np.ndarray] = {}
    if isinstance(log_norms, Mapping):
        checks = dict(log_norms)
        if not checks or not all(hasattr(check, "measured") for check in checks.values()):
            got = f"a mapping with {', '.join(map(str, checks)) or 'nothing'}"
            expected = f"{TABLES}, or what check_bounds returns"
            raise invalid("log_norms", got, expected, "Pass bounds by their names as bounds=.")
        found = {name: tables_of("log_norms", check.bound) for name, check in checks.items()}
        log_norms = next(iter(checks.values())).measured
    measured = tables_of("log_norms", log_norms)
    for name, bound in (bounds or {}).items():
        found[str(name)] = tables_of(f"bounds[{name!r}]", bound)
    for name, bound in found.items():
        if bound.shape[1:] != measured.shape[1:] or len(bound) not in (1, len(measured)):
            expected = f"one table of {measured.shape[1:]}, or {len(measured)} of them"
            raise invalid(f"bounds[{name!r}]", bound, expected, "Bound the norms that are drawn.")
    return measured, found
