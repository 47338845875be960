"""A checkpoint: pytrees that orbax writes into a folder, and a manifest to hold its files against.

```
40/
  state/         the arrays of one tree, by the names of its leaves, for orbax to read
  best/          those of another
  manifest.json  what is said of them, and the SHA-256 of every file, of what is said too
```
It is written aside and renamed: a kill leaves it complete or not there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rnn_jax.training.files import naming
from rnn_jax.training.leaves import DamagedError

MANIFEST = "manifest.json"
PARTIAL = ".*.partial"
"""Names of folders that are being written, or were when a run was killed."""


def write_folder(
    folder: Path, trees: Mapping[str, Mapping[str, np.ndarray]], about: Mapping[str, Any]
) -> None:
    """Write trees, `{name: {leaf: array}}`, and `about`, JSON, in place of what is there.

    Raises:
      OSError: it cannot be written; names the folder, in whose place all is as it was.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    try:
        with naming(folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            for name, arrays in trees.items():
                _write_tree(aside / name, arrays)
            files = {path.relative_to(aside).as_posix(): _sha256(path) for path in _files(aside)}
            said = {**about, "files": files}
            content = json.dumps({"sha256": _sha256_of(said), "about": said})
            (aside / MANIFEST).write_text(content)
            if folder.exists():  # Damaged, or it would have been gone on from.
                shutil.rmtree(folder)
            aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what was said of the trees, once every file is known to be as it was written.

    Raises:
      DamagedError: it is not there, or not all there; names the file.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        about = manifest["about"]
        if manifest["sha256"] != _sha256_of(about):
            raise ValueError("its checksum does not fit")
    except FileNotFoundError:
        raise DamagedError(f"no {MANIFEST} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{MANIFEST}: {_first_line(error)}") from None
    for name, digest in about["files"].items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise DamagedError(f"{name}: {error.strerror}") from None
        if found != digest:
            raise DamagedError(f"{name} is not as it was written")
    return about


def read_tree(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a tree by leaf, without those of size 0; DamagedError if unreadable."""
    try:
        with _checkpointer() as checkpointer:
            found = checkpointer.restore((folder / name).absolute())
    except Exception as error:  # whatever a library makes of a folder that is not its own
        raise DamagedError(f"{name}: {_first_line(error)}") from None
    return {leaf: np.asarray(array) for leaf, array in found.items()}


def _write_tree(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import orbax.checkpoint as ocp

    stored = {name: array for name, array in arrays.items() if array.size}
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(stored))
    except OSError:
        raise
    except Exception as error:
        # The writing library makes a ValueError of what the operating system answered.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise OSError(errno.EIO, _first_line(error)) from None
        raise OSError(int(code[1]), os.strerror(int(code[1]))) from None


def _checkpointer() -> Any:
    """Return orbax's, of this process alone: what it writes and reads is whole on the host."""
    # Imported where it is used: it takes as long as all of rnn_jax.
    import orbax.checkpoint as ocp

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(said: Any) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"
