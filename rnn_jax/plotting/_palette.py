"""Colours, lines and markers that protanopes, deuteranopes and a grey printer tell apart.

The colours are the best that a search of sRGB found for the least distance between any two of them:
CAM02-UCS 28 as they are, 23 and 25 as protanopes and deuteranopes see them (Machado et al. 2009,
severity 100), and steps of 9 in lightness in grey; 2 or so is a step that can just be seen. None is
so light that a thin line of it fades on white. `tests/plotting/test_palette.py` measures them.
"""

from __future__ import annotations

from typing import Any

import matplotlib

PALETTE = ("#1878cc", "#f06000", "#186c60", "#9c0000", "#6cb49c", "#18306c", "#3c0c18")
"""Colours of lines and points, in the order in which they are used."""
MEASURED, BOUND, PRODUCT = PALETTE[:3]
MUTED = "#80858d"
"""For what is compared with; always with a line of its own."""
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "osD^vP*X<>"
MANY = "viridis"
LIGHTEST = 0.88
"""Of `MANY`, the part that shows on white."""


def cycle() -> list[Any]:
    """Return the colours of lines now: the user's `axes.prop_cycle`, or else the palette."""
    colors = matplotlib.rcParams["axes.prop_cycle"].by_key().get("color", list(PALETTE))
    return [matplotlib.colors.to_hex(color) for color in colors]


def arm_color(number: int, count: int) -> Any:
    """Return the colour of an arm: one of a few, or of many in their order."""
    colors = cycle()
    if count <= len(colors):
        return colors[number]
    return shade(number, count)


def shade(number: int, count: int) -> Any:
    """Return the colour of a value among many in their order, from dark to light."""
    return matplotlib.colormaps[MANY](LIGHTEST * number / max(count - 1, 1))


def arm_line(number: int) -> Any:
    """Return the line style of an arm, for those to whom its colour says nothing."""
    return LINES[number % len(LINES)]


def arm_marker(number: int) -> str:
    """Return the marker of an arm: with its line it is another one for each of fifty arms."""
    return MARKERS[(number + number // len(MARKERS)) % len(MARKERS)]
