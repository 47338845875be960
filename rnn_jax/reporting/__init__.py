"""Panels of a report, and the page that shows them: `rnn_jax.report` makes both of a run.

Needs plotly, which `import rnn_jax` does not, for the page; panels need NumPy alone.
"""

from rnn_jax.reporting._page import page
from rnn_jax.reporting.panels import (
    Axis,
    Heatmap,
    Line,
    Lines,
    Markdown,
    Panel,
    Pictures,
    Slider,
    Table,
)

__all__ = [
    "Axis",
    "Heatmap",
    "Line",
    "Lines",
    "Markdown",
    "Panel",
    "Pictures",
    "Slider",
    "Table",
    "page",
]
