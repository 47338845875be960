"""Handwritten digits read one part after another: row by row, pixel by pixel, or permuted."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_dtype, check_integer, choose, invalid, optional
from rnn_jax.tasks.arrays import from_arrays
from rnn_jax.tasks.examples import of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import constant

INSTALL = "pip install scikit-learn, or the extra [data]"
ORDERS = {"rows": False, "pixels": True, "permuted": True}
"""Whether an image is read pixel by pixel."""
PERMUTATION_SEED = 92916
"""Of the one permutation of the pixels that all images share."""
HELD_OUT = 5
"""Every fifth image of scikit-learn's is held out, about 360 of 1,797."""
MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@of_any_length
def sequential_digits(
    *,
    T: int | None = None,
    order: str = "pixels",
    split: str = "train",
    path: str | Path | None = None,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the task of naming a handwritten digit that is read part by part.

    Images of n × n grey values in [0, 1] are read in n steps of n inputs ("rows"), or in n² steps
    of one ("pixels", from the upper left corner; "permuted", in a random order that is the same for
    all images). The last step counts.

    Chance, of an answer that reads nothing: the digits alike, ln 10.

    Args:
      T: number of steps; those of an image by default. Where T is larger, zeros stand between the
        image and the answer.
      order: "rows", "pixels" or "permuted".
      split: "train" or "test".
      path: folder with the four files of MNIST, of 28 × 28 pixels, gzipped or not; without one, the
        8 × 8 digits that scikit-learn carries, every fifth of which is the test's.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ImportError: no scikit-learn, and no path.
      FileNotFoundError: a file of MNIST that is not in the folder.
      ValueError: an order or split of another name; fewer steps than an image has; a batch of more
        images than there are; a file that is damaged; a dtype that is none of floats.

    Reference: Le, Jaitly and Hinton 2015 for MNIST pixel by pixel and permuted; Alpaydin and Kaynak
    1998 for the 8 × 8 digits.

    Departure: the permutation is our own, since none was published.
    """
    by_pixel = choose("order", order, ORDERS)
    choose("split", split, MNIST_FILES)
    if not (path is None or isinstance(path, str | os.PathLike)):
        raise invalid("path", path, "a path, or None", "Pass the folder of MNIST's files.")
    images, labels = _digits(split) if path is None else _mnist(Path(path), split)
    N, side = len(images), images.shape[-1]
    xs = images.reshape(N, -1, 1) if by_pixel else images
    if order == "permuted":
        xs = xs[:, np.random.default_rng(PERMUTATION_SEED).permutation(side * side)]
    own = xs.shape[1]
    T = own if T is None else check_integer("T", T, own, None, f"An image has {own} steps.")
    xs = np.concatenate([xs, np.zeros((N, T - own, xs.shape[2]), xs.dtype)], 1)
    task = from_arrays(
        jnp.asarray(xs.transpose(1, 0, 2), check_dtype("dtype", dtype)),
        labels,
        batch_size=batch_size,
        output_size=10,
        name=f"sequential_digits_{order}",
        outputs=tuple("0123456789"),
    )
    return task._replace(chance=constant([0.0] * 10), chance_loss=math.log(10))


def _digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's images `[N, 8, 8]` in [0, 1], and labels `[N]`."""
    data = optional("sklearn.datasets", INSTALL).load_digits()
    held_out = np.arange(len(data.target)) % HELD_OUT == HELD_OUT - 1
    chosen = held_out if split == "test" else ~held_out
    return (data.images[chosen] / 16).astype(np.float32), data.target[chosen].astype(np.int32)


def _mnist(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return MNIST's images `[N, 28, 28]` in [0, 1], and labels `[N]`."""
    images, labels = (_idx(folder, name) for name in MNIST_FILES[split])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        got = f"images {list(images.shape)} and labels {list(labels.shape)} in {folder}"
        raise invalid("path", got, "as many labels as images", "Fetch the files again.")
    return images.astype(np.float32) / 255, labels.astype(np.int32)


def _idx(folder: Path, name: str) -> np.ndarray:
    """Return the array of an IDX file of bytes, gzipped or not."""
    plain, zipped = folder / name, folder / f"{name}.gz"
    if not zipped.exists() and not plain.exists():
        expected = f"{name} or {name}.gz in it"
        remedy = "Pass the folder of MNIST's files."
        raise invalid("path", str(folder), expected, remedy, FileNotFoundError)
    damaged = lambda path, got: invalid(
        "path", f"{path}, {got}", "an IDX file of bytes", "Fetch the file again."
    )
    path = zipped if zipped.exists() else plain
    try:
        data = gzip.decompress(path.read_bytes()) if path == zipped else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise damaged(path, str(error)) from error
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise damaged(path, f"which begins {data[:4]!r}")
    sizes = struct.unpack_from(f">{data[3]}I", data, 4) if len(data) >= 4 + 4 * data[3] else ()
    body = data[4 + 4 * data[3] :]
    if not sizes or len(body) != math.prod(sizes):
        raise damaged(path, f"{len(body)} bytes for {list(sizes)}")
    return np.frombuffer(body, np.uint8).reshape(sizes)
