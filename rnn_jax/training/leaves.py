"""The leaves of a pytree by name: what they are, what differs, as files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import describe, invalid
from rnn_jax.training.processes import to_host

Tree = TypeVar("Tree")


class DamagedError(Exception):
    """Damage of a file; the message says in one line why it cannot be read."""


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


def arrays_of(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves by name, on the host; a random key as its data."""
    plain = lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf
    return {name: to_host(plain(leaf)) for name, leaf in _checked(tree)}


def placed(arrays: Mapping[str, np.ndarray], like: Tree) -> Tree:
    """Return the stored arrays as a tree like `like`: its types of leaves, and its devices.

    An array that JAX may move (one that is not committed to devices) stays free to be moved.
    """
    nothing = np.zeros(0)  # what stands for a leaf of size 0, which checkpoints leave out
    named = named_leaves(like).items()
    leaves = [_restored(arrays.get(name, nothing), leaf) for name, leaf in named]
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


def _restored(stored: np.ndarray, like: Any) -> Any:
    """Return a stored array as a leaf of the type of `like`, and where that one lies."""
    if not hasattr(like, "dtype"):
        return type(like)(stored.item())
    if _is_key(like):
        sharding = like.sharding if getattr(like, "committed", False) else None
        if stored.size == 0:
            stored = np.zeros(jax.eval_shape(jax.random.key_data, like).shape, np.uint32)
        key = jax.random.wrap_key_data(jnp.asarray(stored), impl=_impl(like.dtype))
        return jax.device_put(key, sharding)
    dtype = np.dtype(like.dtype)
    if stored.size == 0:
        array = np.zeros(like.shape, dtype)
    else:
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
