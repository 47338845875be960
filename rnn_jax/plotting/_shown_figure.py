"""A figure that a notebook shows, and that is always drawn by the settings it was made with."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import allow_rasterization
from matplotlib.figure import Figure

READ_LATE = (
    *("axes.", "figure.constrained", "font.", "grid.", "hatch.", "image.", "legend.", "lines."),
    *("mathtext.", "pdf.", "path.", "svg.", "text.", "xtick.", "ytick."),
)
"""How settings begin that matplotlib reads when a figure is drawn: new ticks, fonts, files."""
NO_DATES: Mapping[str, Mapping[str, None]] = {
    "svg": {"Date": None},
    "pdf": {"CreationDate": None},
}
"""By format: what makes two files of one figure differ, left out."""


class ShownFigure(Figure):
    """A `matplotlib.figure.Figure` without pyplot that Jupyter displays as a PNG.

    It is drawn and saved with the rcParams that held when it was made, whatever they are by then:
    ticks that only appear when it is drawn have the size and the grid of the others. SVG and PDF
    files carry no date, so that those of the same figure are the same bytes.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._settings = settings_read_late()

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        """Draw the figure and what is in it by a renderer of matplotlib's."""
        with matplotlib.rc_context(self._settings):
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        """Save the figure as `Figure.savefig` does, without the date in an SVG or PDF."""
        format_ = options.get("format") or Path(str(fname)).suffix.lstrip(".")
        undated = NO_DATES.get(str(format_).lower())
        if undated:
            options["metadata"] = {**undated, **(options.get("metadata") or {})}
        with matplotlib.rc_context(self._settings):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """Return the PNG that IPython asks for."""
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi)
        return file.getvalue()


def settings_read_late() -> dict[Any, Any]:
    """Return the rcParams now that are read when a figure is drawn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", matplotlib.MatplotlibDeprecationWarning)
        known = matplotlib.rcParams.copy()
        return {name: known[name] for name in known if name.startswith(READ_LATE)}
