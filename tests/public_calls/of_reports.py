"""Calls of the report and of its panels."""

import numpy as np

import rnn_jax
from rnn_jax import reporting
from tests.public_calls.call import TABLE, Call
from tests.public_calls.of_training import folder

PNG = b"\x89PNG\r\n\x1a\n"
AXIS = reporting.Axis("t", "state t")
LINE = reporting.Line("a", np.ones(3))


def report_calls():
    run = {"norms": TABLE, "bounds": {"product": TABLE}, "settings": {"T": 3}}
    return {
        "report": Call(
            rnn_jax.report,
            {"run": run, "out": f"{folder()}/report.html"},
            then=lambda file: np.array(len(file.read_text())),
            kinds={"out": "path"},
            never={"run": [{"norms": np.ones(3)}, {"bounds": {}}, {"norm": TABLE}]},
        )
    }


def reporting_calls():
    table = np.ones((4, 4))
    drawn = lambda panel: reporting.page("a", [panel])
    text = {"kinds": dict.fromkeys(("title", "value", "x", "y", "text"), "free text")}
    return {
        "page": Call(reporting.page, {"title": "a", "panels": [reporting.Markdown("b")]}, **text),
        "Heatmap": Call(
            reporting.Heatmap,
            {"title": "a", "value": "v", "tables": {"b": table}, "rows": AXIS, "columns": AXIS},
            then=drawn,
            **text,
        ),
        "Lines": Call(
            reporting.Lines,
            {"title": "a", "x": "x", "y": "y", "views": {"b": [LINE]}, "scale": "linear"},
            then=drawn,
            **text,
        ),
        "Slider": Call(
            reporting.Slider,
            {"title": "a", "x": AXIS, "y": "y", "steps": np.arange(4), "values": table},
            then=drawn,
            **text,
        ),
        "Table": Call(
            reporting.Table,
            {"title": "a", "headers": ["b"], "rows": [["c"]]},
            then=drawn,
            kinds={"title": "free text", "rows": "of any length"},
        ),
        "Markdown": Call(reporting.Markdown, {"text": "a"}, then=drawn, **text),
        "Pictures": Call(reporting.Pictures, {"title": "a", "png": {"b": PNG}}, then=drawn, **text),
    }
