"""The README's Python runs as it stands, and that of all documents."""

import importlib
import re
import tomllib
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

import rnn_jax
from docs.pages import SHOWN
from rnn_jax import cells
from tests.examples import document_examples

README = Path(__file__).parents[1] / "README.md"
ROOMS = ("cells", "gradients", "interop", "plotting", "tasks", "theory", "topologies", "training")
MODULES = {name: importlib.import_module(f"rnn_jax.{name}") for name in (*ROOMS, "graph")}
MODULES["rnn_jax"] = rnn_jax
DOCS = README.parent / "docs"
DOCUMENTS = sorted([*DOCS.glob("*.md"), *DOCS.glob("lecture/*.md")])
matplotlib.use("Agg")


def of_an_lstm():
    cell = cells.lstm(64)
    params = cell.init(jax.random.key(0), 3)
    x = jnp.ones((2, 3), jnp.float32)
    return {"params": params, "state": cell.initial_state(params, (2,)), "x": x}


GIVEN = {"named_scopes.md": of_an_lstm}
"""What a document takes for granted. Those that the site runs take nothing."""


def run(path):
    """Run every block, in one namespace."""
    namespace = {}
    if path.parent == DOCS and path.stem in SHOWN:
        namespace = {"jax": jax, "jnp": jnp, "cells": cells, **GIVEN.get(path.name, dict)()}
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        for example in document_examples(path):
            example.run(namespace)
    return namespace


def test_the_readme_runs(capsys):
    namespace = run(README)
    assert namespace.keys() >= {"gradient", "check"}
    printed = capsys.readouterr().out
    assert "(100, 101, 32) (100, 100, 32)" in printed
    assert "0 violations" in printed
    np.testing.assert_array_equal(namespace["check"].violations, 0)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(DOCS)))
def test_documents_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a page writes, it leaves here
    monkeypatch.setattr(plt, "show", lambda: None)  # warns where there is a screen
    try:
        run(path)
        drawn = [plt.figure(number) for number in plt.get_fignums()]
        assert len(drawn) == path.read_text().count("plt.show()")
        for figure in drawn:
            figure.canvas.draw()
    finally:
        plt.close("all")


def test_every_slide_is_on_the_index_and_shows_something():
    slides = sorted((DOCS / "lecture").glob("[0-9]*.md"))
    index = (DOCS / "lecture" / "index.md").read_text()
    listed = index.partition("```{toctree}")[2].split()
    assert [slide.stem for slide in slides] == [name for name in listed if name[0].isdigit()]
    for number, slide in enumerate(slides, 1):
        assert f"| [{number}. " in index
        assert f"]({slide.name})" in index
        assert slide.read_text().startswith(f"# {number}. ")
        code = "".join(example.code for example in document_examples(slide))
        assert "assert" in code
        assert 3 <= len(code.splitlines()) <= 100


def test_a_traceback_names_the_line_of_the_document(tmp_path):
    path = tmp_path / "README.md"
    first = ["# A", "", "```python", "a = 1", "```", "```", "no Python", "```"]
    path.write_text("\n".join([*first, "```python", "", "b", "```"]))
    with pytest.raises(NameError) as caught:
        run(path)
    at = traceback.extract_tb(caught.tb)[-1]
    assert (at.filename, at.lineno) == (str(path), 11)


@pytest.mark.parametrize("path", sorted(README.parent.glob("*.md")), ids=lambda path: path.name)
def test_its_links_and_files_are_there(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    # What is too wide for a terminal is a table, a picture or an entry of BibTeX.
    assert not [n for n in lines if len(n) > 110 and not n.startswith(("| ", "![", "  title"))]


def test_its_table_of_cells_has_all_of_them_once():
    _, _, section = README.read_text().partition("## The cells")
    rows = [line for line in section.splitlines() if re.match(r"\| .*`", line)][1:]
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(cells.CELLS)
    linear = re.findall(r"`(\w+)`", rows[-1])
    assert rows[-1].startswith("| linear in the state |")
    parallel = [
        name
        for name, make in cells.CELLS.items()
        if (structure := make(4).structure) is not None and structure.linear is not None
    ]
    assert sorted(linear) == sorted(parallel)


def test_what_it_says_is_where_is_there():
    """Every name of code in the table of what is where is one of the library's or a command."""
    _, _, table = README.read_text().partition("## What is where")
    known = set(MODULES)
    for module in MODULES.values():
        known |= set(module.__all__)
    used = re.findall(r"`([\w.]+)(?:\(.*?\))?`", table.partition("## The cells")[0])
    assert len(used) > 15
    for name in used:
        parts = [part for part in name.split(".") if part not in ("rnn_jax", "experiments")]
        files = [README.parent / "experiments" / f"{part}.py" for part in parts]
        assert all(
            part in known or file.exists() for part, file in zip(parts, files, strict=True)
        ), name


def test_the_files_of_contributing_are_there():
    text = (README.parent / "CONTRIBUTING.md").read_text()
    named = re.findall(r"[\w/]+\.(?:py|md)\b", text) + re.findall(r"tests/[\w/]+\b", text)
    assert len(named) > 30
    # What a contributor writes, and a file beside another one that is named in full.
    theirs = {"rnn_jax/cells/_name.py", "rnn_jax/tasks/_name.py", "rnn_jax/unrolling/name.py"}
    beside = {"_ugrnn.py": "cells", "_parity.py": "tasks", "forget_gate.py": "../experiments"}
    for name in {*named} - theirs - {"experiments/name.py"}:
        folder = "rnn_jax/" + beside[name] if name in beside else ""
        found = README.parent / folder / name
        assert found.exists() or found.with_suffix(".py").exists(), name


def test_citations_agree():
    """CITATION.cff, the README's BibTeX and the package say the same."""
    cited = (README.parent / "CITATION.cff").read_text()
    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    (author,) = project["authors"]
    said = README.read_text().partition("```bibtex")[2].replace("\\_", "_")
    for each in (rnn_jax.__version__, author["name"], project["license"]):
        assert each in cited
        assert each in said
    assert "http" not in cited + said
