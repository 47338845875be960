"""Examples in documents and docstrings, with the lines that they stand on."""

import ast
import re
import textwrap
from pathlib import Path
from typing import NamedTuple


class Example(NamedTuple):
    """A block of Python.

    Attributes:
      path: its file.
      line: the line of the file on which it begins.
      code: its text.
      of: the name of what it is an example of, "" for a document or a module.
    """

    path: Path
    line: int
    code: str
    of: str = ""

    def run(self, namespace: dict) -> None:
        """Run it; a traceback names its file and its line there."""
        exec(compile("\n" * (self.line - 1) + self.code, str(self.path), "exec"), namespace)


def _fenced(path: Path, text: str, first_line: int, fence: str, of: str = "") -> list[Example]:
    blocks = re.finditer(rf"^ *```{fence}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    lines_before = lambda block: text.count("\n", 0, block.start(1))
    return [
        Example(path, first_line + lines_before(block), textwrap.dedent(block[1]), of)
        for block in blocks
    ]


def document_examples(path: Path) -> list[Example]:
    """Return the ```python blocks of a document."""
    return _fenced(path, path.read_text(), 1, "python")


def docstring_examples(path: Path) -> list[Example]:
    """Return the fenced blocks of a file's docstrings, and their lines after `>>>`."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        text = ast.get_docstring(node, clean=False)
        if text is None:
            continue
        line, of = node.body[0].lineno, getattr(node, "name", "")
        found += _fenced(path, text, line, "(?:python)?", of)
        typed = re.finditer(r"^ *>>> .*\n(?: *(?:>>>|\.\.\.).*\n?)*", text, re.MULTILINE)
        for block in typed:
            code = re.sub(r"^ *(?:>>>|\.\.\.) ?", "", block[0], flags=re.MULTILINE)
            found.append(Example(path, line + text.count("\n", 0, block.start()), code, of))
    return found
