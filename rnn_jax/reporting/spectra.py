"""The panel of a Lyapunov spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rnn_jax.reporting.norms_by_lag import percentiles
from rnn_jax.reporting.panels import Line, Lines


def spectrum_panel(spectra: Mapping[str, tuple[Any, Any]]) -> Lines:
    """Return exponents by rank, largest first, with their standard errors.

    Args:
      spectra: name -> exponents `[K, networks]` in nats per step, and their standard errors, or
        None. Of several networks the medians are drawn, with the 10–90 % band instead of errors.
    """
    lines = []
    for name, (exponents, errors) in spectra.items():
        exponents = np.asarray(exponents)
        low, middle, high = percentiles(exponents, (10, 50, 90), axis=1)
        rank = np.arange(1, len(exponents) + 1)
        if exponents.shape[1] > 1:
            lines.append(Line(name, middle, rank, (low, high)))
        else:
            of_one = None if errors is None else np.asarray(errors)[:, 0]
            lines.append(Line(name, middle, rank, errors=of_one, style="points"))
    return Lines(
        "Lyapunov spectrum",
        "rank i",
        "λ_i (nats per step)",
        {"": lines},
        note="Exponents λ_i, the largest first; bars are standard errors of one network's, bands "
        "the range from 10 to 90 % of several.",
    )
