"""Draw examples of a task: what is shown, what is asked, and when it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rnn_jax.plotting._fit import fit
from rnn_jax.plotting._palette import MUTED, cycle
from rnn_jax.plotting._shown_figure import ShownFigure
from rnn_jax.plotting._style import figure_size, house

MAX_NAMES = 24
"""Most names on an axis; of more channels, those that occur have rows, and some of them names."""


def task_examples(
    xs: Any,
    targets: Any,
    mask: Any,
    *,
    title: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    examples: int = 2,
) -> ShownFigure:
    """Draw the first examples of a batch, one in each column: inputs above, targets below.

    Each channel is a row. Symbols, ones among zeros, are squares; numbers are a curve about the
    row's zero. Steps that count have a shaded background, and only their targets are drawn.

    Args:
      xs: inputs, `[T, B, I]`.
      targets: classes `[T, B]`, or `[T, B, O]`.
      mask: steps that count, `[T, B]` booleans.
      title: title of the figure.
      inputs: names of the I channels.
      outputs: names of the O channels.
      examples: number of examples that are drawn, if the batch has as many.
    """
    xs, mask = np.asarray(xs, float), np.asarray(mask)
    targets = np.asarray(targets)
    if targets.ndim == 2:
        targets = np.eye(len(outputs))[targets]
    columns = min(examples, xs.shape[1])
    always = np.ones(len(xs), bool)
    panels = [
        _rows(values[:, :columns].astype(float), counts, names)
        for values, counts, names in (
            (xs, np.ones_like(mask[:, :columns]), inputs),
            (targets, mask[:, :columns], outputs),
        )
    ]
    heights = [1 + 0.16 * min(len(names), MAX_NAMES) for _, names in panels]
    with house():
        size = (figure_size(columns)[0], sum(heights) + 1)
        figure = ShownFigure(figsize=size, layout="constrained")
        axes = figure.subplots(
            2, columns, squeeze=False, sharex=True, sharey="row", height_ratios=heights
        )
        (shown, _), (asked, _) = panels
        for b in range(columns):
            _draw_channels(axes[0, b], shown[:, b], always, cycle()[0])
            _shade(axes[1, b], mask[:, b])
            _draw_channels(axes[1, b], asked[:, b], mask[:, b], cycle()[1])
            axes[0, b].set_title(f"{title}, example {b + 1}")
            for ax, (_, names), label in zip(axes[:, b], panels, ("input", "target"), strict=True):
                _name_rows(ax, names)
                ax.set(xlabel="step", ylabel=label)
        fit(figure, axes.flat)
    return figure


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of a panel, or every so manyth of them."""
    named = np.arange(0, len(names), max(1, -(-len(names) // MAX_NAMES)))
    ax.set_yticks(-named, [names[int(c)] for c in named])
    ax.set_ylim(-len(names) + 0.4, 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _rows(values: np.ndarray, mask: np.ndarray, names: Sequence[str]) -> tuple[Any, list[str]]:
    """Return `values [T, B, C]` and names of all channels, or of many of those that occur."""
    rows = np.arange(len(names))
    if len(names) > MAX_NAMES:
        rows = np.flatnonzero((values[mask] != 0).any(0))
    return values[..., rows], [names[int(c)] for c in rows]


def _draw_channels(ax: Axes, values: np.ndarray, mask: np.ndarray, color: str) -> None:
    """Draw `values [T, C]` at the steps of a mask, channel c about the height −c."""
    steps = np.arange(len(values))
    if _are_symbols(values[mask]):
        at, channels = np.nonzero((values > 0.5) & mask[:, None])
        size = max(2.5, min(5.0, 250 / max(int(mask.sum()), 1)))
        ax.plot(at, -channels, "s", ms=size, mew=0, color=color)
        return
    scale = 0.4 / max(np.abs(values[mask]).max(initial=0), 1e-9)
    for c in range(values.shape[1]):
        ax.axhline(-c, color=MUTED, lw=0.5)
        line = np.where(mask, -c + scale * values[:, c], np.nan)
        # A step that stands alone has no line.
        marker = "o" if mask.sum() < 30 else None
        ax.plot(steps, line, color=color, lw=0.8, marker=marker, ms=4)
        if mask.sum() == 1:
            t = int(np.flatnonzero(mask)[0])
            text = f"{values[t, c]:.3g} "
            ax.annotate(text, (t, line[t]), ha="right", va="center", color=color)


def _are_symbols(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _shade(ax: Axes, mask: np.ndarray) -> None:
    """Shade the steps that count, each from half a step before to half a step after it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    for n, (start, stop) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        label = None if n else "steps that count"
        ax.axvspan(start - 0.5, stop - 0.5, color=cycle()[1], alpha=0.15, lw=0, label=label)
