"""The reference: a page a public module, with an entry for every name that it exports."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

from docs.pages.files import heading, write_all
from rnn_jax.cells import CELLS

MODULES = (
    "rnn_jax",
    "rnn_jax.cells",
    "rnn_jax.cells.initializers",
    "rnn_jax.gradients",
    "rnn_jax.theory",
    "rnn_jax.training",
    "rnn_jax.tasks",
    "rnn_jax.losses",
    "rnn_jax.topologies",
    "rnn_jax.interop",
    "rnn_jax.graph",
    "rnn_jax.graph.drawing",
    "rnn_jax.linalg",
    "rnn_jax.plotting",
    "rnn_jax.reporting",
)
KINDS = (("functions", "autofunction"), ("classes", "autoclass"), ("values", "autodata"))


def names_of(module: str) -> list[str]:
    """Return what a module exports, without modules: its `__all__`, or its own functions."""
    of = importlib.import_module(module)
    exported = getattr(of, "__all__", None) or [
        name
        for name, value in vars(of).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    return sorted(
        (name for name in exported if not inspect.ismodule(getattr(of, name))), key=str.lower
    )


def public_names() -> list[str]:
    """Return every public name with its module, as the reference has it."""
    return [f"{module}.{name}" for module in MODULES for name in names_of(module)]


def write_reference(folder: Path) -> None:
    """Write a page a module, and the page that lists them."""
    listed = "\n".join(f"   {module}" for module in MODULES)
    index = [
        heading("Reference"),
        "Every public name, by module. The cells have :doc:`pages of their own </cells/index>`.",
        f".. toctree::\n   :maxdepth: 1\n\n{listed}",
    ]
    pages = {f"{module}.rst": _page(module) for module in MODULES}
    write_all(folder, {"index.rst": "\n\n".join(index) + "\n", **pages})


def _page(module: str) -> str:
    of = importlib.import_module(module)
    parts = [heading(module), f".. automodule:: {module}\n   :no-index:"]
    names = names_of(module)
    for title, directive in KINDS:
        entries = [name for name in names if _directive(getattr(of, name)) == directive]
        elsewhere = [name for name in entries if module == "rnn_jax.cells" and name in CELLS]
        entries = [name for name in entries if name not in elsewhere]
        if entries or elsewhere:
            parts.append(heading(title.capitalize(), "-"))
        if elsewhere:
            links = ", ".join(f":doc:`{name} </cells/{name}>`" for name in elsewhere)
            parts.append(f"Cells, each on a page of its own: {links}.")
        parts += [_entry(directive, f"{module}.{name}") for name in entries]
    return "\n\n".join(parts) + "\n"


def _entry(directive: str, name: str) -> str:
    lines = [f".. {directive}:: {name}"]
    if directive == "autoclass":
        lines.append("   :members:")
    if directive == "autodata":
        # Autodoc does not find what stands below a value in the file that it comes from.
        module, _, short = name.rpartition(".")
        lines = [
            f".. py:data:: {short}",
            f"   :module: {module}",
            "",
            f"   {_below(module, short)}",
        ]
    return "\n".join(lines)


def _below(module: str, name: str) -> str:
    """Return the string that stands below the assignment of a name, in any file of its package."""
    file = Path(importlib.import_module(module).__file__ or "")
    for path in sorted(file.parent.rglob("*.py")):
        for node, after in itertools.pairwise(ast.parse(path.read_text()).body):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
            named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
            said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if named and said:
                return " ".join(str(after.value.value).split())  # type: ignore[attr-defined]
    raise ValueError(f"{module}.{name} has no docstring below it")


def _directive(value: Any) -> str:
    if inspect.isclass(value):
        return "autoclass"
    return "autofunction" if callable(value) else "autodata"
