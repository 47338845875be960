"""Draw Lyapunov spectra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.errors import invalid
from rnn_jax.plotting._bands import band_without_nan, draw_band
from rnn_jax.plotting._decades import steps_on
from rnn_jax.plotting._norms import mark_at_bottom
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import one_panel
from rnn_jax.plotting._tables import as_numbers

EXPONENTS = "exponents [K] or [K, *batch], a LyapunovSpectrum, or a mapping of those"
MOST_MARKERS = 80
"""Exponents that have a marker each."""


def spectrum(
    exponents: Any,
    *,
    standard_errors: Any = None,
    title: str = "",
    legend: bool = True,
    ax: Axes | None = None,
) -> Any:
    """Draw Lyapunov exponents λ_i by i, of one network or of several.

    Of one example, bars are ± its standard error, where there is one; of more, the line is the
    median and the band 10–90 % of the examples. NaN is left out; exponents of −∞ are marked on the
    axis.

    Args:
      exponents: nats per step, `[K]` or `[K, *batch]`, or what `gradients.lyapunov_spectrum`
        returns; or name in the legend -> either, for several networks.
      standard_errors: of `exponents`, an array alike or a mapping of the same names; those of a
        LyapunovSpectrum are known.
      title, legend, ax: as for `norms`.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: no exponents, errors of another shape, an `ax` that is none.
    """
    arms = dict(exponents) if isinstance(exponents, Mapping) else {"": exponents}
    errors = standard_errors if isinstance(exponents, Mapping) else {"": standard_errors}
    found = {str(name): _read(value, (errors or {}).get(name)) for name, value in arms.items()}
    if not found:
        raise invalid("exponents", "nothing", EXPONENTS, "Pass lyapunov_spectrum(...).")

    def draw(ax: Axes) -> None:
        for number, (name, (values, error)) in enumerate(found.items()):
            _draw_spectrum(ax, name, values, error, number, len(found))
        ax.axhline(0, color=MUTED, lw=1, ls=":")
        ax.set(title=title, xlabel="index  i", ylabel=r"$\lambda_i$  (nats per step)")
        steps_on(ax.xaxis)

    return one_panel(ax, draw, legend=legend)


def _read(exponents: Any, errors: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return exponents `[K, examples]`, and standard errors alike or None."""
    if hasattr(exponents, "exponents"):
        errors = exponents.standard_errors if errors is None else errors
        exponents = exponents.exponents
    values = as_numbers("exponents", exponents, EXPONENTS)
    if not values.ndim or not values.size:
        raise invalid("exponents", values, EXPONENTS, "Pass lyapunov_spectrum(...).")
    if errors is None:
        return values.reshape(len(values), -1), None
    known = as_numbers("standard_errors", errors, "an array like exponents")
    if known.shape != values.shape:
        expected = f"an array {values.shape}, as the exponents are"
        raise invalid("standard_errors", known, expected, "Pass one for each exponent.")
    return values.reshape(len(values), -1), known.reshape(len(values), -1)


def _draw_spectrum(
    ax: Axes, name: str, values: np.ndarray, errors: np.ndarray | None, number: int, count: int
) -> None:
    """Draw the exponents of one network, or the median and a band of many."""
    color, i = arm_color(number, count), np.arange(1, len(values) + 1)
    few = len(values) <= MOST_MARKERS
    line = {"ls": arm_line(number), "marker": arm_marker(number) if few else None}
    line |= {"ms": 3.5, "mfc": "white"}
    band = np.stack([band_without_nan(row) for row in values], 1)
    shown = np.where(np.isfinite(band), band, np.nan)
    one = values.shape[1] == 1
    label = ": ".join(filter(None, (name, "" if one else "median, 10–90 %")))
    if one and errors is not None:
        known = np.where(np.isfinite(errors[:, 0]), errors[:, 0], 0)
        label = ", ".join(filter(None, (name, "± standard error")))
        ax.errorbar(i, shown[1], known, color=color, label=label, capsize=2, **line)
    else:
        draw_band(ax, i, shown, color, label, **line)
    if np.any(gone := band[1] == -np.inf):
        mark_at_bottom(ax, i[gone], ", ".join(filter(None, (name, "−∞"))), color)
