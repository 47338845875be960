"""What the docstring of a study says: its headline, its claim and how long it takes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple


class DocstringParts(NamedTuple):
    """Parts of a study's docstring, each in one line, empty where there is none.

    Attributes:
      headline: its first paragraph.
      claim: the paragraph that begins with "Claim".
      time: the paragraph that says how long it takes with the default settings.
    """

    headline: str
    claim: str
    time: str


def parts_of(doc: str) -> DocstringParts:
    """Return the parts of a docstring."""
    first, *rest = (" ".join(part.split()) for part in doc.strip().split("\n\n"))
    claim = next((part for part in rest if part.startswith("Claim")), "")
    time = next((part for part in rest if part.startswith(("About", "Under", "A few"))), "")
    return DocstringParts(first, claim, time)


def parts_in(file: Path) -> DocstringParts:
    """Return the parts of a module's docstring, which is read and not imported."""
    return parts_of(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


def first_sentence(text: str) -> str:
    """Return `text` up to the first full stop or question mark that a capital letter follows."""
    return re.split(r"(?<=[.?])\s+(?=[A-Z])", text, maxsplit=1)[0]
