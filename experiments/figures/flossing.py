"""The figure of gradient flossing: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting._bands import draw_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import MUTED, PALETTE, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

BAND: dict[str, Any] = {"alpha": 0.18, "ms": 3, "mfc": "white", "lw": 1.1}


def flossing(
    steps: np.ndarray,
    losses: Mapping[str, np.ndarray],
    spectra: Mapping[str, Mapping[str, np.ndarray]],
    *,
    delay: int,
) -> Figure:
    """Draw loss by training step, and exponents by index; medians and 10-90 % over seeds.

    Args:
      steps: `[n]`, at which the loss was measured.
      losses: arm -> loss over that of a network without memory, `[n, seeds]`.
      spectra: panel title -> arm, or another name of the same order -> exponents `[N, seeds]`.
      delay: d; the rate −1/d, and the index d, are marked.
    """
    with house():
        figure, axes = grid_of_panels(1, 1 + len(spectra), height=2.2)
        first, *rest = axes.flat
        for number, (arm, curves) in enumerate(losses.items()):
            draw_band(first, steps, _percentiles(curves), label=arm, **_look(number))
        first.axhline(1, color=MUTED, lw=1.2, ls=":", label="no memory")
        first.set(xlabel="training step", ylabel="loss / that of no memory", yscale="log")
        first.set_title(f"the task, a delay of {delay}")
        names = list(losses)
        for ax, (title, by_name) in zip(rest, spectra.items(), strict=True):
            for name, exponents in by_name.items():
                i = np.arange(1, len(exponents) + 1)
                names += [name] if name not in names else []
                look = _look(names.index(name)) | {"markevery": max(1, len(i) // 8)}
                draw_band(ax, i, _percentiles(exponents), label=name, **look)
            ax.axhline(-1 / delay, color="black", lw=0.8, ls=":")
            ax.axvline(delay, color="black", lw=0.8, ls=":")
            ax.text(1, -1 / delay, r"$-1/d$", va="bottom")
            ax.text(delay, -2.45, r"$d$ ", ha="right")
            ax.set(title=f"exponents {title}", xlabel="index  i", ylim=(-2.5, 0.2))
            ax.set_ylabel(r"$\lambda_i$  (nats per step)")
        fit(figure, axes.flat)
    return figure


def _look(number: int) -> dict[str, Any]:
    """Return colour, line and markers of an arm."""
    line = {"color": PALETTE[number % len(PALETTE)], "ls": arm_line(number)}
    return {**line, "marker": arm_marker(number), **BAND}


def _percentiles(curves: np.ndarray) -> np.ndarray:
    """Return 10, 50 and 90 % of `[n, seeds]`, without those that are NaN."""
    return np.nanpercentile(curves, (10, 50, 90), axis=1)
