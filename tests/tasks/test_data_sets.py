"""Real data behind the interface of a task: what the packages carry, and what is made of it."""

import gzip
import struct

import jax
import numpy as np
import pytest

from rnn_jax import tasks
from rnn_jax.tasks import _chorales


def whole(task, key=0):
    """One pass over a task whose batch is all of its data."""
    return map(np.asarray, task.batch(jax.random.key(key), 0))


def digits(**given):
    return tasks.sequential_digits(**{"split": "test", "batch_size": 359} | given)


def test_rows_pixels_and_permuted_pixels_are_the_same_images():
    from sklearn.datasets import load_digits

    data = load_digits()
    images, labels = data.images[4::5] / 16, data.target[4::5]
    rows, answers = whole(digits(order="rows"))
    assert rows.shape == (8, 359, 8)
    assert (answers[:-1] == -1).all()
    known = {
        image.astype(np.float32).tobytes(): label
        for image, label in zip(images, labels, strict=True)
    }
    for n in range(359):
        assert known[np.ascontiguousarray(rows[:, n]).tobytes()] == answers[-1, n]
    pixels, _ = whole(digits())
    np.testing.assert_array_equal(pixels.reshape(8, 8, 359), rows.transpose(0, 2, 1))
    permuted, _ = whole(digits(order="permuted"))
    order = [int(np.flatnonzero((pixels == row).all((1, 2)))[0]) for row in permuted]
    assert order != sorted(order)
    np.testing.assert_array_equal(np.sort(permuted, 0), np.sort(pixels, 0))
    longer, answers = whole(digits(T=70))
    np.testing.assert_array_equal(longer[:64], pixels)
    assert (longer[64:] == 0).all()
    assert (answers[-1] >= 0).all()


def test_the_parts_of_the_digits_share_no_image():
    train, _ = whole(tasks.sequential_digits(batch_size=1438))
    test, _ = whole(digits())
    images = lambda xs: {xs[:, n].tobytes() for n in range(xs.shape[1])}
    assert train.shape[1] + test.shape[1] == 1797
    assert not images(train) & images(test)


def idx(array):
    header = b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def mnist(tmp_path):
    """Files like those of MNIST, one of them gzipped."""
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (6, 28, 28)), draw.permutation(10)[:6]
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path, images, labels


def test_files_of_mnist_are_read(mnist):
    path, images, labels = mnist
    task = tasks.sequential_digits(path=path, split="test", batch_size=6)
    xs, answers = whole(task)
    assert xs.shape == (784, 6, 1)
    order = [labels.tolist().index(label) for label in answers[-1]]
    assert sorted(order) == list(range(6))
    np.testing.assert_allclose(xs[..., 0].T.reshape(6, 28, 28), images[order] / 255, rtol=1e-6)
    with pytest.raises(
        FileNotFoundError, match=r"^path: got .*train-images-idx3-ubyte or .*gz in it"
    ):
        tasks.sequential_digits(path=path)


@pytest.mark.parametrize("damage", ["cut", "no header", "no gzip", "cut gzip", "labels of others"])
def test_a_damaged_file_is_named(mnist, damage):
    path, images, labels = mnist
    plain, zipped = path / "t10k-images-idx3-ubyte", path / "t10k-labels-idx1-ubyte.gz"
    named = zipped if "gzip" in damage else path if damage == "labels of others" else plain
    if damage == "cut":
        plain.write_bytes(idx(images)[:-1])
    elif damage == "no header":
        plain.write_bytes(b"PK" + idx(images))
    elif damage == "no gzip":
        zipped.write_bytes(idx(labels))
    elif damage == "cut gzip":
        zipped.write_bytes(zipped.read_bytes()[:-10])
    else:
        zipped.write_bytes(gzip.compress(idx(labels[1:])))
    with pytest.raises(ValueError, match=r"^path: got .*; expected ") as error:
        tasks.sequential_digits(path=path, split="test", batch_size=1)
    assert str(named) in str(error.value)


@pytest.mark.parametrize(("split", "count"), [("train", 270), ("test", 370)])
def test_japanese_vowels(split, count):
    from aeon.datasets import load_japanese_vowels

    task = tasks.japanese_vowels(split=split, batch_size=count)
    xs, speakers = whole(task)
    mask = np.asarray(task.mask(xs, speakers))
    lengths = 1 + mask.argmax(0)
    assert mask.sum() == count
    assert (lengths.min(), lengths.max()) == (7, 26 if split == "train" else 29)
    theirs, names = load_japanese_vowels(split=split)
    pairs = zip(theirs, names, strict=True)
    known = {sequence.astype(np.float32).tobytes(): int(n) for sequence, n in pairs}
    for n, length in enumerate(lengths):
        sequence = np.ascontiguousarray(xs[:length, n].T)
        assert known[sequence.tobytes()] == speakers[length - 1, n] + 1
        assert (xs[length:, n] == 0).all()


@pytest.fixture(scope="module")
def few_chorales(tmp_path_factory):
    """A cache of the first ten chorales of the corpus."""
    import itertools

    path = tmp_path_factory.mktemp("cache") / "a" / "chorales.npz"
    with pytest.MonkeyPatch.context() as patch:
        read = _chorales._scores
        patch.setattr(_chorales, "_scores", lambda: itertools.islice(read(), 10))
        tasks.bach_chorales(cache=path, batch_size=1)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return path


def test_chorales_are_what_the_scores_say(few_chorales):
    """Against the chords that music21 finds at each quarter."""
    import music21

    rolls = _chorales._rolls(few_chorales)
    scores = (s for s in _chorales._scores() if len(s.parts) == 4)
    for roll, score in zip(rolls[:3], scores, strict=False):
        chords = list(score.chordify().flatten().notes)
        for t, row in enumerate(roll):
            sounding = [c for c in chords if c.offset <= t < c.offset + c.quarterLength]
            pitches = {p.midi for c in sounding for p in c.pitches}
            assert {21 + int(key) for key in np.flatnonzero(row)} == pitches
    assert isinstance(score, music21.stream.Score)


def test_a_chorale_goes_on_from_piece_to_piece(few_chorales):
    rolls = _chorales._rolls(few_chorales)
    task = tasks.bach_chorales(T=8, cache=few_chorales, split="test", batch_size=1)
    held_out = rolls[4::5]
    counts = []
    for step in range(sum(-(-(len(roll) - 1) // 8) for roll in held_out)):
        xs, targets = (np.asarray(a)[:, 0] for a in task.batch(jax.random.key(0), step))
        counted = ~np.isnan(targets).any(1)
        np.testing.assert_array_equal(xs[1:][counted[1:]], targets[:-1][counted[1:]])
        counts.append(counted.sum())
    assert sum(counts) == sum(len(roll) - 1 for roll in held_out)
    assert {tuple(np.unique(roll)) for roll in held_out} == {(0, 1)}


def test_a_damaged_cache_is_named(few_chorales, tmp_path):
    path = tmp_path / "chorales.npz"
    for data in (b"", b"no file of rolls", few_chorales.read_bytes()[:-100]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^cache: got .*chorales.npz.*; expected .*Delete it"):
            tasks.bach_chorales(cache=path)
