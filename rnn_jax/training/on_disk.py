"""Arrays that are filled step by step in `.npy` files, by ordinary writes.

A file mapped into memory would be shorter to write, but where its disk is full the operating system
ends the process on the next assignment, without an exception; a write raises OSError.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.training.files import make_folder, naming

BYTES_AT_A_TIME = 2**20
"""Bytes of NaN that are held in memory while a file is made."""


class OnDisk:
    """File of one metric, `[steps, ...]`, NaN where nothing has been written."""

    def __init__(self, file: Path, steps: int, values: np.ndarray):
        """Open the file of a metric of the shape and dtype of `values [n, ...]`, or make it.

        Raises:
          ValueError: a file of another shape or dtype, of more steps, or damaged.
          OSError: it cannot be made.
        """
        self._file = file
        self._dtype = _kept_dtype(values.dtype)
        self._shape = (steps, *values.shape[1:])
        begun = self._steps_there() if file.exists() else 0
        if begun < steps:
            self._make(begun)
        self._offset = _read_header(file)[2]

    def write(self, step: int, values: np.ndarray) -> None:
        """Write the values `[n, ...]` of n steps, the first of them `step`.

        Raises:
          ValueError: values of another shape; integers that the file cannot hold exactly.
          OSError: they cannot be written; names the file.
        """
        if values.shape[1:] != self._shape[1:] or _kept_dtype(values.dtype) != self._dtype:
            expected = f"{self._dtype}[n, {', '.join(map(str, self._shape[1:]))}]"
            raise invalid("metrics", values, expected, "Keep the shape of the first step.")
        kept = np.ascontiguousarray(values, self._dtype)
        if values.dtype.kind in "iu" and not (kept.astype(values.dtype) == values).all():
            remedy = "Return it as a floating number."
            raise invalid("metrics", values, "integers of at most 53 bits", remedy)
        row = self._dtype.itemsize * int(np.prod(self._shape[1:]))
        with naming(self._file), open(self._file, "r+b") as file:
            file.seek(self._offset + step * row)
            file.write(kept.tobytes())

    def _steps_there(self) -> int:
        """Return the steps of the file that there is, once it is known to be of this metric."""
        try:
            shape, dtype, offset = _read_header(self._file)
            rows = int(np.prod(shape)) * dtype.itemsize
            whole = self._file.stat().st_size == offset + rows
        except ValueError as error:
            raise self._foreign(f"which is damaged ({error})") from None
        if not whole:
            raise self._foreign("which is damaged (its size is not that of its array)")
        if shape[1:] != self._shape[1:] or dtype != self._dtype or shape[0] > self._shape[0]:
            raise self._foreign(f"of another run, {dtype}{list(shape)}")
        return shape[0]

    def _foreign(self, what: str) -> Exception:
        """Return the error for a file that is not of this metric and run."""
        expected = f"{self._dtype}{list(self._shape)}"
        remedy = "Delete that folder, or choose another."
        return invalid("folder", f"{self._file}, {what}", expected, remedy)

    def _make(self, begun: int) -> None:
        """Write the whole file aside, the `begun` steps of the one before it included."""
        # In full from the start: a disk without room says so now, not in the middle of the run.
        make_folder(self._file.parent)
        before = (
            np.load(self._file, allow_pickle=False)
            if begun
            else np.zeros((0, *self._shape[1:]), self._dtype)
        )
        aside = self._file.with_name(f".{self._file.name}.{os.getpid()}.partial")
        missing = (self._shape[0] - begun) * int(np.prod(self._shape[1:]))
        nan = np.full(min(missing, BYTES_AT_A_TIME // self._dtype.itemsize), np.nan, self._dtype)
        try:
            with naming(self._file), open(aside, "wb") as file:
                header = {
                    "descr": np.lib.format.dtype_to_descr(self._dtype),
                    "fortran_order": False,
                    "shape": self._shape,
                }
                np.lib.format.write_array_header_1_0(file, header)
                file.write(before.tobytes())
                for begin in range(0, missing, max(len(nan), 1)):
                    file.write(nan[: missing - begin].tobytes())
            os.replace(aside, self._file)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()


def _read_header(file: Path) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return (shape, dtype, bytes before the numbers) of a file of version 1.0."""
    with open(file, "rb") as opened:
        np.lib.format.read_magic(opened)
        shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
        return shape, dtype, opened.tell()


def _kept_dtype(dtype: np.dtype) -> np.dtype:
    """Return the dtype in the file: one that NumPy reads, with a NaN."""
    if dtype.kind in "biu":  # Integers have no NaN, which stands where nothing was written.
        return np.dtype(np.float64)
    if dtype.kind == "V" and dtype.type is not np.void:  # bfloat16 and its like
        return np.dtype(np.float32)
    if dtype.kind in "fc":
        return dtype
    raise invalid("metrics", f"{dtype}", "numbers", "Leave it out.")
