"""Rows of bytes in a file, to which a run appends and of which each checkpoint has its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_jax.training.files import naming
from rnn_jax.training.leaves import DamagedError


class Rows:
    """The rows of one file, of which those up to a checkpoint count."""

    def __init__(self, file: Path):
        self._file = file
        self._unwritten = b""
        self.restart(b"")

    @property
    def extent(self) -> dict[str, Any]:
        """Return which rows there are, for a checkpoint to keep: their bytes, and a checksum."""
        return {"bytes": self._size, "sha256": self._digest.hexdigest()}

    def append(self, rows: bytes) -> None:
        """Write rows behind those that are there. OSError if they cannot be; names the file."""
        self._unwritten += rows  # and what a call before could not write
        rows = self._unwritten
        if not rows:
            return
        # To a place, not in mode "a": a write that a full disk cut short is written over.
        existing = "r+b" if self._file.exists() else "w+b"
        with naming(self._file), open(self._file, existing) as opened:
            opened.seek(self._size)
            opened.write(rows)
        self._digest.update(rows)
        self._size += len(rows)
        self._unwritten = b""

    def read(self, extent: Mapping[str, Any]) -> bytes:
        """Return the rows of a checkpoint. DamagedError if they are not what was written."""
        rows = b""
        if extent["bytes"]:
            try:
                with open(self._file, "rb") as file:
                    rows = file.read(extent["bytes"])
            except OSError as error:
                raise DamagedError(f"{error.strerror}: {self._file}") from None
        if hashlib.sha256(rows).hexdigest() != extent["sha256"]:
            raise DamagedError(f"its rows in {self._file} are damaged")
        return rows

    def cut(self, rows: bytes) -> None:
        """Go on after these rows; what a killed run wrote beyond them is gone."""
        self.restart(rows)
        if self._file.exists():
            os.truncate(self._file, len(rows))

    def restart(self, rows: bytes) -> None:
        """Count these rows as written."""
        self._digest, self._size = hashlib.sha256(rows), len(rows)
