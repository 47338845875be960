"""What the author of a step called its values, read where JAX remembers a line of source.

A jaxpr has no variable names, but each equation knows the line that it was traced at. Where that
line is `i, f, o = split(...)`, its last equation has those names. Nothing but labels depends on
this: without the source, values go unnamed.
"""

from __future__ import annotations

import ast
import functools
import linecache
from pathlib import Path

import jax
import jaxlib

from rnn_jax.transforms.program import Equation, Place, Program

PACKAGE = Path(__file__).parents[1]
BUILDER_FILES = (
    *("_structured", "function", "_readout", "_stack", "_residual", "_layer_norm", "activations"),
    *("maker", "wrapping", "dropout_masks", "initial_state"),
)
BUILDERS = {PACKAGE / "cells" / f"{name}.py" for name in BUILDER_FILES}
NAMELESS = (ast.List, ast.Tuple, ast.Dict, ast.ListComp, ast.GeneratorExp, ast.Lambda)


def author_names(program: Program, tracer: str) -> dict[Place, str]:
    """Return `{place: name}` for the values of `program` that their author assigned to a variable.

    Args:
      program: traced by a function in the file `tracer`, beyond which nobody looks.
      tracer: a file name.
    """
    last: dict[object, tuple[Equation, tuple[str, ...]]] = {}
    for equation in program.equations:
        found = _assignment(equation, tracer)
        if found:
            site, targets = found
            last[site] = equation, targets
    names: dict[Place, str] = {}
    for equation, targets in last.values():
        if len(targets) == len(equation.writes):
            names |= dict(zip(equation.writes, targets, strict=True))
    return {place: name for place, name in names.items() if name != "_"}


def _assignment(equation: Equation, tracer: str) -> tuple[object, tuple[str, ...]] | None:
    """Return the call site and targets of the assignment whose value `equation` is a part of."""
    frames = getattr(equation.traceback, "frames", None) or []
    sites = [(frame.file_name, frame.function_name, frame.line_num) for frame in frames]
    for depth, (file, function, line) in enumerate(sites):
        if file == tracer:
            return None
        if function.split(".")[-1].startswith("<") or not _is_an_authors(file):
            continue
        targets = _targets(file, line)
        if targets is not None:
            return tuple(sites[depth:]), targets
    return None


@functools.cache
def _is_an_authors(file: str) -> bool:
    path = Path(file)
    if any(Path(str(package.__file__)).parent in path.parents for package in (jax, jaxlib)):
        return False
    ours = PACKAGE in path.parents
    return not ours or (PACKAGE / "cells" in path.parents and path not in BUILDERS)


def _targets(file: str, line: int) -> tuple[str, ...] | None:
    """Return what the statement at a line assigns to; None where it assigns nothing."""
    for first, last, targets in _assignments(file, len(linecache.getlines(file))):
        if first <= line <= last:
            return targets
    return None


@functools.lru_cache(maxsize=64)
def _assignments(file: str, _: int) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return first line, last line and targets of each assignment, none where not plain names."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target = node.targets[0]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            target = node.target
        else:
            continue
        names = target.elts if isinstance(target, ast.Tuple) else [target]
        words = [name.id for name in names if isinstance(name, ast.Name)]
        plain = len(words) == len(names) and not isinstance(node.value, NAMELESS)
        found.append((node.lineno, node.end_lineno or node.lineno, tuple(words) if plain else ()))
    return found
