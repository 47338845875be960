"""The page of a run folder, from its files: config.json, numbers.npz, summary.md and figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.reporting._page import page
from rnn_jax.reporting.panels import PNG, Markdown, Panel, Pictures, Table
from rnn_jax.reporting.recognized import panels_of, table_of_arrays

FILES = ("config.json", "numbers.npz", "summary.md")
ORIGIN = ("command", "commit", "versions", "devices", "platform", "begun", "seconds", "resumed")
"""What of config.json comes first in the table of where a run comes from."""


def page_of_run(folder: str | Path, panels: Sequence[Panel] = ()) -> str:
    """Return the page of a finished run: its summary and checks, its numbers, where it comes from.

    What is not there is left out; the numbers are drawn as `panels_of` recognizes them, and the
    figures/*.png of the run are shown below, folded where there are panels.

    Args:
      folder: the run folder.
      panels: further panels, which come before those.

    Raises:
      FileNotFoundError: no such folder, or none of a run's files in it.
      ValueError: files that are broken.
    """
    folder = Path(folder)
    there = [name for name in FILES if (folder / name).is_file()]
    if not there:
        what = "without any of a run's files" if folder.is_dir() else "which is no folder"
        expected = f"the folder of a finished run, with {' or '.join(FILES)}"
        remedy = "Run the experiment first."
        raise invalid("run", f"{folder}, {what}", expected, remedy, FileNotFoundError)
    record = _record(folder / "config.json") if "config.json" in there else {}
    numbers = _numbers(folder / "numbers.npz") if "numbers.npz" in there else {}
    summary = (folder / "summary.md").read_text("utf-8") if "summary.md" in there else ""
    name = str(record.get("experiment") or folder.resolve().name)
    shown: list[Panel] = [Markdown(summary)] if summary else []
    known = [*panels, *panels_of(numbers)]
    shown += known
    drawn = {file.stem: file.read_bytes() for file in sorted((folder / "figures").glob("*.png"))}
    figures = {name: content for name, content in drawn.items() if content.startswith(PNG)}
    if figures:
        # They say in print what the panels say, where there are some.
        shown.append(Pictures("Figures of the run", figures, folded=bool(known)))
    shown += [table_of_arrays(numbers, "numbers.npz")] if numbers else []
    shown += provenance(record)
    return page(f"Report: {name}", shown, whole="numbers.npz has all")


def provenance(record: Mapping[str, Any]) -> list[Panel]:
    """Return tables of config.json: where a run comes from, and its settings."""
    known = {key: record[key] for key in ORIGIN if key in record}
    others = {
        key: value
        for key, value in record.items()
        if key not in (*ORIGIN, "config", "arrays", "experiment") and value not in ({}, None)
    }
    notes = {"seconds": "seconds, since the last resumption", "resumed": "times resumed"}
    rows = [[notes.get(key, key), _text(value)] for key, value in {**known, **others}.items()]
    found: list[Panel] = []
    if rows:
        found.append(Table("Where this run comes from", ["what", "value"], rows))
    settings = [[key, _text(value)] for key, value in record.get("config", {}).items()]
    if settings:
        found.append(Table("Settings", ["setting", "value"], settings))
    return found


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(of)}" for key, of in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return "none" if value is None else str(value)


def _record(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise invalid("run", f"a broken {file}", "JSON", "Run the experiment again.") from error
    if not isinstance(record, dict):
        raise invalid("run", f"{file} of another kind", "a JSON object", "Run it again.")
    return record


def _numbers(file: Path) -> dict[str, Any]:
    """Return the arrays, nested by the parts of their paths."""
    nested: dict[str, Any] = {}
    try:
        with np.load(file, allow_pickle=False) as archive:
            flat = dict(archive)
    # Of damaged bytes, zipfile, zlib and numpy raise errors of a dozen kinds.
    except Exception as error:
        expected = "an .npz archive"
        raise invalid("run", f"a broken {file}", expected, "Run the experiment again.") from error
    for path, values in sorted(flat.items(), key=lambda item: item[0].count("/"), reverse=True):
        *parents, name = path.split("/")
        group = nested
        for parent in parents:
            group = group.setdefault(parent, {})
        # An array may have the path of a group, which is deeper and so came before.
        (group[name] if isinstance(group.get(name), dict) else group)[
            "" if isinstance(group.get(name), dict) else name
        ] = values
    return nested
