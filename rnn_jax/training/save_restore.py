"""Pytrees of arrays in one file: trained networks, and the state of a run.

The file is an `.npz`, read by `numpy.load` without this library: one array for each leaf, named by
its path in the tree (`W`, `params/W`, `opt_state/0/mu/W`), and `manifest`, JSON in bytes, of the
dtypes and shapes. Each array carries a checksum, so that damage is found and not believed.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_flag, describe, invalid
from rnn_jax.training.files import check_path, make_folder, write_aside

Tree = TypeVar("Tree")
MANIFEST = "manifest"


class DamagedError(Exception):
    """Damage of a file; the message says in one line why it cannot be read."""


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
    content = packed(tree, {})
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "Choose another path, or pass overwrite=True to replace a file."
        raise invalid("path", f"{path}, which exists", "a new file", remedy, FileExistsError)
    make_folder(path.parent)
    write_aside(path, content)


def restore(path: str | Path, like: Tree) -> Tree:
    """Return what `save` wrote, or the newest state that `fit` kept in a folder, as a tree.

    Args:
      path: a file of `save`; the `checkpoint_dir` of `fit`, or one step's folder in it.
      like: a tree of the same structure, shapes and dtypes, whose values are not read:
        `cell.init(key, I)`, or `jax.eval_shape(lambda: cell.init(key, I))`. Where its arrays were
        put on devices (`jax.device_put`, a sharding), the restored ones lie there too.

    Raises:
      FileNotFoundError: nothing there.
      ValueError: a file that is damaged or of another kind; leaves of other names, shapes or dtypes
        than those of `like`, which are named.
    """
    path = check_path("path", path)
    if not path.exists():
        remedy = "Pass a path that save or fit was given."
        raise invalid("path", str(path), "a saved file", remedy, FileNotFoundError)
    damages = []
    for file in _newest_first(path):
        try:
            arrays, manifest = unpacked(file)
        except DamagedError as damage:
            damages.append(f"{file} ({damage})")
            continue
        differences = compare("leaf", manifest["leaves"], layout(like, "like"))
        if differences:
            remedy = "Pass a tree of the shapes that were saved, such as cell.init returns."
            got = f"a tree other than that in {file}: {'; '.join(differences)}"
            raise invalid("like", got, "the same leaves", remedy)
        return placed(arrays, like)
    got = "; ".join(damages) or f"{path}, a folder without checkpoints"
    raise invalid("path", got, "a file that can be read", "Take another copy of it.") from None


def _newest_first(path: Path) -> list[Path]:
    """Return the file itself, or those of a folder of checkpoints."""
    if not path.is_dir():
        return [path]
    if (path / STATE_FILE).exists():
        return [path / STATE_FILE]
    steps = sorted((int(p.name) for p in path.iterdir() if p.name.isdigit()), reverse=True)
    return [path / str(step) / STATE_FILE for step in steps]


STATE_FILE = "state.npz"
"""The file in the folder of each checkpoint."""


def named_leaves(tree: Any) -> dict[str, Any]:
    """Return the leaves by their path, `params/W`; a tree that is one leaf is named `value`.

    Raises:
      ValueError: two leaves of one name, as of {"a": {"b": 1}, "a/b": 2}.
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        if name in named:
            raise invalid("tree", f"two leaves {name}", "a name for each", "Rename one of them.")
        named[name] = leaf
    return named


def layout(tree: Any, argument: str = "tree") -> dict[str, str]:
    """Return the dtype and shape of each leaf, `float32[3, 4]`, by name."""
    return {
        name: f"{_dtype_name(leaf)}{list(np.shape(leaf))}"
        for name, leaf in _checked(tree, argument)
    }


def compare(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what differs, `what name: before -> now`, four of them at most and a count."""
    absent = "none"
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    names.sort(key=lambda name: name in before and name in now)  # what one has alone comes first
    shown = [f"{what} {n}: {before.get(n, absent)} -> {now.get(n, absent)}" for n in names[:4]]
    return shown + ([f"{len(names) - 4} more"] if len(names) > 4 else [])


def packed(tree: Any, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a file of `tree`, with `about`, JSON, in its manifest."""
    manifest = {"leaves": layout(tree), **about}
    arrays = {name: _plain(leaf) for name, leaf in _checked(tree)}
    text = np.frombuffer(json.dumps(manifest).encode(), np.uint8)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # Stored as it is: weights hardly compress.
        for name, array in {MANIFEST: text, **{f"leaf/{n}": a for n, a in arrays.items()}}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return file.getvalue()


def unpacked(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays by the names of their leaves, as they were stored, and the manifest.

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
        manifest = json.loads(arrays.pop(MANIFEST).tobytes())
        arrays = {name.removeprefix("leaf/"): array for name, array in arrays.items()}
        if arrays.keys() != manifest["leaves"].keys():
            raise ValueError("leaves are missing")
    except Exception as error:  # whatever a library makes of damaged bytes
        lines = str(error).splitlines() or [""]
        raise DamagedError(f"{type(error).__name__}: {lines[0][:120]}") from None
    return arrays, manifest


def placed(arrays: Mapping[str, np.ndarray], like: Tree) -> Tree:
    """Return the stored arrays as a tree like `like`: its types of leaves, and its devices.

    An array that JAX may move (one that is not committed to devices) stays free to be moved.
    """
    leaves = [_restored(arrays[name], leaf) for name, leaf in named_leaves(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _checked(tree: Any, argument: str = "tree") -> list[tuple[str, Any]]:
    """Return the named leaves, all of them arrays or numbers."""
    named = [*named_leaves(tree).items()]
    for name, leaf in named:
        is_array = hasattr(leaf, "dtype") and hasattr(leaf, "shape")
        if not is_array and not isinstance(leaf, bool | int | float | complex):
            got = f"a leaf {name}, {describe(leaf)}"
            raise invalid(argument, got, "arrays and numbers", "Leave functions and text out.")
        if is_array and np.dtype(object) == leaf.dtype:
            raise invalid(argument, f"a leaf {name} of objects", "arrays of numbers", "Convert it.")
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _dtype_name(leaf: Any) -> str:
    return str(leaf.dtype) if hasattr(leaf, "dtype") else type(leaf).__name__


def _plain(leaf: Any) -> np.ndarray:
    """Return the leaf as NumPy stores it; dtypes unknown to NumPy (bfloat16) as bytes."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if array.dtype.isbuiltin == 1:
        return array
    return np.frombuffer(array.tobytes(), np.uint8)


def _restored(stored: np.ndarray, like: Any) -> Any:
    """Return a stored array as a leaf of the type of `like`, and where that one lies."""
    if not hasattr(like, "dtype"):
        return type(like)(stored.item())
    if _is_key(like):
        sharding = like.sharding if getattr(like, "committed", False) else None
        key = jax.random.wrap_key_data(jnp.asarray(stored), impl=_impl(like.dtype))
        return jax.device_put(key, sharding)
    dtype = np.dtype(like.dtype)
    array = stored if dtype.isbuiltin == 1 else np.frombuffer(stored.tobytes(), dtype)
    array = array.reshape(like.shape)
    if isinstance(like, np.generic):
        return array[()]
    if isinstance(like, np.ndarray):
        return array if array.flags.writeable else array.copy()
    # A committed array stays on its devices, and a program that runs on others would refuse it.
    sharding = getattr(like, "sharding", None)
    return jax.device_put(array, sharding if getattr(like, "committed", True) else None)


def _impl(dtype: Any) -> str:
    """Return the name of the generator of a dtype of keys."""
    return dtype._impl.name
