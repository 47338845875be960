"""The plan of docs/architecture.md: who imports whom, and where a name is found."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from types import ModuleType

import pytest

import rnn_jax

ROOT = Path(rnn_jax.__file__).parents[1]

FLOORS = (
    ("types", "errors"),
    ("transforms", "lengths", "plotting", "reporting"),
    ("linalg", "losses"),
    ("cell", "tasks"),
    ("cells", "unrolling", "graph"),
    ("gradients", "topologies", "interop", "theory"),
    ("training", "_report"),
    ("rnn_jax", "study_command"),
    ("experiments", "benchmarks"),
)
"""Each room imports only rooms of floors above it in this list, which are below it in the house."""

PUBLIC = (
    *("rnn_jax", "rnn_jax.cells", "rnn_jax.gradients", "rnn_jax.graph", "rnn_jax.interop"),
    *("rnn_jax.linalg", "rnn_jax.losses", "rnn_jax.plotting", "rnn_jax.reporting"),
    *("rnn_jax.tasks", "rnn_jax.theory", "rnn_jax.topologies", "rnn_jax.training"),
)


def files() -> dict[str, Path]:
    """Return every module of the library, the experiments and the benchmarks, by its name."""
    found = {}
    for top in ("rnn_jax", "experiments", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


FILES = files()


def imports_of(module: str) -> set[str]:
    """Return the modules of ours that a file imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in FILES else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name in FILES} - {module}


def room_of(module: str) -> str:
    """Return the folder or the file that a module belongs to, as `FLOORS` has it."""
    top, *rest = module.split(".")
    return rest[0] if top == "rnn_jax" and rest else top


def test_rooms_import_only_what_is_below_them():
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    assert {room_of(module) for module in FILES} == set(floor)
    up = [
        f"{module} imports {other}"
        for module in FILES
        for other in imports_of(module)
        if room_of(module) != room_of(other) and floor[room_of(other)] >= floor[room_of(module)]
    ]
    assert not up


def test_no_file_imports_itself_by_way_of_others():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in imports_of(module):
                visit(other, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


def packages() -> list[ModuleType]:
    """Return rnn_jax and its folders, with all that is in them imported."""
    for found in pkgutil.walk_packages(rnn_jax.__path__, "rnn_jax."):
        importlib.import_module(found.name)
    names = [found.name for found in pkgutil.walk_packages(rnn_jax.__path__, "rnn_jax.")]
    modules = [rnn_jax, *map(importlib.import_module, names)]
    return [module for module in modules if hasattr(module, "__path__")]


def test_no_function_hides_the_file_of_its_name():
    hidden = [
        f"{package.__name__}.{file.name}"
        for package in packages()
        for file in pkgutil.iter_modules(package.__path__)
        if not isinstance(getattr(package, file.name, package), ModuleType)
    ]
    assert not hidden


def exported(module: ModuleType) -> list[str]:
    """Return what a folder exports, or the public functions and classes of a file."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    own = lambda value: callable(value) and value.__module__ == module.__name__
    return [name for name, value in vars(module).items() if name[0] != "_" and own(value)]


def test_names_are_found_where_they_were_before_the_cell_had_a_file():
    from rnn_jax import cell, types

    assert (types.Cell, types.Complex, types.Recurrence) == (
        cell.Cell,
        cell.Complex,
        cell.NormBoundTerms,
    )
    with pytest.raises(AttributeError, match="no attribute 'Cellar'"):
        _ = types.Cellar


def words(name: str) -> set[str]:
    """Return the words of a name in snake_case or CamelCase, in lower case."""
    return {
        word.lower()
        for word in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", name.replace("_", " "))
    }


def alike(a: str, b: str) -> bool:
    """Return whether two words are one but for their endings: matrix, matrices."""
    common = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return (common is None and min(len(a), len(b)) >= 3) or (common or 0) >= 5


def is_named_after(stem: str, name: str) -> bool:
    """Return whether a file's name and an exported one share a word, or one is in the other."""
    joined = stem.strip("_").replace("_", "")
    return joined in name.lower().replace("_", "") or any(
        alike(a, b) for a in words(name) for b in words(stem)
    )


@pytest.mark.parametrize(
    ("stem", "name", "expected"),
    [
        ("gated_matrices", "lstm_matrix", True),
        ("_fastgrnn", "FastGRNNParams", True),
        ("truncation", "truncated_gradient", True),
        ("penalties", "omega", False),
        ("step", "stop", False),
    ],
)
def test_what_counts_as_a_shared_word(stem, name, expected):
    assert is_named_after(stem, name) is expected


def test_files_are_named_after_what_they_export():
    found = []
    for public in PUBLIC:
        module = importlib.import_module(public)
        for name in exported(module):
            home = getattr(getattr(module, name), "__module__", None) or ""
            if home.startswith("rnn_jax"):
                found.append((home.rpartition(".")[2], name))
    missed = [pair for pair in found if not is_named_after(*pair)]
    assert len(found) > 200
    assert len(missed) <= 0.2 * len(found), missed


def without_imports(tree: ast.Module, source: str) -> list[str]:
    """Return the lines that say something, those of imports at the top left out."""
    imports = {
        line
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(source.splitlines(), 1)
    return [line.strip() for number, line in lines if line.strip() and number not in imports]


def test_files_and_functions_are_short_and_nothing_stands_twice():
    block, seen = 10, {}
    for module, path in FILES.items():
        source = path.read_text()
        tree = ast.parse(source)
        assert len(source.splitlines()) <= 350, module
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 80, f"{module}.{node.name}"
        lines = without_imports(tree, source)
        for i in range(len(lines) - block + 1):
            text = tuple(lines[i : i + block])
            assert text not in seen, f"{module} and {seen[text]}: {text[0]}"
            seen[text] = module
