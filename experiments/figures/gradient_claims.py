"""Draw the decay rate of every cell before and after training, beside what its paper says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.common.arms import of_one_task
from experiments.common.numbers import Result
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import BOUND, MEASURED, MUTED
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house

LINEAR = 0.02
"""Rates up to this size stand on a linear axis, larger ones on a logarithmic one."""


def rates(result: Result, kinds: Mapping[str, str]) -> Figure:
    """Return a row for each cell: decay rates as drawn and trained, and the range of its claim."""
    cells, limit = of_one_task(result["arms"]), 1 / float(result["T"])
    names = list(kinds)[::-1]
    with house():
        figure, axes = grid_of_panels(1, 1, width=6.75, height=0.26 * len(names) + 0.6)
        ax = axes[0, 0]
        ax.axvspan(-limit, limit, color=MUTED, alpha=0.2, lw=0, label="alive: within ±1/T")
        for row, name in enumerate(names):
            for phase, shift, color, label in (
                ("first", 0.15, BOUND, "as drawn"),
                ("best", -0.15, MEASURED, "trained"),
            ):
                at = cells[name]["laboratory"][phase]["decay_rate"]
                shown = np.clip(at, -10, 10)  # -inf where nothing is left
                style = {"color": color, "ms": 3.5, "mfc": "white", "ls": ""}
                marker = "o" if phase == "first" else "s"
                ax.plot(shown, [row + shift] * len(at), marker, label=label, **style)
        ax.axvline(0, color=MUTED, lw=0.8)
        labels = [f"{name} ({kinds[name]})" if kinds[name] != "none" else name for name in names]
        ax.set_yticks(range(len(names)), labels)
        ax.set_xscale("symlog", linthresh=LINEAR)
        low, high = ax.get_xlim()
        ax.set_xlim(1.3 * low, 1.3 * high)  # whole markers
        ax.set_xlabel(r"decay rate of $\|\partial s_t / \partial s_k\|$  (nats a step)")
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.set_ylabel("cell (what its paper claims)")
        fit(figure, [ax])
    return figure
