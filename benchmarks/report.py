"""Report what a benchmark measured: rows as JSON, as Markdown tables and on the terminal."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from tabulate import tabulate

Row = dict[str, Any]


def machine() -> Row:
    """Return what the figures are measured on."""
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("jax", "jaxlib")},
        "devices": [f"{device} ({device.device_kind})" for device in jax.devices()],
    }


def table(rows: Sequence[Mapping[str, Any]], title: str = "", floats: str = ".4g") -> str:
    """Return rows as a Markdown table, by their keys; lists, as of all rounds, are for the JSON."""
    shown = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in rows]
    text = tabulate(shown, headers="keys", tablefmt="github", floatfmt=floats)
    return f"{title}\n\n{text}" if title else text


def save_rows(file: Path, rows: Sequence[Row], **more: Any) -> None:
    """Write rows, the machine and what else there is as JSON; a run may do so as it goes on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine(), "rows": rows, **more}
    file.write_text(json.dumps(found, indent=1, default=float, ensure_ascii=False) + "\n")


def read_rows(file: Path) -> dict[str, Any]:
    """Return what `save_rows` wrote."""
    return json.loads(file.read_text())


def show(*tables: str) -> None:
    """Print tables, and the machine below them."""
    about = ", ".join(f"{name} {value}" for name, value in machine().items())
    print("\n\n".join((*tables, about)), flush=True)


def conclude(folder: Path, *tables: str, figures: Mapping[str, Any] | None = None) -> None:
    """Write tables to table.md and figures as PNG and SVG, and show the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text("\n\n".join(tables) + "\n")
    for name, figure in (figures or {}).items():
        for suffix in ("png", "svg"):
            figure.savefig(folder / f"{name}.{suffix}", dpi=150)
    show(*tables)
