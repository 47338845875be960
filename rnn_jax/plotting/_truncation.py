"""Draw how far truncated gradients are from the full one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnn_jax.errors import invalid
from rnn_jax.plotting._bands import band_without_nan, draw_band
from rnn_jax.plotting._decades import plain_numbers
from rnn_jax.plotting._norms import mark_at_bottom
from rnn_jax.plotting._palette import MUTED, arm_color, arm_line, arm_marker
from rnn_jax.plotting._panels import several_panels
from rnn_jax.plotting._tables import as_numbers

PARTS = ("k2", "relative_error", "cosine")
LABELS = {
    "relative_error": r"relative error  $\|g - \nabla E\| / \|\nabla E\|$",
    "cosine": r"cosine of $g$ and $\nabla E$",
}
ERRORS = "a TruncationError, a mapping with k2, relative_error and cosine, or a mapping of those"


def truncation(
    errors: Any,
    *,
    title: str = "",
    legend: bool = True,
    ax: Sequence[Axes] | None = None,
) -> Any:
    """Draw relative error and cosine of truncated gradients g by their window k2, a panel each.

    An error of zero, that of a window as long as the sequence, is marked on the lower edge. NaN is
    left out.

    Args:
      errors: what `gradients.truncation_error` returns, or a mapping alike: `k2 [n]`, and
        `relative_error` and `cosine` `[n]` or `[n, seeds]`, drawn as median and 10–90 %; or name in
        the legend -> either.
      title: title of both panels.
      legend: whether lines are explained.
      ax: two Axes of a figure of yours, for error and cosine.

    Returns:
      A figure that Jupyter shows; `ax` where it is given.

    Raises:
      ValueError: arrays that do not fit each other, and an `ax` that is not two Axes.
    """
    single = hasattr(errors, "k2") or (isinstance(errors, Mapping) and set(PARTS) <= set(errors))
    arms = {"": errors} if single else errors
    if not isinstance(arms, Mapping) or not arms:
        raise invalid("errors", errors, ERRORS, "Pass truncation_error(...).")
    found = {str(name): _read(str(name), value) for name, value in arms.items()}

    def draw(axes: Sequence[Axes]) -> None:
        for ax, part in zip(axes, LABELS, strict=True):
            for number, (name, arrays) in enumerate(found.items()):
                _draw_part(ax, part, name, arrays, number, len(found))
            ax.set(title=title, xlabel=r"window  $k_2$  (steps)", ylabel=LABELS[part], xscale="log")
            plain_numbers(ax.xaxis)
        every = np.concatenate([arrays["relative_error"].ravel() for arrays in found.values()])
        if np.any(np.isfinite(every) & (every > 0)):
            axes[0].set_yscale("log")
        axes[1].axhline(1, color=MUTED, lw=1, ls=":")

    return several_panels(ax, draw, 2, legend=legend, height=2.0)


def _read(name: str, error: Any) -> dict[str, np.ndarray]:
    """Return k2 `[n]`, relative error and cosine `[n, seeds]`."""
    of = error if isinstance(error, Mapping) else {p: getattr(error, p, None) for p in PARTS}
    argument = f"errors[{name!r}]" if name else "errors"
    if any(of.get(part) is None for part in PARTS):
        raise invalid(argument, error, ERRORS, "Pass truncation_error(...).")
    arrays = {part: as_numbers(argument, of[part], ERRORS) for part in PARTS}
    n = arrays["k2"].size
    for part, values in arrays.items():
        if not n or not values.ndim or len(values) != n:
            expected = f"{part} [{n}] or [{n}, seeds], as many as k2"
            raise invalid(argument, values, expected, "Pass arrays by k2.")
    return {part: values.reshape(n, -1) for part, values in arrays.items()}


def _draw_part(
    ax: Axes, part: str, name: str, arrays: Mapping[str, np.ndarray], number: int, count: int
) -> None:
    """Draw one of the two by k2, in the order of k2."""
    order = np.argsort(arrays["k2"][:, 0])
    k2, values = arrays["k2"][order, 0], arrays[part][order]
    band = np.stack([band_without_nan(row) for row in values], 1)
    exact = part == "relative_error" and np.any(values > 0)
    shown = np.where(np.isfinite(band) & ((band > 0) | (not exact)), band, np.nan)
    color, seeds = arm_color(number, count), values.shape[1] > 1
    label = ": ".join(filter(None, (name, "median, 10–90 %" if seeds else "")))
    line = {"ls": arm_line(number), "marker": arm_marker(number), "mfc": "white"}
    draw_band(ax, k2, shown, color, label, **line)
    if exact and np.any(band[1] == 0):
        mark_at_bottom(ax, k2[band[1] == 0], "no error", color)
