"""Draw how often the last state is right, by the length of the sequence."""

from __future__ import annotations

from matplotlib.figure import Figure

from experiments.common.numbers import Result
from rnn_jax.plotting._bands import band_of, draw_band, explain_band
from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import grid_of_panels
from rnn_jax.plotting._style import house


def accuracies(result: Result) -> Figure:
    """Return a panel for each task: the part of the sequences by length, for each cell."""
    lengths = result["lengths"]
    with house():
        figure, axes = grid_of_panels(1, len(result["accuracy"]), height=2.2, sharey="all")
        for ax, (task, cells) in zip(axes[0], result["accuracy"].items(), strict=True):
            for number, (cell, right) in enumerate(cells.items()):
                style = {"marker": arm_marker(number), "mfc": "white", "ls": arm_line(number)}
                color = arm_color(number, len(cells))
                draw_band(ax, lengths, band_of(right), color, cell, alpha=0.12, lw=1.2, **style)
            guess = float(result["guess"][task])
            ax.axhline(guess, color=MUTED, lw=1, ls=":", label="a guess")
            ax.axvline(lengths[0], color=MUTED, lw=1, ls="--", label="trained on")
            ax.set(title=task, xlabel="length  T  (steps)", xscale="log", ylim=(-0.03, 1.03))
            ax.set_ylabel("part of last states that are right")
            ax.set_xticks(lengths, [str(T) for T in lengths])
            ax.set_xticks([], minor=True)
        explain_band(axes[0, 0])
        fit(figure, axes[0])
    return figure
