"""The site without a build: pages are reached, links lead somewhere, no name is missing."""

import importlib
import re
from pathlib import Path

import pytest

from docs.pages import public_names
from docs.pages.reference import MODULES, names_of, write_reference
from rnn_jax.cells import CELLS
from tests.test_architecture import PUBLIC

DOCS = Path(__file__).parents[1] / "docs"
ROOT = DOCS.parent
WRITTEN = sorted(path for path in [*DOCS.glob("*.md"), *DOCS.glob("lecture/*.md")])
MADE = {"cells/index", "reference/index", "gallery/index", "study/index"}
"""Pages that a build makes."""
FENCED = re.compile(r"^(```+).*?^\1", re.MULTILINE | re.DOTALL)


def entries(text):
    """The pages that the toctrees of a page list."""
    blocks = re.findall(r"```\{toctree\}(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line.strip() for line in lines if line.strip() and not line.startswith(":")]


def test_every_page_is_reached():
    listed = {
        (path.parent / entry).relative_to(DOCS).as_posix()
        for path in WRITTEN
        for entry in entries(path.read_text())
    }
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in WRITTEN}
    assert pages - listed == {"index"}
    assert listed - pages <= MADE


def anchors_of(path):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    slug = lambda text: re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
    return {slug(heading) for heading in headings}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(DOCS).as_posix())
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", path.read_text())):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        made = there.is_relative_to(DOCS) and (
            there.relative_to(DOCS).with_suffix("").as_posix() in MADE
        )
        assert there.exists() or made, target
        if anchor and not made:
            assert anchor in anchors_of(there), target


def test_every_public_name_has_an_entry(tmp_path):
    assert set(PUBLIC) <= set(MODULES)
    write_reference(tmp_path)
    text = "\n".join(page.read_text() for page in tmp_path.glob("*.rst"))
    described = set(re.findall(r"^\.\. auto\w+:: (\S+)$", text, re.MULTILINE))
    data = re.findall(r"^\.\. py:data:: (\S+)\n   :module: (\S+)$", text, re.MULTILINE)
    described |= {f"{module}.{name}" for name, module in data}
    of_cells = {f"rnn_jax.cells.{name}" for name in CELLS}
    assert set(public_names()) <= described | of_cells
    for name in CELLS:
        assert f"</cells/{name}>" in text
    # What a module exports is there, under its own name.
    for module in MODULES:
        for name in names_of(module):
            assert hasattr(importlib.import_module(module), name)


def test_pages_that_are_as_they_should_be_are_left_alone(tmp_path):
    write_reference(tmp_path)
    (tmp_path / "gone.rst").write_text("of a module that is no more")
    times = {page.name: page.stat().st_mtime_ns for page in tmp_path.glob("rnn_jax*")}
    write_reference(tmp_path)
    assert {page.name: page.stat().st_mtime_ns for page in tmp_path.glob("rnn_jax*")} == times
    assert not (tmp_path / "gone.rst").exists()
