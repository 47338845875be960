"""Text: nothing lost, nothing leaked, batches a pure function."""

import hashlib
from pydoc_data.topics import topics

import jax
import numpy as np
import pytest

from rnn_jax.tasks import load_text, next_character, streams, unigram_entropy


def decode(text, symbols):
    return "".join(text.vocabulary[s] for s in np.asarray(symbols).ravel())


def test_the_default_text_is_pythons_own_reference():
    text = load_text()
    assert len(text) > 400_000
    whole = decode(text, np.concatenate([text.train, text.held_out]))
    assert all(entry in whole for entry in topics.values())
    assert text.sha256 == hashlib.sha256(whole.encode()).hexdigest()
    assert len(text.held_out) == pytest.approx(0.1 * len(text), abs=1)


def test_any_utf8_file(tmp_path):
    file = tmp_path / "text.txt"
    characters = "Größe λ_W ≤ 1, 文字。\r\n" * 50
    file.write_bytes(characters.encode())
    text = load_text(file, held_out_fraction=0.2)
    assert decode(text, np.concatenate([text.train, text.held_out])) == characters
    assert text.vocabulary == "".join(sorted(set(characters)))


def test_windows_are_the_text_and_the_next_character():
    text = load_text()
    task = next_character(text, T=30, batch_size=5)
    key = jax.random.key(0)
    xs, targets = jax.jit(task.batch)(key, 3)
    assert xs.shape == (30, 5, len(text.vocabulary)) == (30, 5, task.input_size)
    assert targets.shape == (30, 5)
    train = decode(text, text.train)
    for b in range(5):
        window = decode(text, xs[:, b].argmax(-1)) + decode(text, targets[-1:, b])
        assert window in train
        np.testing.assert_array_equal(targets[:-1, b], xs[1:, b].argmax(-1))
    again, other = task.batch(key, 3)[1], task.batch(key, 4)[1]
    np.testing.assert_array_equal(targets, again)
    assert (targets != other).any()


def test_streams_read_everything_once():
    symbols = np.arange(101)
    inputs, targets = streams(symbols, 4)
    assert inputs.shape == (25, 4)
    np.testing.assert_array_equal(np.sort(np.asarray(inputs).ravel()), np.arange(100))
    np.testing.assert_array_equal(targets, inputs + 1)


def test_unigram_entropy():
    assert unigram_entropy(np.array([0, 1, 2, 3] * 5)) == pytest.approx(2)
    assert unigram_entropy(np.array([5] * 9)) == 0
    p = np.array([0.5, 0.25, 0.25])
    assert unigram_entropy(np.repeat([0, 1, 7], [4, 2, 2])) == pytest.approx(-(p @ np.log2(p)))
