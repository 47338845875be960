"""The page of oracles, with what was measured: `python -m docs.pages.validation` writes it."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path

import jax

HEAD = """# Validation

What the library's numbers are held against, and how far off they are. Each row is a test
(`tests/validation`), which fails where the difference exceeds what is allowed; thousands of
others, in the rest of `tests/`, hold laws against every cell. Differences are in float64, but where
float32 is named. `make validation` measures again and writes this page.
"""
FIELDS = ("quantity", "held against", "difference", "allowed", "measured")


def page_of(measured: Sequence[float], python: str, version: str) -> str:
    """Return the page, in Markdown, of what was measured for each oracle in their order."""
    from tests.validation import MODULES, ORACLES

    parts = [HEAD]
    for module in MODULES:
        rows = [
            (of.quantity, of.source, of.error, f"{of.tolerance:g}", f"{value:.2g}")
            for of, value in zip(ORACLES, measured, strict=True)
            if of.module == module.__name__
        ]
        lines = [FIELDS, ["---"] * len(FIELDS), *rows]
        table = "\n".join(f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in lines)
        parts.append(f"## {(module.__doc__ or '').splitlines()[0].rstrip('.')}\n\n{table}")
    parts.append(f"Measured on one CPU with Python {python} and JAX {version}.")
    return "\n\n".join(part.strip() for part in parts) + "\n"


def rows_of(page: str) -> list[list[str]]:
    """Return the cells of all rows of the page's tables, without their heads."""
    rows = re.findall(r"^\| (.*) \|$", page, re.MULTILINE)
    cells = [re.split(r" (?<!\\)\| ", row) for row in rows]
    return [row for row in cells if row[0] not in (FIELDS[0], "---")]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def main() -> None:
    """Measure every oracle and write docs/validation.md."""
    from tests.validation import ORACLES

    with jax.enable_x64(True):
        measured = [oracle.measure() for oracle in ORACLES]
    python = ".".join(platform.python_version_tuple()[:2])
    page = Path(__file__).parents[1] / "validation.md"
    page.write_text(page_of(measured, python, jax.__version__))


if __name__ == "__main__":
    main()
