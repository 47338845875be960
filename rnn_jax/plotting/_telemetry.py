"""Draw what telemetry has measured over a run.

Norms come as natural logarithms and are drawn in powers of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.errors import choose, invalid
from rnn_jax.plotting._decades import one_two_five, powers_of_ten
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line, cycle
from rnn_jax.plotting._panels import several_panels

SPAN = 12
"""Decades of the profile that have colours of their own, below its largest value."""
NORM = r"$\|\partial L / \partial h_t\|$"
SYMBOLS = {"spectral_norm": r"$\|{}\|_2$", "spectral_radius": r"$\rho({})$"}
WORDS = {"spectral_norm": "norm", "spectral_radius": "radius"}


def telemetry(
    record: Mapping[str, Any],
    *,
    clip_norm: float | None = None,
    panels: Sequence[str] | str | None = None,
    ax: Any = None,
) -> Any:
    """Draw loss, gradient norm, profile, matrices, Ω and horizon over the steps of training.

    Args:
      record: the metrics of `make_monitored_train_step` over steps, `[steps, ...]`, as `fit`
        returns them and `read_record` reads them. Steps without a measurement are left out.
      clip_norm: clipping threshold, drawn across.
      panels: what is drawn, of "loss", "gradient norm", "profile", "matrices", "omega" and
        "horizon", or the name of one; all of them by default.
      ax: Axes of a figure of yours to draw into, one for each panel.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: a record without telemetry, or of more than one network; a panel of another name.
    """
    values = {name: np.asarray(column) for name, column in record.items()}
    if values.get("state_log_norms", np.empty(0)).ndim != 2:
        raise invalid(
            "record",
            str({name: column.shape for name, column in values.items()}),
            "the metrics of one monitored network, state_log_norms [steps, T] among them",
            "Train with make_monitored_train_step; of an ensemble take {name: v[:, member]}.",
        )
    wanted = (panels,) if isinstance(panels, str) else tuple(panels or PANELS)
    draws = [choose("panels", name, PANELS) for name in wanted]

    def draw(axes: Sequence[Axes]) -> None:
        for panel, drawn in zip(axes, draws, strict=True):
            drawn(panel, values, clip_norm)
            panel.set(xlabel="training step", xlim=(0, max(len(values["loss"]) - 1, 1)))

    rows = -(-len(draws) // 3)
    shape = (rows, -(-len(draws) // rows))
    if shape[0] * shape[1] != len(draws):
        shape = (len(draws), 1) if len(draws) > 3 else (1, len(draws))
    return several_panels(ax, draw, len(draws), shape=shape, height=1.9, narrowest=1.9)


def _line(
    ax: Axes, values: np.ndarray, color: Any, label: str | None = None, ls: Any = "-"
) -> None:
    """Draw a curve through the steps that were measured."""
    measured = np.flatnonzero(~np.isnan(values))
    marker = "." if len(measured) == 1 else None
    ax.plot(measured, values[measured], color=color, label=label, ls=ls, lw=1.0, marker=marker)


def _loss(ax: Axes, record: Any, _: Any) -> None:
    """Draw the training loss."""
    _line(ax, record["loss"], cycle()[0])
    ax.set(title="loss", ylabel="training loss")


def _gradient_norm(ax: Axes, record: Any, clip_norm: Any) -> None:
    """Draw the gradient norm, and where it was clipped."""
    _line(ax, record["grad_norm"], cycle()[0])
    if clip_norm is not None:
        share = np.nanmean(record["clipped"]) if len(record["clipped"]) else np.nan
        label = f"clipped to {clip_norm:g}: {share:.0%} of steps"
        ax.axhline(clip_norm, color=cycle()[1], lw=1.3, ls="--", label=label)
    ax.set(title="gradient norm", ylabel="norm before clipping")
    _log_if_any(ax, record["grad_norm"])


def _profile(ax: Axes, record: Any, _: Any) -> None:
    """Draw ‖∂L/∂h_t‖ over steps of training and t."""
    log_norms = record["state_log_norms"]
    measured = np.flatnonzero(~np.isnan(log_norms).any(1))
    decades = log_norms[measured].T / np.log(10)  # [T, measured steps]
    finite = decades[np.isfinite(decades)]
    top = finite.max() if finite.size else 0.0
    bottom = max(finite.min(), top - SPAN) if finite.size else -1.0
    # -inf, where nothing was received, gets the darkest colour rather than none.
    shown = np.maximum(decades, bottom)
    if shown.size:
        image = ax.pcolormesh(
            measured, np.arange(1, len(decades) + 1), shown, vmin=bottom, vmax=top, rasterized=True
        )
        below = bool((decades < bottom).any())
        figure: Any = ax.get_figure(root=False)
        bar = figure.colorbar(image, ax=ax, extend="min" if below else "neither")
        bar.set_label(NORM + (", zero too at the tip" if below else ""))
        powers_of_ten(bar.ax.yaxis)
    ax.grid(visible=False)
    ax.set(title="gradient by state", ylabel="state  t")


def _matrices(ax: Axes, record: Any, _: Any) -> None:
    """Draw ‖W‖₂ and ρ(W) of each matrix; the gates of an LSTM, of one name, in one colour."""
    keys = [key for key in sorted(record) if key.partition("/")[0] in SYMBOLS]
    for number, key in enumerate(keys):
        kind, _, name = key.partition("/")
        for i, curve in enumerate(record[key].reshape(len(record[key]), -1).T):
            label = _symbol(kind, name) if i == 0 else None
            _line(ax, curve, arm_color(number, len(keys)), label, arm_line(number))
    ax.axhline(1, color=MUTED, lw=1, ls=":")
    ax.set(title="recurrent matrices", ylabel="norm, spectral radius")


def _symbol(kind: str, name: str) -> str:
    """Return how a legend calls a number of a matrix: by a formula, if its name is a letter."""
    return SYMBOLS[kind].replace("{}", name) if name.isalnum() else f"{WORDS[kind]}, {name}"


def _omega(ax: Axes, record: Any, _: Any) -> None:
    """Draw Pascanu's Ω."""
    _line(ax, record["omega"], cycle()[0])
    ax.set(title=r"$\Omega$ (Pascanu et al.)", ylabel=r"$\Omega = \sum_t (r_t - 1)^2$")
    _log_if_any(ax, record["omega"])


def _horizon(ax: Axes, record: Any, _: Any) -> None:
    """Draw the effective horizon, a mark at the top where the gradient does not fall."""
    horizon, T = record["horizon"], record["state_log_norms"].shape[1]
    measured = np.flatnonzero(~np.isnan(horizon))
    falls = np.isfinite(horizon[measured])
    ax.plot(measured, np.where(falls, horizon[measured], np.nan), color=cycle()[0], lw=1.0)
    ax.axhline(T, color=MUTED, lw=1, ls=":", label=f"T = {T}")
    endless = measured[~falls]
    if endless.size:
        top, axis = np.ones(endless.size), ax.get_xaxis_transform()
        ax.plot(endless, top, "^", ms=3, color=cycle()[1], label="does not fall", transform=axis)
    ax.set(title="effective horizon", ylabel="steps", yscale="log")
    one_two_five(ax.yaxis)


def _log_if_any(ax: Axes, values: np.ndarray) -> None:
    """Make the axis logarithmic, if there is anything that such an axis has."""
    if np.any(np.isfinite(values) & (values > 0)):
        ax.set_yscale("log")
        span = np.ptp(np.log10(values[np.isfinite(values) & (values > 0)]))
        if span < 2:
            one_two_five(ax.yaxis)


Draw = Callable[[Axes, Any, Any], None]
PANELS: Mapping[str, Draw] = {
    "loss": _loss,
    "gradient norm": _gradient_norm,
    "profile": _profile,
    "matrices": _matrices,
    "omega": _omega,
    "horizon": _horizon,
}
