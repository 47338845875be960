"""Cells by the name that a command is given."""

import jax
import jax.numpy as jnp
import pytest

from experiments.common.cell_named import cell_named
from rnn_jax import cells


def a_factory(hidden_size):
    return cells.lstm(hidden_size, dtype=jnp.float32)


def not_a_cell(hidden_size):
    return hidden_size


def no_sizes():
    return cells.lstm(3)


def test_cells_by_name():
    assert cell_named("elman", 5).initial_state(cell_named("elman", 5).init(KEY, 2)).shape == (5,)
    cell = cell_named(f"{__name__}:a_factory", 7)
    assert cell.initial_state(cell.init(KEY, 2)).c.shape == (7,)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lstn", "one of elman"),
        ("no_such_package.module:factory", "module is not found"),
        ("rnn_jax.no_such_module:factory", "module is not found"),
        (":factory", "module is not found"),
        ("rnn_jax.cells:no_such_cell", "has no 'no_such_cell'"),
        (f"{__name__}:KEY", "cannot be called"),
        (f"{__name__}:no_sizes", "cannot be called"),
        (f"{__name__}:not_a_cell", "a int; expected a Cell"),
    ],
)
def test_cells_that_no_name_names(name, message):
    with pytest.raises(ValueError, match=message):
        cell_named(name, 3)


def test_what_a_module_lacks_itself_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_cells.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        cell_named("broken_cells:factory", 3)
