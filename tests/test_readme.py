"""The README's Python runs as it stands, and that of all documents."""

import re
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from rnn_jax import cells
from tests.examples import document_examples

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
DOCUMENTS = sorted(DOCS.glob("**/*.md"))
LECTURE = DOCS / "lecture"
matplotlib.use("Agg")


def of_an_lstm():
    cell = cells.lstm(64)
    params = cell.init(jax.random.key(0), 3)
    x = jnp.ones((2, 3), jnp.float32)
    return {"params": params, "state": cell.initial_state(params, (2,)), "x": x}


GIVEN = {"named_scopes.md": of_an_lstm}
"""What a document takes for granted; the README and the lecture take nothing."""


def run(path):
    """Run every block, in one namespace."""
    namespace = {}
    if path.parent == DOCS:
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
def test_documents_run(path, monkeypatch):
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
    slides = sorted(LECTURE.glob("[0-9]*.md"))
    index = (LECTURE / "index.md").read_text()
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


@pytest.mark.parametrize("path", [README, *LECTURE.glob("*.md")], ids=lambda path: path.name)
def test_its_links_and_files_are_there(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target
