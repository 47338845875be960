"""The figure of what truncating backpropagation does: arrays in, Figure out."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rnn_jax.plotting import BOUND, MEASURED, MUTED, PRODUCT, STYLE
from rnn_jax.plotting_theory import NORM


def truncation_bias(
    k2s: np.ndarray,
    panels: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    balance: Mapping[str, np.ndarray],
) -> Figure:
    """Errors and cosines of truncated gradients by k2, and a bias of the wrong sign.

    Args:
      k2s: `[n]`.
      panels: network -> phase -> `error` and `cosine [seeds, n]`, and `rate`, the nats per step of
        its Jacobian products.
      balance: `k2s [m]`, `theta [m, descents + 1]`, `factor [m]`, by which θ − θ* should grow at
        each descent, and `influence [L]`, summed over the first l + 1 steps back.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.35 * (len(panels) + 1), 4.9), layout="constrained")
        axes = figure.subplots(2, len(panels) + 1)
        for column, (label, phases) in enumerate(panels.items()):
            errors, cosines = axes[:, column]
            errors.sharey(axes[0, 0])
            cosines.sharey(axes[1, 0])
            for color, (phase, measured) in zip((MEASURED, BOUND), phases.items(), strict=True):
                for ax, name in ((errors, "error"), (cosines, "cosine")):
                    low, middle, high = np.percentile(measured[name], (10, 50, 90), axis=0)
                    ax.fill_between(k2s, low, high, color=color, alpha=0.2, lw=0)
                    ax.plot(k2s, middle, ".-", color=color, ms=4, label=f"{phase}, 10–90 %")
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
        _balance(axes[0, -1], axes[1, -1], balance)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _balance(above, below, balance: Mapping[str, np.ndarray]) -> None:
    colors = [BOUND, "#d9822b", PRODUCT, MEASURED]
    optimum = -1 / 6
    for i, (k2, path, factor) in enumerate(
        zip(balance["k2s"], balance["theta"], balance["factor"], strict=True)
    ):
        color = colors[i % len(colors)]
        label = "full" if i == len(balance["k2s"]) - 1 else f"$k_2$ = {k2}"
        distance = np.abs(path - optimum)
        above.plot(distance, color=color, lw=2.5 - 0.3 * i, label=label)
        law = distance[0] * factor ** np.arange(len(path))
        above.plot(law, ":", color="black", lw=1, label="theory" if i == 0 else None)
    above.set(title="influence balancing:\n" r"$|\theta - \theta^*|$", yscale="log")
    above.set(xlabel="descent step", ylim=(1e-4, 1e7))
    above.legend(fontsize=7, loc="upper left")
    below.plot(np.arange(1, len(balance["influence"]) + 1), balance["influence"], color=MEASURED)
    below.axhline(0, color=MUTED, lw=0.8)
    below.axhline(-6, color=MUTED, lw=1, ls="--", label="all steps back: −6")
    below.legend(fontsize=7)
    below.set(xlabel=r"$k_2$  (steps)", title=r"$\partial s_1 / \partial \theta$ truncated")
