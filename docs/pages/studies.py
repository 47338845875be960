"""A page a study, its claim, command, figures and verdicts: a section of a page of verdicts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docs.pages.files import write_all
from experiments.common.collections import COLLECTIONS

HEAD = """# The studies

Each is one command and one claim, and ends with numbers that bear it out or do not. Those of
[published results](../reproductions.md) stand beside the papers'; those of
[theory](../studies.md) beside what can be derived.
"""


def write_studies(docs: Path) -> None:
    """Write a page for every section of the pages of verdicts, and the page that lists them."""
    pages, listed = {}, []
    for collection in COLLECTIONS.values():
        page = docs.parent / collection.page
        for name, text in _sections(page.read_text()):
            pages[f"{name}.md"] = f"# {name}\n\n{_moved(text, page.parent, docs)}"
            listed.append(name)
    tree = "\n".join(["```{toctree}", ":maxdepth: 1", "", *listed, "```"])
    write_all(docs / "study", {"index.md": f"{HEAD}\n{tree}\n", **pages})


def _sections(page: str) -> Iterator[tuple[str, str]]:
    """Yield title and text of every section of a page."""
    _, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    for section in sections:
        title, _, text = section.partition("\n")
        yield title.strip(), text.strip() + "\n"


def _moved(text: str, beside: Path, docs: Path) -> str:
    """Return a section whose links, relative to a folder, are relative to `docs/study`."""

    def to_study(link: re.Match[str]) -> str:
        path = (beside / link[1]).relative_to(docs)
        return f"](../{path.as_posix()})"

    return re.sub(r"\]\(([^)#:]+)\)", to_study, text)
