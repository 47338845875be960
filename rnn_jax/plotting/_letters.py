"""Letters of panels: (a), (b), ..."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

BEFORE = -0.01
"""Where a letter ends, in parts of the width of its panel."""


def letters(axes: Axes | Iterable[Axes]) -> list[Text]:
    """Write (a), (b), ... in bold above and before the left corner of panels; return these texts.

    Each is the left title of its Axes, above the numbers of its vertical axis; an Axes that has a
    left title keeps it, behind the letter. After (z) come (aa), (ab), ...

    Args:
      axes: panels in the order of their letters: one Axes, a sequence, or the array that
        `Figure.subplots` returns, row by row.
    """
    panels: list[Any] = list(np.ravel(np.array(axes, dtype=object)))
    texts = []
    for number, ax in enumerate(panels):
        title = ax.get_title(loc="left")
        label = f"({letter(number)})"
        if title:
            texts.append(ax.set_title(f"{label} {title}", loc="left", fontweight="bold"))
        else:
            look: dict[str, Any] = {"ha": "right", "x": BEFORE, "fontweight": "bold"}
            texts.append(ax.set_title(label, loc="left", **look))
    return texts


def letter(number: int) -> str:
    """Return the letter of a panel counted from 0: a .. z, aa, ab, ..."""
    before, last = divmod(number, len(string.ascii_lowercase))
    return (letter(before - 1) if before else "") + string.ascii_lowercase[last]
