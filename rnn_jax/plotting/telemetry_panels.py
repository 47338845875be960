"""Draw what telemetry has measured over a run.

Norms come as natural logarithms and are drawn in powers of ten.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from rnn_jax.errors import invalid
from rnn_jax.plotting.style import BOUND, MEASURED, MUTED, PRODUCT, STYLE

SPAN = 12
"""Decades of the profile that have colours of their own, below its largest value."""


def telemetry(record: Mapping[str, np.ndarray], *, clip_norm: float | None = None) -> Figure:
    """Draw loss, gradient norm, profile, matrices, Ω and horizon over the steps of training.

    Args:
      record: the metrics of `make_monitored_train_step` over steps, `[steps, ...]`, as `fit`
        returns them and `read_record` reads them. Steps without a measurement are left out.
      clip_norm: clipping threshold, drawn across.

    Raises:
      ValueError: a record without telemetry, or of more than one network.
    """
    if "state_log_norms" not in record or record["state_log_norms"].ndim != 2:
        raise invalid(
            "record",
            str({name: values.shape for name, values in record.items()}),
            "the metrics of one monitored network, state_log_norms [steps, T] among them",
            "Train with make_monitored_train_step; of an ensemble take {name: v[:, member]}.",
        )
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 5.2), layout="constrained")
        axes = figure.subplots(2, 3)
        _line(axes[0, 0], record["loss"], MEASURED)
        axes[0, 0].set(title="loss")
        _gradient_norm(axes[0, 1], record, clip_norm)
        _profile(figure, axes[0, 2], record["state_log_norms"])
        _matrices(axes[1, 0], record)
        _line(axes[1, 1], record["omega"], MEASURED)
        ratio = r"$r_t = \|\partial L / \partial h_{t-1}\| / \|\partial L / \partial h_t\|$"
        axes[1, 1].set(title=r"$\Omega = \sum_t (r_t - 1)^2$, " + ratio, yscale="log")
        _horizon(axes[1, 2], record["horizon"], T=record["state_log_norms"].shape[1])
        for ax in axes.ravel():
            ax.set(xlabel="training step", xlim=(0, max(len(record["loss"]) - 1, 1)))
    return figure


def _line(ax: Axes, values: np.ndarray, color: str, label: str | None = None) -> None:
    """Draw a curve through the steps that were measured."""
    measured = np.flatnonzero(~np.isnan(values))
    ax.plot(measured, values[measured], color=color, label=label, lw=1.0)


def _gradient_norm(ax: Axes, record: Any, clip_norm: Any) -> None:
    """Draw the gradient norm, and where it was clipped."""
    _line(ax, record["grad_norm"], MEASURED)
    title = "gradient norm before clipping"
    if clip_norm is not None:
        ax.axhline(clip_norm, color=BOUND, lw=1.3, ls="--")
        title += f"\nclipped at {clip_norm:g}: {np.nanmean(record['clipped']):.0%} of steps"
    ax.set(title=title, yscale="log")


def _profile(figure: Figure, ax: Axes, log_norms: np.ndarray) -> None:
    """Draw ‖∂L/∂h_t‖ over steps of training and t."""
    measured = np.flatnonzero(~np.isnan(log_norms).any(1))
    decades = log_norms[measured].T / np.log(10)  # [T, measured steps]
    finite = decades[np.isfinite(decades)]
    top = finite.max() if finite.size else 0.0
    bottom = max(finite.min(), top - SPAN) if finite.size else -1.0
    # -inf, where nothing was received, gets the darkest colour rather than none.
    shown = np.maximum(decades, bottom)
    image = ax.pcolormesh(
        measured, np.arange(1, len(decades) + 1), shown, vmin=bottom, vmax=top, rasterized=True
    )
    ax.grid(visible=False)
    ax.set(title=r"$\|\partial L / \partial h_t\|$", ylabel="state  t")
    bar = figure.colorbar(image, ax=ax, extend="min" if (decades < bottom).any() else "neither")
    bar.ax.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda e, _: f"$10^{{{e:g}}}$"))


def _matrices(ax: Axes, record: Any) -> None:
    """Draw ‖W‖₂ and ρ(W) of each matrix; the gates of an LSTM, of one name, in one colour."""
    symbols = {"spectral_norm": r"$\|{}\|_2$", "spectral_radius": r"$\rho({})$"}
    keys = [key for key in sorted(record) if key.partition("/")[0] in symbols]
    colors = itertools.cycle((MEASURED, BOUND, PRODUCT, "#6b4fa0", "#0f7f7f", MUTED))
    for key, color in zip(keys, colors, strict=False):
        kind, _, name = key.partition("/")
        for i, curve in enumerate(record[key].reshape(len(record[key]), -1).T):
            _line(ax, curve, color, symbols[kind].replace("{}", name) if i == 0 else None)
    ax.axhline(1, color=MUTED, lw=1, ls=":")
    if keys:
        ax.legend(loc="best")
    ax.set(title="recurrent matrices")


def _horizon(ax: Axes, horizon: np.ndarray, T: int) -> None:
    """Draw the effective horizon, a mark at the top where the gradient does not fall."""
    measured = np.flatnonzero(~np.isnan(horizon))
    falls = np.isfinite(horizon[measured])
    ax.plot(measured, np.where(falls, horizon[measured], np.nan), color=MEASURED, lw=1.0)
    ax.axhline(T, color=MUTED, lw=1, ls=":", label=f"T = {T}")
    endless = measured[~falls]
    if endless.size:
        top, axis = np.ones(endless.size), ax.get_xaxis_transform()
        ax.plot(endless, top, "^", ms=3, color=BOUND, label="does not fall", transform=axis)
    ax.legend(loc="best")
    ax.set(title="effective horizon (steps)", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda steps, _: f"{steps:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
