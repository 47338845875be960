"""Markdown as HTML: tables that scroll, headings one level down, HTML shown and not run."""

from __future__ import annotations

import re

from rnn_jax.errors import optional

CELLS = re.compile(r"(?<!\\)\|")


def html_of(text: str) -> str:
    """Return Markdown as HTML.

    Rows of a table that `text` has broken into several, to keep its lines short, are one row again:
    a row in which the first cell, or all others, are empty goes on with the row above it.

    Raises:
      ImportError: markdown-it-py is missing; says how to install it.
    """
    parser = optional("markdown_it", "pip install markdown-it-py")
    render = parser.MarkdownIt("commonmark", {"html": False}).enable("table").render
    found = render(joined_rows(text))
    # The page has the one heading of the first level.
    found = re.sub(r"<(/?)h([1-5])>", lambda m: f"<{m[1]}h{int(m[2]) + 1}>", found)
    found = found.replace("<th>", '<th scope="col">').replace("<th ", '<th scope="col" ')
    found = re.sub(r"<table>", '<div class="wide" tabindex="0"><table>', found)
    return found.replace("</table>", "</table></div>")


def joined_rows(text: str) -> str:
    """Return Markdown in which each row of a table stands on one line."""
    lines: list[str] = []
    body = False  # below the rule that follows a table's headers
    for line in text.splitlines():
        is_row = line.startswith("|")
        is_rule = is_row and not set(line) - set("|-: ")
        if is_row and body and lines[-1].startswith("|") and not is_rule:
            above, cells = _cells(lines[-1]), _cells(line)
            after_rule = not set(lines[-1]) - set("|-: ")
            goes_on = not any(cells[1:]) or not cells[0]
            if goes_on and not after_rule and len(above) == len(cells):
                both = (f"{a} {b}".strip() for a, b in zip(above, cells, strict=True))
                lines[-1] = f"| {' | '.join(both)} |"
                continue
        body = is_rule or (body and is_row)
        lines.append(line)
    return "\n".join(lines)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in CELLS.split(line.strip())[1:-1]]
