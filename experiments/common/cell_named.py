"""A cell by the name that a person types: one of ours, or a factory of their own."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from rnn_jax.cell import Cell
from rnn_jax.cells import CELLS
from rnn_jax.errors import invalid

FORM = "package.module:factory, where factory(hidden_size) returns a Cell"


def cell_named(name: str, hidden_size: int) -> Cell:
    """Return the cell called `name`, with this hidden size.

    Args:
      name: a key of `cells.CELLS`, as `lstm`, or `package.module:factory`, the import path of a
        function `hidden_size -> Cell`. Modules of the current folder are found by `python -m`.
      hidden_size: H.

    Raises:
      ValueError: no such name, module or attribute, or one that does not make cells out of sizes.
        Whatever a module raises while it is imported, or a factory while it runs, is passed on.
    """
    if ":" not in name:
        if name not in CELLS:
            raise invalid("cell", name, f"one of {', '.join(CELLS)}", f"Or pass {FORM}.")
        return CELLS[name](hidden_size)
    cell = _factory(name)(hidden_size)
    if not isinstance(cell, Cell):
        raise invalid(
            "cell",
            f"{name}({hidden_size}), a {type(cell).__name__}",
            "a Cell",
            "Return one: rnn_jax.cells.from_function makes a Cell of any step function.",
        )
    return cell


def _factory(name: str):
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        missing = getattr(error, "name", None)
        if missing and not f"{module_name}.".startswith(f"{missing}."):
            raise
        raise invalid(
            "cell",
            f"{name}, whose module is not found",
            FORM,
            "Run where the module can be imported, or set PYTHONPATH.",
        ) from error
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise invalid(
                "cell", f"{name}, but {module_name} has no {attribute!r}", FORM, "Check the name."
            )
        found = getattr(found, part)
    try:
        inspect.signature(found).bind(0)
    except (TypeError, ValueError) as error:
        raise invalid(
            "cell",
            f"{name}, which cannot be called as factory(hidden_size): {error}",
            FORM,
            "Wrap it: def factory(hidden_size): return ...",
        ) from error
    return found
