"""The figure of what truncating backpropagation does: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting._bands import draw_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import MEASURED, MUTED, PALETTE, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

NORM = r"$\|\partial s_t / \partial s_k\|_2$, $s$ the state"


def truncation_bias(
    k2s: np.ndarray,
    panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
) -> Figure:
    """Draw errors and cosines of truncated gradients by k2.

    Args:
      k2s: `[n]`.
      panels: network -> phase -> `error` and `cosine [seeds, n]`, and `rate`, the nats per step of
        its Jacobian products.
    """
    with house():
        figure, axes = grid_of_panels(2, len(panels), height=1.7, sharey="row")
        for column, (label, phases) in enumerate(panels.items()):
            errors, cosines = axes[:, column]
            for number, (phase, measured) in enumerate(phases.items()):
                color = PALETTE[number]
                look: dict[str, Any] = {"marker": arm_marker(number), "ms": 3, "mfc": "white"}
                for ax, name in ((errors, "error"), (cosines, "cosine")):
                    percentiles = np.percentile(measured[name], (10, 50, 90), axis=0)
                    draw_band(ax, k2s, percentiles, color, f"{phase}, 10–90 %", **look)
                start = np.median(measured["error"][:, 0])
                line = start * np.exp(float(measured["rate"]) * (k2s - k2s[0]))
                errors.plot(k2s, np.minimum(line, 3), "--", color=color, lw=1)
            errors.plot([], [], "--", color=MUTED, lw=1, label=f"falling as {NORM}")
            title = label.replace(" (", "\n").rstrip(")").replace("σ_w", r"$\sigma_w$")
            errors.set(yscale="log", ylabel="relative error of W's gradient")
            cosines.set(ylabel="cosine with the full gradient")
            for ax in (errors, cosines):
                ax.set(title=title, xlabel=r"window  $k_2$  (steps)")
        lowest = min(np.median(p["error"], 0).min() for by in panels.values() for p in by.values())
        axes[0, 0].set_ylim(max(lowest / 3, 1e-8), 4)
        axes[1, 0].set_ylim(-0.3, 1.05)
        fit(figure, axes.flat)
    return figure


def influence_balancing(
    k2s: np.ndarray, distances: np.ndarray, factors: np.ndarray, influences: np.ndarray
) -> Figure:
    """Draw descents away from an optimum and towards it, and the sum of influences behind them.

    Args:
      k2s: `[m]`, of which the last one is all steps.
      distances: |θ − θ*| `[m, descents + 1]`.
      factors: `[m]`, by which θ − θ* should grow at each descent.
      influences: `[L]`, summed over the first l + 1 steps back.
    """
    with house():
        figure, axes = grid_of_panels(1, 2, height=2.4)
        descent, summed = axes[0]
        for i, (k2, path, factor) in enumerate(zip(k2s, distances, factors, strict=True)):
            label = "full BPTT" if i == len(k2s) - 1 else f"$k_2$ = {k2}"
            look = {"color": PALETTE[i % len(PALETTE)], "ls": arm_line(i), "lw": 2.2 - 0.3 * i}
            look |= {"marker": arm_marker(i), "markevery": (3 * i, max(1, len(path) // 6))}
            descent.plot(path, label=label, mfc="white", **look)
            law = path[0] * factor ** np.arange(len(path))
            descent.plot(law, ":", color="black", lw=1, label="theory" if i == 0 else None)
        descent.set(title=r"distance from the optimum, $|\theta - \theta^*|$", yscale="log")
        descent.set(xlabel="descent step", ylabel=r"$|\theta - \theta^*|$")
        summed.plot(np.arange(1, len(influences) + 1), influences, color=MEASURED)
        summed.axhline(0, color=MUTED, lw=0.8)
        summed.axhline(-6, color=MUTED, lw=1, ls="--", label="all steps back: −6")
        summed.set(title=r"$\partial s_1 / \partial \theta$, truncated")
        summed.set(xlabel=r"window  $k_2$  (steps)", ylabel=r"$\partial s_1 / \partial \theta$")
        fit(figure, axes.flat)
    return figure
