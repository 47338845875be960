"""Panels of a report: what each of them shows, in plain arrays and text.

A panel knows nothing of how it is drawn. Text may hold anything: it is escaped where it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rnn_jax.errors import choose, invalid
from rnn_jax.reporting.arguments import (
    check_bands,
    check_names,
    check_numbers,
    check_rows,
    check_text,
)

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
        for argument in ("title", "value", "note"):
            check_text(argument, getattr(self, argument))
        choose("scale", self.scale, SCALES)
        for argument in ("rows", "columns"):
            _check_axis(argument, getattr(self, argument))
        for name, table in check_names("tables", self.tables).items():
            shape = check_numbers(f"tables[{name!r}]", table, 2).shape
            for axis, size, of in zip(("rows", "columns"), shape, self.axes, strict=True):
                known = size if of.values is None else len(check_numbers(axis, of.values, 1))
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
        for argument in ("title", "x", "y", "note"):
            check_text(argument, getattr(self, argument))
        choose("scale", self.scale, SCALES)
        for name, lines in check_names("views", self.views).items():
            argument = f"views[{name!r}]"
            for line in check_rows(argument, lines):
                if not isinstance(line, Line):
                    raise invalid(argument, line, "Lines", "Pass reporting.Line(..).")
                check_text(f"{argument}.label", line.label)
                choose(f"{argument}.style", line.style, STYLES)
                others = {"x": line.x, "errors": line.errors}
                check_bands({"y": line.y, **others}, line.band)


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
        for argument in ("title", "y", "note"):
            check_text(argument, getattr(self, argument))
        choose("scale", self.scale, SCALES)
        _check_axis("x", self.x)
        steps, values = (
            check_numbers("steps", self.steps, 1),
            check_numbers("values", self.values, 2),
        )
        if steps.dtype.kind not in "iu":
            raise invalid("steps", self.steps, "whole numbers", "Pass the steps that were taken.")
        points = values.shape[1] if self.x.values is None else len(self.x.values)
        for end in (self.values, *(self.band or ())):
            shape = check_numbers("band", end, 2).shape
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
        check_text("title", self.title)
        check_text("note", self.note)
        headers = check_rows("headers", self.headers)
        for row in check_rows("rows", self.rows):
            if len(check_rows("rows", row)) != len(headers):
                got, expected = f"{len(row)} cells", f"{len(headers)}, one for each header"
                raise invalid("rows", got, expected, "Fill up the row with empty text.")


@dataclass(frozen=True)
class Markdown:
    """Text in Markdown, with tables; HTML in it is shown, not run.

    Attributes:
      text: the text, which has headings of its own.
    """

    text: str

    def __post_init__(self):
        check_text("text", self.text)


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
        check_text("title", self.title)
        for name, content in check_names("png", self.png).items():
            if not isinstance(content, bytes) or not content.startswith(PNG):
                expected = "the bytes of a PNG file"
                raise invalid(f"png[{name!r}]", content, expected, "Pass Path(..).read_bytes().")


PNG = b"\x89PNG\r\n\x1a\n"
"""What every PNG file begins with."""
Panel = Heatmap | Lines | Slider | Table | Markdown | Pictures
"""Any of the kinds of panel."""
PANELS = (Heatmap, Lines, Slider, Table, Markdown, Pictures)


def _check_axis(argument: str, value: Any) -> None:
    if not isinstance(value, Axis):
        raise invalid(argument, value, "an Axis", "Pass reporting.Axis(letter, label).")
    check_text(f"{argument}.letter", value.letter)
    check_text(f"{argument}.label", value.label)
    if value.values is not None:
        check_numbers(f"{argument}.values", value.values, 1)
