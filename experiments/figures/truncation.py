"""The figure of what truncating backpropagation does: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting.style import BOUND, MEASURED, MUTED, PRODUCT, STYLE, draw_band, fit

NORM = r"$\|\partial s_t / \partial s_k\|_2$, $s$ the state"
COLORS = (BOUND, "#d9822b", PRODUCT, MEASURED)


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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(panels), 4.9), layout="constrained")
        axes = figure.subplots(2, len(panels), squeeze=False)
        for column, (label, phases) in enumerate(panels.items()):
            errors, cosines = axes[:, column]
            errors.sharey(axes[0, 0])
            cosines.sharey(axes[1, 0])
            for color, (phase, measured) in zip((MEASURED, BOUND), phases.items(), strict=True):
                for ax, name in ((errors, "error"), (cosines, "cosine")):
                    percentiles = np.percentile(measured[name], (10, 50, 90), axis=0)
                    draw_band(ax, k2s, percentiles, color, f"{phase}, 10–90 %", marker=".", ms=4)
                start = np.median(measured["error"][:, 0])
                line = start * np.exp(float(measured["rate"]) * (k2s - k2s[0]))
                errors.plot(k2s, np.minimum(line, 3), "--", color=color, lw=1)
            errors.plot([], [], "--", color=MUTED, lw=1, label=f"falling as {NORM}")
            errors.set(
                title=label.replace(" (", "\n").rstrip(")").replace("σ_w", r"$\sigma_w$"),
                yscale="log",
            )
            cosines.set(xlabel=r"$k_2$  (steps)")
        lowest = min(np.median(p["error"], 0).min() for by in panels.values() for p in by.values())
        axes[0, 0].set_ylim(max(lowest / 3, 1e-8), 4)
        axes[1, 0].set_ylim(-0.3, 1.05)
        axes[0, 0].set_ylabel("relative error of W's gradient")
        axes[1, 0].set_ylabel("cosine with the full gradient")
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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.4), layout="constrained")
        descent, summed = figure.subplots(1, 2)
        for i, (k2, path, factor) in enumerate(zip(k2s, distances, factors, strict=True)):
            label = "full BPTT" if i == len(k2s) - 1 else f"$k_2$ = {k2}"
            descent.plot(path, color=COLORS[i % len(COLORS)], lw=2.5 - 0.3 * i, label=label)
            law = path[0] * factor ** np.arange(len(path))
            descent.plot(law, ":", color="black", lw=1, label="theory" if i == 0 else None)
        descent.set(title=r"distance from the optimum, $|\theta - \theta^*|$", yscale="log")
        descent.set(xlabel="descent step", ylabel=r"$|\theta - \theta^*|$")
        descent.legend()
        summed.plot(np.arange(1, len(influences) + 1), influences, color=MEASURED)
        summed.axhline(0, color=MUTED, lw=0.8)
        summed.axhline(-6, color=MUTED, lw=1, ls="--", label="all steps back: −6")
        summed.legend()
        summed.set(title=r"$\partial s_1 / \partial \theta$, truncated")
        summed.set(xlabel=r"$k_2$  (steps)", ylabel=r"$\partial s_1 / \partial \theta$")
    return figure
