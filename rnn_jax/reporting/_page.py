"""The page: panels one below the other in one file of HTML, which needs no network."""

from __future__ import annotations

import base64
import html
import string
from collections.abc import Sequence
from importlib import resources
from typing import Any

from rnn_jax.errors import invalid, optional
from rnn_jax.reporting.arguments import check_rows, check_text
from rnn_jax.reporting.figures import figure_of
from rnn_jax.reporting.markdown import html_of
from rnn_jax.reporting.panels import PANELS, Markdown, Panel, Pictures, Table
from rnn_jax.reporting.shown import ALL_OF_IT

LETTERS = (110, 34)
"""Letters of a legend that fit in a row, on a wide page and on a narrow one."""


def page(title: str, panels: Sequence[Panel], *, whole: str = ALL_OF_IT) -> str:
    """Return a page of HTML that shows panels, in their order.

    All of it is in the text: figures, plotly's JavaScript, styles. The page fetches nothing, and
    its own policy keeps a browser from fetching anything. Equal panels make equal text.

    Args:
      title: its title and first heading.
      panels: what it shows.
      whole: where a reader finds the entries that long arrays leave out, as "numbers.npz has all".

    Raises:
      ImportError: plotly or markdown-it-py is missing; says how to install it.
      ValueError: something that is no panel, or none.
    """
    check_text("title", title)
    plotly = optional("plotly.offline", 'pip install "plotly>=6"')
    for panel in check_rows("panels", panels):
        if not isinstance(panel, PANELS):
            known = ", ".join(kind.__name__ for kind in PANELS)
            raise invalid("panels", panel, f"panels: {known}", "Make one of rnn_jax.reporting.")
    if not panels:
        raise invalid("panels", "none", "at least one", "Pass the panels to show.")
    sections = [_section(n, panel, whole) for n, panel in enumerate(panels, start=1)]
    headings = [(n, p.title) for n, p in enumerate(panels, start=1) if not isinstance(p, Markdown)]
    template = resources.files("rnn_jax.reporting").joinpath("page.html").read_text("utf-8")
    return string.Template(template).substitute(
        title=html.escape(title),
        contents="\n".join(
            f'<li><a href="#section-{n}">{html.escape(heading)}</a></li>' for n, heading in headings
        ),
        sections="\n".join(sections),
        plotly=plotly.get_plotlyjs(),
    )


def _section(number: int, panel: Panel, whole: str) -> str:
    """Return one panel as a section of the page."""
    if isinstance(panel, Markdown):
        return f'<section id="section-{number}">\n{html_of(panel.text)}</section>'
    heading = f'<h2 id="heading-{number}">{html.escape(panel.title)}</h2>'
    if isinstance(panel, Table):
        body = _table(panel)
    elif isinstance(panel, Pictures):
        body = _pictures(panel)
    else:
        body = _figure(number, panel, whole)
    return (
        f'<section id="section-{number}" aria-labelledby="heading-{number}">\n'
        f"{heading}\n{body}\n</section>"
    )


def _figure(number: int, panel: Any, whole: str) -> str:
    """Return a place for a figure, its control, and what the page's script draws there."""
    figure = figure_of(panel)
    dropped = "; ".join(filter(None, figure.dropped))
    notes = [*filter(None, figure.notes), *([f"{dropped}; {whole}."] if dropped else [])]
    said = "".join(f"<p>{html.escape(note)}</p>\n" for note in notes)
    views = [{"label": label, "traces": traces} for label, traces in figure.views]
    data = {"views": views, "layout": figure.layout}
    encoded = optional("plotly.io.json", "pip install plotly").to_json_plotly(data, engine="json")
    shape = "plot square" if figure.square else "plot"
    # Rows of the legend, on a wide page and a narrow one: the frame keeps its height.
    rows = (max(-(-figure.letters // width) - 1, 0) for width in LETTERS)
    room = "; ".join(f"--{name}: {n}" for name, n in zip(("wide", "narrow"), rows, strict=True))
    named = f"heading-{number}"
    return (
        f"{said}{_control(number, figure.control, figure.views)}"
        f'<div id="panel-{number}" class="{shape}" style="{room}" role="group" '
        f'aria-labelledby="{named}"></div>\n'
        f'<script type="application/json" id="data-{number}">{encoded}</script>'
    )


def _control(number: int, kind: str, views: Sequence[tuple[str, Any]]) -> str:
    """Return the control that chooses one of the views."""
    of = f'id="control-{number}" data-panel="{number}"'
    if kind == "slider":
        last = max(len(views) - 1, 0)
        return (
            f'<p class="control"><label for="control-{number}">step</label>\n'
            f'<input type="range" {of} min="0" max="{last}" value="0" step="1">\n'
            f'<output for="control-{number}" id="shown-{number}"></output></p>\n'
        )
    if kind == "list":
        options = "".join(
            f'<option value="{n}">{html.escape(label)}</option>'
            for n, (label, _) in enumerate(views)
        )
        return (
            f'<p class="control"><label for="control-{number}">shown</label>\n'
            f"<select {of}>{options}</select></p>\n"
        )
    return ""


def _table(panel: Table) -> str:
    """Return a table; one that is folded is opened by its summary."""
    cells = lambda row, tag: "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row)
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in panel.headers)
    body = "\n".join(
        f'<tr><th scope="row">{html.escape(str(row[0]))}</th>{cells(row[1:], "td")}</tr>'
        for row in panel.rows
        if len(row)
    )
    note = f"<p>{html.escape(panel.note)}</p>\n" if panel.note else ""
    pairs = ' class="pairs"' if len(panel.headers) == 2 else ""
    table = (
        f'<div class="wide" tabindex="0"><table{pairs}>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
    return note + (_folded(table, f"the rows ({len(panel.rows):,})") if panel.folded else table)


def _pictures(panel: Pictures) -> str:
    """Return pictures, in the page itself."""
    found = "\n".join(
        f'<figure><img alt="{html.escape(name)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}">\n'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, png in panel.png.items()
    )
    return _folded(found, f"the figures ({len(panel.png):,})") if panel.folded else found


def _folded(content: str, what: str) -> str:
    """Return what is shown once the reader opens it."""
    return f"<details><summary>Show {what}</summary>\n{content}</details>"
