"""The README's Python runs as it stands, and that of the documents it links to."""

import re
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells
from tests.examples import document_examples

README = Path(__file__).parents[1] / "README.md"
DOCUMENTS = sorted((README.parent / "docs").glob("*.md"))


def of_an_lstm():
    cell = cells.lstm(64)
    params = cell.init(jax.random.key(0), 3)
    x = jnp.ones((2, 3), jnp.float32)
    return {"params": params, "state": cell.initial_state(params, (2,)), "x": x}


GIVEN = {"named_scopes.md": of_an_lstm}
"""What a document takes for granted; the README takes nothing."""


def run(path):
    """Run every block, in one namespace."""
    namespace = {}
    if path in DOCUMENTS:
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


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_run(path):
    run(path)


def test_a_traceback_names_the_line_of_the_document(tmp_path):
    path = tmp_path / "README.md"
    first = ["# A", "", "```python", "a = 1", "```", "```", "no Python", "```"]
    path.write_text("\n".join([*first, "```python", "", "b", "```"]))
    with pytest.raises(NameError) as caught:
        run(path)
    at = traceback.extract_tb(caught.tb)[-1]
    assert (at.filename, at.lineno) == (str(path), 11)


def test_its_links_and_files_are_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text()):
        assert (README.parent / target).exists(), target
