"""Pytrees in a file: saved and restored bit for bit, or refused by name."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells
from rnn_jax.training import restore, save
from tests.training.counting import FullDisk


def tree():
    return {
        "params": cells.readout(cells.lstm(3), 2).init(jax.random.key(0), 2),
        "bfloat": jnp.asarray([1.5, jnp.nan], jnp.bfloat16),
        "key": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "numbers": (3, True, 0.1),
        "numpy": np.arange(4, dtype=np.int8),
        "empty": jnp.zeros((0, 3)),
        "complex": jnp.asarray(1 + 2j),
    }


def as_plain(tree):
    is_key = lambda leaf: jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key)
    plain = lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)
    return jax.tree.map(plain, tree)


def test_saved_trees_come_back_bit_for_bit(tmp_path):
    file = tmp_path / "deep" / "net.npz"
    save(file, tree())
    back = restore(file, tree())
    chex.assert_trees_all_equal(as_plain(back), as_plain(tree()))
    assert [type(n) for n in back["numbers"]] == [int, bool, float]
    assert type(back["numpy"]) is np.ndarray
    assert jax.random.key_impl(back["key"]) == "rbg"
    with np.load(file) as plain:  # without this library
        np.testing.assert_array_equal(plain["leaf/params/V"], tree()["params"].V)

    with pytest.raises(FileExistsError, match="overwrite=True"):
        save(file, {"W": jnp.ones(3)})
    save(file, {"W": jnp.ones(3)}, overwrite=True)
    shapes = jax.eval_shape(lambda: {"W": jnp.ones(3)})
    np.testing.assert_array_equal(restore(file, shapes)["W"], np.ones(3))
    assert [path.name for path in file.parent.iterdir()] == ["net.npz"]

    with FullDisk(100), pytest.raises(OSError, match=r"net\.npz"):
        save(file, {"W": jnp.zeros(99)}, overwrite=True)
    np.testing.assert_array_equal(restore(file, shapes)["W"], np.ones(3))


def test_what_cannot_be_saved_or_restored_is_named(tmp_path):
    file = tmp_path / "net.npz"
    save(file, {"W": jnp.ones(3)})
    (tmp_path / "text").write_text("not a network")
    for error, call, named in (
        (ValueError, lambda: restore(file, {"W": jnp.ones(4)}), r"like.*W: float64\[3\] -> fl"),
        (ValueError, lambda: restore(file, {"U": jnp.ones(3)}), r"like.*W: float64\[3\] -> none"),
        (ValueError, lambda: restore(file, {"W": jnp.ones(3, jnp.float32)}), "like.*float32"),
        (ValueError, lambda: restore(tmp_path / "text", {}), "path: got .*text"),
        (ValueError, lambda: restore(tmp_path, {}), "path: got .*without checkpoints"),
        (FileNotFoundError, lambda: restore(tmp_path / "no", {}), "path: got .*no"),
        (ValueError, lambda: save(3, {}), "path"),
        (ValueError, lambda: save("", {}), "path"),
        (ValueError, lambda: save(tmp_path / "f", {"f": len}), "tree: got a leaf f"),
        (ValueError, lambda: save(tmp_path / "f", {"t": "text"}), "tree: got a leaf t"),
        (ValueError, lambda: save(tmp_path / "f", {"a": {"b": 1}, "a/b": 2}), "tree: got two"),
        (ValueError, lambda: save(tmp_path / "f", {}, overwrite="no"), "overwrite"),
        (FileExistsError, lambda: save(tmp_path, {}, overwrite=True), "path"),
    ):
        with pytest.raises(error, match=rf"^{named}"):
            call()
