"""Panels of a user's own arrays, as the tools of `rnn_jax` return them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnn_jax.errors import describe, invalid
from rnn_jax.reporting.norms_by_lag import decay, loss_map, state_map
from rnn_jax.reporting.panels import PANELS, Markdown, Panel, Table
from rnn_jax.reporting.recognized import panels_of
from rnn_jax.reporting.spectra import spectrum_panel


def panels_of_arrays(run: Mapping[str, Any]) -> list[Panel]:
    """Return panels of what `rnn_jax.report` takes in place of a run folder, in the same order.

    Raises:
      ValueError: names or arrays that it does not know.
    """
    unknown = [str(name) for name in run if name not in (*SHOWN, "bounds", "title")]
    if unknown or not any(name in SHOWN for name in run):
        got = f"a mapping with {', '.join(unknown)}" if unknown else "a mapping without any"
        expected = f"some of {', '.join(SHOWN)}; bounds beside norms; title"
        remedy = "Put other arrays into panels of rnn_jax.reporting, under the name panels."
        raise invalid("run", got, expected, remedy)
    if "bounds" in run and "norms" not in run:
        raise invalid("run", "bounds alone", "norms beside them", "Pass norms, too.")
    return [panel for name in run if name in SHOWN for panel in SHOWN[name](run)]


def _norms(run: Mapping[str, Any]) -> list[Panel]:
    several = isinstance(run["norms"], Mapping)
    tables = run["norms"] if several else {"": run["norms"]}
    bounds, remedy = run.get("bounds", {}), "Pass {'product': table}, say."
    if not isinstance(bounds, Mapping):
        raise invalid("run['bounds']", bounds, "a mapping by name", remedy)
    by_name = bounds if several else {"": bounds}
    groups = {}
    for name, table in tables.items():
        measured = _table(f"run['norms'][{name!r}]" if several else "run['norms']", table, 0)
        groups[str(name)] = {"measured": measured}
        of_name = by_name.get(name, {})
        if not isinstance(of_name, Mapping):
            raise invalid(f"run['bounds'][{name!r}]", of_name, "bounds by name", remedy)
        for bound, values in of_name.items():
            argument = f"run['bounds'][{bound!r}]"
            found = _table(argument, getattr(values, "bound", values), 0)
            if found.shape[1:] != measured.shape[1:]:
                got, expected = describe(found), f"a table like that of norms, {describe(measured)}"
                raise invalid(argument, got, expected, "Take both along the same xs.")
            groups[str(name)][str(bound)] = found
    maps = {name: group["measured"] for name, group in groups.items()}
    return [state_map(maps), decay(groups)] if groups else []


def _loss_norms(run: Mapping[str, Any]) -> list[Panel]:
    given = run["loss_norms"]
    tables = given if isinstance(given, Mapping) else {"": given}
    return [
        loss_map(
            {
                str(name): _table("run['loss_norms']", getattr(of, "state_log_norms", of), 1)
                for name, of in tables.items()
            }
        )
    ]


def _spectrum(run: Mapping[str, Any]) -> list[Panel]:
    given = run["spectrum"]
    spectra = given if isinstance(given, Mapping) else {"λ": given}
    found = {}
    for name, of in spectra.items():
        exponents = _floats("run['spectrum']", getattr(of, "exponents", of))
        if not exponents.ndim or not exponents.size:
            raise invalid("run['spectrum']", exponents, "exponents [K, *batch]", "Pass some.")
        flat = lambda values: np.asarray(values, float).reshape(len(values), -1)
        errors = getattr(of, "standard_errors", None)
        found[str(name)] = (flat(exponents), None if errors is None else flat(np.asarray(errors)))
    return [spectrum_panel(found)]


def _history(run: Mapping[str, Any]) -> list[Panel]:
    given = run["history"]
    if not isinstance(given, Mapping):
        remedy = "Pass what fit returns, or {arm: what it returns}."
        raise invalid("run['history']", given, "metrics by name", remedy)
    panels = panels_of(_as_arrays(given))
    if not panels:
        got = f"a history of {', '.join(map(str, given)) or 'nothing'}"
        expected = "loss, solved, grad_norm or state_log_norms, [steps, ...]"
        raise invalid("run['history']", got, expected, "Pass the metrics that fit returns.")
    return panels


def _as_arrays(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return nested arrays, fetched."""
    nested = lambda value: _as_arrays(value) if isinstance(value, Mapping) else np.asarray(value)
    return {str(name): nested(value) for name, value in tree.items()}


def _summary(run: Mapping[str, Any]) -> list[Panel]:
    return [Markdown(run["summary"])]


def _settings(run: Mapping[str, Any]) -> list[Panel]:
    given = run["settings"]
    if not isinstance(given, Mapping):
        raise invalid("run['settings']", given, "a mapping by name", "Pass {'T': 100}.")
    return [Table("Settings", ["setting", "value"], [[k, v] for k, v in given.items()])]


def _own(run: Mapping[str, Any]) -> list[Panel]:
    given = run["panels"]
    panels = [given] if isinstance(given, PANELS) else given
    if not isinstance(panels, list | tuple) or not all(isinstance(p, PANELS) for p in panels):
        expected = "a list of panels of rnn_jax.reporting"
        raise invalid("run['panels']", given, expected, "Make a Heatmap, Lines, Slider or Table.")
    return list(panels)


SHOWN: dict[str, Callable[[Mapping[str, Any]], list[Panel]]] = {
    "summary": _summary,
    "norms": _norms,
    "loss_norms": _loss_norms,
    "spectrum": _spectrum,
    "history": _history,
    "settings": _settings,
    "panels": _own,
}
"""What a mapping may hold, and the panels of it."""


def _floats(argument: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
        floats = array.astype(float) if array.dtype.kind in "fV" else None
    except (TypeError, ValueError):
        floats = None
    if floats is None:
        raise invalid(argument, values, "an array of floats", "Pass what the tool returned.")
    return array if array.dtype.kind == "f" else floats


def _table(argument: str, values: Any, fewer_rows: int) -> np.ndarray:
    """Return ln norms `[rows, columns, *batch]` as `[batch, rows, columns]`."""
    table = _floats(argument, values)
    if table.ndim < 2 or table.shape[0] + fewer_rows != table.shape[1] or not table.size:
        expected = f"ln norms [{'T' if fewer_rows else 'T+1'}, T+1, *batch]"
        raise invalid(argument, table, expected, "Pass the table as the tool returned it.")
    return np.moveaxis(table.reshape(*table.shape[:2], -1), -1, 0)
