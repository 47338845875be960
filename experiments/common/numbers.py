"""The numbers of a run, read back from an archive that may be damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rnn_jax.errors import describe, invalid

REMEDY = "Run the experiment again."


def describe_arrays(result: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return name -> dtype and shape, as `float32[2, 9]`."""
    return {name: describe(np.asarray(values)) for name, values in result.items()}


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
