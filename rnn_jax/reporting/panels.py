"""Panels of a report: what each of them shows, in plain arrays and text.

A panel knows nothing of how it is drawn. Text may hold anything: it is escaped where it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rnn_jax.errors import choose, invalid

Scale = Literal["linear", "log", "ln"]
SCALES = {name: name for name in ("linear", "log", "ln")}
"""`linear`, `log` for a logarithmic axis, `ln` for natural logarithms, read in powers of ten."""
STYLES = {name: name for name in ("line", "dashed", "dotted", "points")}


class Axis(NamedTuple):
    """One axis of a table.

    Attributes:
      letter: what hovering calls it, as "t".
      label: text along the axis, as "state t".
      values: its `[n]` numbers, in increasing order; 0, 1, 2 and so on by default.
    """

    letter: str
    label: str
    values: Any = None


class Line(NamedTuple):
    """One line of a panel.

    Attributes:
      label: its name in the legend.
      y: `[n]`.
      x: `[n]`; 0, 1, 2 and so on by default.
      band: lower and upper end, `[n]` each; None for no band.
      errors: standard errors, `[n]`; None for none.
      style: "line", "dashed", "dotted" or "points".
      color: number of its colour, −1 for grey; by default, that of its place among the lines.
    """

    label: str
    y: Any
    x: Any = None
    band: tuple[Any, Any] | None = None
    errors: Any = None
    style: str = "line"
    color: int | None = None


@dataclass(frozen=True)
class Heatmap:
    """Tables over two axes, one at a time under a cursor.

    Attributes:
      title: the heading.
      value: what hovering calls an entry, as "‖∂s_t/∂s_k‖".
      tables: `[rows, columns]` by name; of several, the page has a list to choose from.
      rows, columns: their axes, which all tables share. A table with fewer rows or columns than
        values has the first of them.
      scale: of the entries, see `SCALES`.
      causal: leave out entries whose column's value exceeds their row's: k > t.
      note: a sentence below the heading.
    """

    title: str
    value: str
    tables: Mapping[str, Any]
    rows: Axis
    columns: Axis
    scale: Scale = "ln"
    causal: bool = False
    note: str = ""

    def __post_init__(self):
        _check_text("title", self.title)
        choose("scale", self.scale, SCALES)
        for name, table in _mapping("tables", self.tables).items():
            shape = _numbers(f"tables[{name!r}]", table, 2).shape
            for axis, size, of in zip(("rows", "columns"), shape, self.axes, strict=True):
                known = size if of.values is None else len(_numbers(axis, of.values, 1))
                if size > known:
                    got, expected = f"{known} values for {size} {axis} of {name!r}", "one for each"
                    raise invalid(axis, got, expected, "Pass an Axis with values for all.")

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Return the axes in the order of a table's."""
        return self.rows, self.columns


@dataclass(frozen=True)
class Lines:
    """Lines in one frame, of any number.

    Attributes:
      title: the heading.
      x, y: labels of the axes.
      views: lines by name; where there are several groups of them, the page has a list to choose
        from.
      scale: of y, see `SCALES`.
      limits: lowest and highest y of the frame, in the units of the lines; by default, what fits.
      note: a sentence below the heading.
    """

    title: str
    x: str
    y: str
    views: Mapping[str, Sequence[Line]]
    scale: Scale = "linear"
    limits: tuple[float, float] | None = None
    note: str = ""

    def __post_init__(self):
        _check_text("title", self.title)
        choose("scale", self.scale, SCALES)
        for name, lines in _mapping("views", self.views).items():
            for line in lines:
                if not isinstance(line, Line):
                    raise invalid(f"views[{name!r}]", line, "Lines", "Pass reporting.Line(..).")
                choose("style", line.style, STYLES)
                _check_line(line)


@dataclass(frozen=True)
class Slider:
    """A line at each of many steps, which a slider chooses.

    Attributes:
      title: the heading.
      x: the axis of the line.
      y: label of the other axis.
      steps: the step of each line, `[n]`, in increasing order.
      values: `[n, points]`.
      band: lower and upper ends, `[n, points]` each; None for no band.
      scale: of the values, see `SCALES`.
      note: a sentence below the heading.
    """

    title: str
    x: Axis
    y: str
    steps: Any
    values: Any
    band: tuple[Any, Any] | None = None
    scale: Scale = "ln"
    note: str = ""

    def __post_init__(self):
        _check_text("title", self.title)
        choose("scale", self.scale, SCALES)
        steps, values = _numbers("steps", self.steps, 1), _numbers("values", self.values, 2)
        points = values.shape[1] if self.x.values is None else len(self.x.values)
        for end in (self.values, *(self.band or ())):
            shape = _numbers("band", end, 2).shape
            if shape != (len(steps), points):
                expected = f"[{len(steps)}, {points}], a line for each step"
                raise invalid("values", f"shape {list(shape)}", expected, "Pass such arrays.")


@dataclass(frozen=True)
class Table:
    """A table of text and numbers.

    Attributes:
      title: the heading.
      headers: of its columns.
      rows: cells, as they are to be read, as many in each row as there are headers.
      folded: show it only once the reader opens it.
      note: a sentence below the heading.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False
    note: str = ""

    def __post_init__(self):
        _check_text("title", self.title)
        for row in self.rows:
            if len(row) != len(self.headers):
                got, expected = f"{len(row)} cells", f"{len(self.headers)}, one for each header"
                raise invalid("rows", got, expected, "Fill up the row with empty text.")


@dataclass(frozen=True)
class Markdown:
    """Text in Markdown, with tables; HTML in it is shown, not run.

    Attributes:
      text: the text, which has headings of its own.
    """

    text: str

    def __post_init__(self):
        _check_text("text", self.text)


@dataclass(frozen=True)
class Pictures:
    """Pictures that were drawn elsewhere.

    Attributes:
      title: the heading.
      png: the bytes of PNG files, by name.
      folded: show them only once the reader opens them.
    """

    title: str
    png: Mapping[str, bytes]
    folded: bool = False

    def __post_init__(self):
        _check_text("title", self.title)
        for name, content in _mapping("png", self.png).items():
            if not isinstance(content, bytes) or not content.startswith(PNG):
                expected = "the bytes of a PNG file"
                raise invalid(f"png[{name!r}]", content, expected, "Pass Path(..).read_bytes().")


PNG = b"\x89PNG\r\n\x1a\n"
"""What every PNG file begins with."""
Panel = Heatmap | Lines | Slider | Table | Markdown | Pictures
PANELS = (Heatmap, Lines, Slider, Table, Markdown, Pictures)


def _check_text(argument: str, value: Any) -> None:
    if not isinstance(value, str):
        raise invalid(argument, value, "text", "Pass a str.")


def _mapping(argument: str, value: Any) -> Mapping[str, Any]:
    """Return `value`. ValueError unless it is a mapping with names."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise invalid(argument, value, "a mapping by name", "Pass {name: ...}.")
    return value


def _numbers(argument: str, value: Any, rank: int) -> np.ndarray:
    """Return `value` as an array of real numbers of that rank. ValueError for anything else."""
    try:
        array = np.asarray(value)
        real = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
    except (TypeError, ValueError):
        raise invalid(argument, value, "an array of numbers", "Pass a NumPy array.") from None
    if not (real or array.dtype == bool or array.dtype.kind == "V") or array.ndim != rank:
        expected = f"real numbers of {rank} {'axis' if rank == 1 else 'axes'}"
        raise invalid(argument, value, expected, "Take one network, or a median over several.")
    return array


def _check_line(line: Line) -> None:
    """Raise ValueError unless all arrays of a line have one length."""
    n = len(_numbers("y", line.y, 1))
    for name, values in (("x", line.x), ("errors", line.errors), *_ends(line.band)):
        if values is not None and len(_numbers(name, values, 1)) != n:
            got = f"{len(values)} for {n} values of y of {line.label!r}"
            raise invalid(name, got, "one for each", "Pass arrays of one length.")


def _ends(band: Any) -> tuple[tuple[str, Any], ...]:
    return () if band is None else (("band", band[0]), ("band", band[1]))
