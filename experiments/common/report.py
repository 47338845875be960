"""Text for a terminal and a file: tables and paragraphs of 100 columns, medians and spread."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

COLUMNS = 100
FIRST = 48
"""Columns that the names of rows may take in a table that is too wide; the rest goes on below."""


def paragraph(text: str) -> str:
    """Return `text` in lines of at most 100 columns."""
    return textwrap.fill(" ".join(text.split()), COLUMNS, break_on_hyphens=False)


def spread(values: np.ndarray, form: str = ".3f") -> str:
    """Return "median (10 %–90 %)" of `values`; of one, the value."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    # Between an infinite value and another one there is nothing to interpolate.
    method: Any = "linear" if np.isfinite(values).all() else "nearest"
    low, middle, high = np.percentile(values, (10, 50, 90), method=method)
    return f"{middle:{form}} ({low:{form}}–{high:{form}})"


def escaped(cell: str) -> str:
    """Return `cell` as it is written in a Markdown table, where a bare bar would end it."""
    return cell.replace("|", r"\|")


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Return a Markdown table in which no line is longer than 100 columns.

    A bar in a cell is escaped. A table that is too wide is cut into several, one below the other,
    that all begin with the first column; what is too long for a cell goes on in the row below.
    """
    cells = [[str(cell) for cell in row] for row in (headers, *rows)]
    widths = [_width(column) for column in zip(*cells, strict=True)]
    return "\n\n".join(_table(cells, widths, group) for group in _groups(widths))


def _width(column: tuple[str, ...]) -> int:
    """Return the width that tabulate gives a column: two more than its header, at least."""
    return max(len(escaped(column[0])) + 2, *(len(escaped(cell)) for cell in column))


def _groups(widths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the columns of each table: the first one, and as many others as there is room for."""
    first = min(widths[0], FIRST) + 4
    group, used = [0], first
    for column, width in enumerate(widths[1:], start=1):
        if len(group) > 1 and used + width + 3 > COLUMNS:
            yield group
            group, used = [0], first
        group.append(column)
        used += width + 3
    yield group


def _table(cells: list[list[str]], widths: Sequence[int], group: list[int]) -> str:
    from tabulate import tabulate

    others = sum(widths[column] + 3 for column in group[1:])
    room = {column: widths[column] for column in group}
    room[0] = min(widths[0], max(COLUMNS - 4 - others, FIRST))
    if len(group) == 2:
        room[group[1]] = min(widths[group[1]], COLUMNS - 7 - room[0])
    lines = [line for row in cells[1:] for line in _wrapped([row[c] for c in group], room.values())]
    headers = [escaped(cells[0][column]) for column in group]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def _wrapped(row: list[str], room) -> Iterator[list[str]]:
    """Yield the row, and rows below it for what is too long."""
    parts = [
        textwrap.wrap(cell, width - cell.count("|"), break_on_hyphens=False) or [""]
        for cell, width in zip(row, room, strict=True)
    ]
    for line in range(max(map(len, parts))):
        yield [escaped(part[line]) if line < len(part) else "" for part in parts]
