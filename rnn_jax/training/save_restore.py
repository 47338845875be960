"""Pytrees of arrays in one file, such as a trained network; what `fit` kept, read back.

The file is an `.npz`, read by `numpy.load` without this library: one array for each leaf, named by
its path in the tree (`W`, `params/W`, `opt_state/0/mu/W`), and `manifest`, JSON in bytes, of the
dtypes and shapes. Each array carries a checksum, so that damage is found and not believed.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rnn_jax.errors import check_flag, invalid
from rnn_jax.training.files import check_path, make_folder, write_aside
from rnn_jax.training.leaves import DamagedError, arrays_of, compare, layout, placed
from rnn_jax.training.state_folder import MANIFEST as FOLDER_MANIFEST
from rnn_jax.training.state_folder import read_manifest, read_tree

Tree = TypeVar("Tree")
MANIFEST = "manifest"


def save(path: str | Path, tree: Any, *, overwrite: bool = False) -> None:
    """Write a pytree of arrays, such as `state.params` or a whole TrainState, to one file.

    It is written aside and renamed: whatever happens, `path` is what it was before or complete.

    Args:
      path: the file; an ending such as `.npz` is not added. Its folder is made.
      tree: leaves are arrays of any dtype, random keys among them, or Python numbers.
      overwrite: replace a file that is there.

    Raises:
      ValueError: a leaf that is no array and no number; a path that is none.
      FileExistsError: there is a file, and `overwrite` is not set.
      OSError: it cannot be written, as on a full disk; names the path.
    """
    path = check_path("path", path)
    check_flag("overwrite", overwrite)
    content = _packed(tree)
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "Choose another path, or pass overwrite=True to replace a file."
        raise invalid("path", f"{path}, which exists", "a new file", remedy, FileExistsError)
    make_folder(path.parent)
    write_aside(path, content)


def restore(path: str | Path, like: Tree, *, best: bool = False) -> Tree:
    """Return what `save` wrote, or the newest state that `fit` kept in a folder, as a tree.

    Args:
      path: a file of `save`; the `checkpoint_dir` of `fit`, or one step's folder in it.
      like: a tree of the same structure, shapes and dtypes, whose values are not read:
        `cell.init(key, I)`, or `jax.eval_shape(lambda: cell.init(key, I))`. Where its arrays were
        put on devices (`jax.device_put`, a sharding), the restored ones lie there too.
      best: return the state at the best evaluation instead of the newest one.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: a file that is damaged or of another kind; leaves of other names, shapes or dtypes
        than those of `like`, which are named; the best state where `fit` evaluated nothing.
    """
    path, name = check_path("path", path), "best" if check_flag("best", best) else "state"
    if not path.exists():
        remedy = "Pass a path that save or fit was given."
        raise invalid("path", str(path), "a saved file", remedy, FileNotFoundError)
    damages = []
    for place in _newest_first(path):
        try:
            arrays, leaves = _read(place, name)
        except DamagedError as damage:
            damages.append(f"{place} ({damage})")
            continue
        differences = compare("leaf", leaves, layout(like, "like"))
        if differences:
            remedy = "Pass a tree of the shapes that were saved, such as cell.init returns."
            got = f"a tree other than that in {place}: {'; '.join(differences)}"
            raise invalid("like", got, "the same leaves", remedy)
        return placed(arrays, like)
    got = "; ".join(damages) or f"{path}, a folder without checkpoints"
    raise invalid("path", got, "a file that can be read", "Take another copy of it.") from None


def _newest_first(path: Path) -> list[Path]:
    """Return the file or the checkpoint itself, or the checkpoints of a run."""
    if not path.is_dir() or (path / FOLDER_MANIFEST).exists():
        return [path]
    steps = sorted((int(p.name) for p in path.iterdir() if p.name.isdigit()), reverse=True)
    return [path / str(step) for step in steps]


def _read(place: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a tree in a checkpoint or a file, and its layout.

    Raises:
      DamagedError: it cannot be read.
      ValueError: the best state where there is none.
    """
    best_of_none = invalid("best", f"True for {place}", "a run with evaluations", "Leave it out.")
    if not place.is_dir():
        if name == "best":
            raise best_of_none
        return _unpacked(place)
    about = read_manifest(place)
    if name == "best" and not (place / name).is_dir():
        raise best_of_none
    return read_tree(place, name), about["fingerprint"]["state"]


def _packed(tree: Any) -> bytes:
    """Return the bytes of a file of `tree`."""
    text = np.frombuffer(json.dumps({"leaves": layout(tree)}).encode(), np.uint8)
    leaves = {f"leaf/{name}": _plain(array) for name, array in arrays_of(tree).items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # Stored as it is: weights hardly compress.
        for name, array in {MANIFEST: text, **leaves}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def _plain(array: np.ndarray) -> np.ndarray:
    """Return the array as `.npy` holds it; dtypes unknown to NumPy (bfloat16) as bytes."""
    if array.dtype.isbuiltin == 1:
        return array
    return np.frombuffer(array.tobytes(), np.uint8)


def _unpacked(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays by the names of their leaves, as they were stored, and their layout.

    Raises:
      DamagedError: it is not there, or not as it was written.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
            # Read whole, each member is held against its checksum.
            members = {name: archive.read(name) for name in archive.namelist()}
        arrays = {
            name.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(content), allow_pickle=False
            )
            for name, content in members.items()
        }
        leaves = json.loads(arrays.pop(MANIFEST).tobytes())["leaves"]
        arrays = {name.removeprefix("leaf/"): array for name, array in arrays.items()}
        if arrays.keys() != leaves.keys():
            raise ValueError("leaves are missing")
    except Exception as error:  # whatever a library makes of damaged bytes
        lines = str(error).splitlines() or [""]
        raise DamagedError(f"{type(error).__name__}: {lines[0][:120]}") from None
    return arrays, leaves
