"""Break texts into lines of a width."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

PIECES = re.compile(r"\$[^$]*\$[^ ]* *|[^ .:_/$]*[ .:_/]+|[^ .:_/$]+|\$")
"""Pieces of a text that are not broken: a formula, or a word up to the next space or sign.

Spaces that do not break are part of a word."""


def break_lines(text: Text, width: float) -> None:
    """Break the lines of a text that are longer than `width`, in pixels."""
    renderer = FigureCanvasAgg(text.get_figure(root=True)).get_renderer()
    font = text.get_fontproperties()
    text.set_text(broken_text(text.get_text(), width, font, renderer))


def broken_text(text: str, width: float, font: FontProperties, renderer: Any) -> str:
    """Return a text in lines of at most `width` pixels, as far as it can be broken."""
    fits = lambda line: width_of(line.strip(), font, renderer) <= width
    return "\n".join(part for line in text.split("\n") for part in _broken(line, fits))


def width_of(text: str, font: FontProperties, renderer: Any) -> float:
    """Return the width of the longest line of a text, in pixels."""
    return max(
        renderer.get_text_width_height_descent(line, font, "$" in line)[0] if line else 0.0
        for line in text.split("\n")
    )


def _broken(line: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """Yield the parts of a line, each as long as fits."""
    current = ""
    for piece in PIECES.findall(line):
        if current and not fits(current + piece):
            yield current.rstrip()
            current = ""
        current += piece
        while len(current) > 1 and "$" not in current and not fits(current):
            lengths = range(2, len(current))
            cut = 1 + bisect.bisect_left(lengths, True, key=lambda n: not fits(current[:n]))
            yield current[:cut]
            current = current[cut:]
    if current.strip() or not line:
        yield current.rstrip()
