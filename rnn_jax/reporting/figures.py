"""Panels as figures of plotly."""

from __future__ import annotations

from typing import Any

from rnn_jax.errors import optional
from rnn_jax.reporting.curves import draw_lines, draw_slider
from rnn_jax.reporting.drawing import Figure, shared_layout
from rnn_jax.reporting.heatmaps import draw_heatmap
from rnn_jax.reporting.panels import Heatmap, Lines, Slider

DRAWN: dict[type, Any] = {Heatmap: draw_heatmap, Lines: draw_lines, Slider: draw_slider}


def figure_of(panel: Heatmap | Lines | Slider) -> Figure:
    """Return a panel as a figure: plain values, numbers in plotly's binary form.

    Raises:
      ImportError: plotly is missing; says how to install it.
    """
    graphs = optional("plotly.graph_objects", 'pip install "plotly>=6"')
    figure = DRAWN[type(panel)](panel)
    layout = graphs.Layout({**shared_layout(), **figure.layout}).to_plotly_json()
    views = [(label, graphs.Figure(traces).to_dict()["data"]) for label, traces in figure.views]
    return figure._replace(views=views, layout=layout)
