"""Panels for what a result is known to hold, found by the names and shapes of its arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnn_jax.errors import describe
from rnn_jax.reporting.norms_by_lag import decay, loss_map, state_map
from rnn_jax.reporting.panels import Panel, Table
from rnn_jax.reporting.spectra import spectrum_panel
from rnn_jax.reporting.training_panels import Curve, curves_panel, telemetry_panels

CURVES = {
    "loss": ("Learning curves", "loss", "loss"),
    "solved": ("Part solved", "part of the sequences", "linear"),
    "grad_norm": ("Gradient norms", "gradient norm before clipping", "log"),
}
"""Metrics drawn over training: heading, label and scale."""
BASELINES = {
    "chance_loss": ("without memory", 1.0),
    "unigram_entropy": ("unigram entropy", float(np.log(2))),  # told in bits
}
CLIPPED = {"clip_norm": ("clipped to", 1.0)}
"""Numbers that curves are compared with: name, and how much of the curves' unit one of them is."""
BOUNDS = {"product_bound": "product", "power_bound": "power"}

STEPS, PLAIN = ("step", "steps"), ("metrics",)
"""Names of the steps of evaluations, and of groups that say nothing of what is in them."""

Path = tuple[str, ...]


def panels_of(result: Mapping[str, Any]) -> list[Panel]:
    """Return panels for what is recognized in a result, which nests arrays by name.

    - `measured [.., T+1, T+1]`, ln ‖∂s_t/∂s_k‖, with `product_bound` and `power_bound` beside it: a
      map, and the decay by lag;
    - `loss_to_state [.., T, T+1]`, ln ‖∂E_t/∂s_k‖: a map;
    - `loss`, `solved`, `grad_norm`, `[steps, networks]`: learning curves, at the steps of a `step`
      beside them or above. A group with a one-dimensional array as long as their first axis has
      the networks there. Below `arms/PANEL/ARM/LENGTH` the arms of a panel and length are lines
      of one frame;
    - `state_log_norms [steps, networks, T]`: telemetry;
    - `exponents [.., K]`, with `standard_errors`: Lyapunov spectra.

    What is not recognized is in `table_of_arrays` alone.
    """
    groups = list(_groups(result))
    norms = {_name(path): of for path, of in groups if _is_table(of.get("measured"), 0)}
    losses = {_name(path): of for path, of in groups if _is_table(of.get("loss_to_state"), 1)}
    panels: list[Panel] = []
    if norms:
        panels.append(state_map({name: _stacked(of["measured"]) for name, of in norms.items()}))
        panels.append(decay({name: _with_bounds(of) for name, of in norms.items()}))
    if losses:
        tables = {name: _stacked(of["loss_to_state"]) for name, of in losses.items()}
        panels.append(loss_map(tables))
    panels += _learning(groups, result)
    records = [(path, of) for path, of in groups if np.ndim(of.get("state_log_norms", 0)) in (2, 3)]
    for path, of in records:
        name = _name(path) if len(records) > 1 else ""
        panels += telemetry_panels(_record(of), name=name)
    spectra = {_name(path): spectrum for path, of in groups for spectrum in _spectra(of)}
    if spectra:
        panels.append(spectrum_panel(spectra))
    return panels


def table_of_arrays(result: Mapping[str, Any], source: str) -> Table:
    """Return the table of all arrays: name, dtype and shape, smallest, median and largest."""
    rows = []
    for path, values in _arrays(result):
        array = np.asarray(values)
        numbers = array.astype(float).ravel() if array.dtype.kind in "biufV" else np.zeros(0)
        finite = numbers[np.isfinite(numbers)]
        middle = np.percentile(finite, (0, 50, 100)) if finite.size else ()
        told = [f"{value:.6g}" for value in middle] or [""] * 3
        if array.dtype.kind in "US" and array.size <= 8:
            told[0] = ", ".join(map(str, array.ravel()))
        other = int((~np.isfinite(numbers)).sum())
        rows.append([path, describe(array), *told, f"{other:,}" if other else ""])
    headers = ["array", "dtype and shape", "smallest", "median", "largest", "NaN or infinite"]
    return Table(f"All arrays of {source}", headers, rows, folded=True)


def _groups(result: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield every mapping, and the names on the way to it."""
    yield path, result
    # Before training comes before after it, whatever the order of their names.
    for name, value in sorted(result.items(), key=lambda item: str(item[0]).startswith("after")):
        if isinstance(value, Mapping):
            yield from _groups(value, (*path, str(name)))


def _arrays(result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every array, and its path."""
    for path, group in _groups(result):
        for name, value in group.items():
            if not isinstance(value, Mapping):
                yield "/".join(filter(None, (*path, str(name)))), value


def _name(path: Path) -> str:
    return ", ".join(path)


def _is_table(values: Any, fewer_rows: int) -> bool:
    """Return whether values are tables `[.., n − fewer_rows, n]` of numbers over (t, k)."""
    if values is None or isinstance(values, Mapping):
        return False
    array = np.asarray(values)
    sizes = array.shape[-2:]
    return array.dtype.kind in "fV" and len(sizes) == 2 and sizes[0] + fewer_rows == sizes[1] >= 2


def _stacked(tables: Any) -> np.ndarray:
    """Return tables `[.., rows, columns]` with one leading axis."""
    tables = np.asarray(tables)
    return tables.reshape(-1, *tables.shape[-2:])


def _with_bounds(of: Mapping[str, Any]) -> dict[str, np.ndarray]:
    shape = np.shape(of["measured"])
    bounds = {BOUNDS[key]: of[key] for key in of if key in BOUNDS and np.shape(of[key]) == shape}
    return {name: _stacked(table) for name, table in {"measured": of["measured"], **bounds}.items()}


def _record(of: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return a record of telemetry with an axis for networks, where it has none."""
    norms = np.asarray(of["state_log_norms"])
    names = ("spectral_norm/", "spectral_radius/")
    flat = {path: np.asarray(values) for path, values in _arrays(of)}
    if norms.ndim == 3:
        fits = lambda path, v: v.shape[:2] == norms.shape[:2]
    else:
        flat = {path: values[:, None] for path, values in flat.items() if values.ndim}
        fits = lambda path, v: len(v) == len(norms)
    kept = lambda path, v: fits(path, v) and (v.ndim == 2 or path.startswith((*names, "state_log")))
    return {path: values for path, values in flat.items() if kept(path, values)}


def _spectra(of: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield exponents `[K, networks]` and their errors, if the group has some."""
    exponents = of.get("exponents")
    if exponents is None or isinstance(exponents, Mapping) or not np.size(exponents):
        return
    exponents = np.asarray(exponents)
    if exponents.ndim and exponents.dtype.kind == "f":
        errors = np.asarray(of.get("standard_errors", np.nan))
        flat = lambda values: values.reshape(-1, exponents.shape[-1]).T
        yield flat(exponents), flat(errors) if errors.shape == exponents.shape else None


def _learning(groups: Any, result: Mapping[str, Any]) -> list[Panel]:
    """Return a panel for each metric of training that some group has."""
    panels: list[Panel] = []
    losses = _levels(result, BASELINES)
    for metric, (title, label, scale) in CURVES.items():
        found = [(path, of) for path, of in groups if _is_curve(of.get(metric))]
        if not found:
            continue
        shared = _shared([path for path, _ in found])
        curves = []
        for path, of in found:
            view, line = _view_and_line(path, shared)
            values = _steps_first(of, metric)
            curves.append(Curve(view, line, values, _steps_of(path, len(values), result)))
        levels = {"loss": losses, "grad_norm": _levels(result, CLIPPED)}.get(metric, {})
        panels.append(curves_panel(title, label, curves, scale=scale, across=levels))
    return panels


def _is_curve(values: Any) -> bool:
    """Return whether values are numbers over steps, of one network or several."""
    if values is None or isinstance(values, Mapping):
        return False
    array = np.asarray(values)
    return array.ndim in (1, 2) and array.dtype.kind in "fV" and array.size > 0


def _steps_first(of: Mapping[str, Any], metric: str) -> np.ndarray:
    """Return a metric as `[steps, networks]`."""
    values = np.asarray(of[metric])
    if values.ndim == 1:
        return values[:, None]
    flat = {key: np.shape(v) for key, v in of.items() if not isinstance(v, Mapping)}
    others = {size[0] for key, size in flat.items() if len(size) == 1 and key not in STEPS}
    networks, steps = values.shape
    return values.T if networks in others and steps not in others else values


def _steps_of(path: Path, count: int, result: Mapping[str, Any]) -> Any:
    """Return the steps beside the values or above, if there are as many; None for one a step.

    Means between evaluations, one fewer than these, stand at the later ones.
    """
    levels = [result]
    for name in path:
        levels.append(levels[-1][name])
    for level in reversed(levels):
        for key in STEPS:
            steps = level.get(key)
            if steps is not None and np.ndim(steps) == 1 and len(steps) in (count, count + 1):
                return np.asarray(steps)[len(steps) - count :]
    return None


def _view_and_line(path: Path, shared: set[str]) -> tuple[str, str]:
    """Return the frame that a curve stands in, and its name there."""
    if path[:1] == ("arms",) and len(path) >= 4:
        _, panel, arm, length, *kind = path
        return _name((panel, length, *(name.replace("_", " ") for name in kind))), arm
    names = [name for name in path if name not in (*shared, *PLAIN)] or ["training"]
    return _name(tuple(names[:-1])), names[-1].replace("_", " ")


def _shared(paths: list[Path]) -> set[str]:
    """Return the names that all paths have, which tell no two of them apart."""
    return set.intersection(*map(set, paths)) if len(paths) > 1 else set()


def _levels(result: Mapping[str, Any], known: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """Return the numbers to compare curves with that a result has: by name, in the curves' unit."""
    found = {}
    for key, (name, unit) in known.items():
        level = result.get(key)
        if level is not None and not isinstance(level, Mapping) and np.ndim(level) == 0:
            found[name] = float(level) * unit
    return found
