"""A page a study: its claim, its command, its figures, and whether the claim is borne out."""

from __future__ import annotations

from pathlib import Path


def write_studies(docs: Path) -> None:
    """Write them."""
