"""Write files of the site, and leave those alone that are as they should be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Write text files by name, and remove pages that nothing makes any more."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.rst"), *folder.glob("*.md")]:
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        file = folder / name
        # Sphinx reads anew what has a new time.
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)


def heading(text: str, sign: str = "=") -> str:
    """Return a heading of reStructuredText."""
    return f"{text}\n{sign * len(text)}"
