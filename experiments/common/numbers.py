"""The numbers of a run: nested in memory, flat on disk, where they may have been damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.errors import describe, invalid

Result = Mapping[str, Any]
"""Arrays by name, and groups of them by theirs: `result["LSTM"]["clipped"]["loss"]`."""
REMEDY = "Run the experiment again."


def flatten(result: Result, group: str = "") -> dict[str, np.ndarray]:
    """Return every array by its path: `LSTM/clipped/loss`.

    What a group holds under the name "" has the path of the group itself: `{"sizes": {"": N,
    "entropy": H}}` is `sizes` and `sizes/entropy`.
    """
    flat: dict[str, np.ndarray] = {}
    for name, value in result.items():
        path = "/".join(part for part in (group, name) if part)
        flat |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def nest(numbers: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the result that `flatten` makes these of."""
    groups = {path[:i] for path in numbers for i, letter in enumerate(path) if letter == "/"}
    result: dict[str, Any] = {}
    for path, values in numbers.items():
        *parents, name = [*path.split("/"), ""] if path in groups else path.split("/")
        group = result
        for parent in parents:
            group = group.setdefault(parent, {})
        group[name] = values
    return result


def describe_arrays(numbers: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return name -> dtype and shape, as `float32[2, 9]`."""
    return {name: describe(np.asarray(values)) for name, values in numbers.items()}


def read_numbers(file: Path, arrays: Mapping[str, str] | None) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz archive by name.

    Args:
      file: the archive.
      arrays: `describe_arrays` of what was written, if it is known.

    Raises:
      ValueError: an archive that is damaged, something else, or of other arrays; names what.
    """
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise TypeError("a single array")
            numbers = dict(archive)
    # Of damaged bytes, zipfile, zlib and numpy raise errors of a dozen kinds.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise invalid(
            "run folder", f"a broken {file} ({reason})", "an .npz archive", REMEDY
        ) from error
    found = describe_arrays(numbers)
    written = found if arrays is None else arrays
    for name in sorted({*found, *written}):
        there, expected = found.get(name, "nothing"), written.get(name, "nothing")
        if there != expected:
            got = f"{file} with {there} for {name!r}"
            raise invalid("run folder", got, f"{expected} there", REMEDY)
    return numbers
