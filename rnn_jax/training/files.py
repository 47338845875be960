"""Paths as arguments, files written aside, errors that name them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rnn_jax.errors import invalid


def check_path(argument: str, path: Any) -> Path:
    """Return `path` as a Path. ValueError unless it is a path, or text that is not empty."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not isinstance(text, str) or not text:
        raise invalid(argument, path, "a path", "Pass text or a pathlib.Path.")
    return Path(text)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. OSError in our form where something else is there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        remedy = "Choose another path, or remove the file."
        got = f"{folder}, on whose path a file is"
        raise invalid("folder", got, "a folder", remedy, NotADirectoryError) from None


def write_aside(path: Path, content: bytes) -> None:
    """Write a file aside and rename it. OSError that names `path`, with nothing left behind."""
    # In the same folder, since a rename across file systems is a copy; named by the process, so
    # that two of them do not write into one file.
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path):
            aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the path in an OSError that does not, as those of writing do not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
