"""Text and sentences: nothing lost, nothing leaked, batches a pure function."""

import hashlib
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.tasks import (
    consecutive_characters,
    load_text,
    next_character,
    streams,
    unigram_entropy,
    year_sentences,
)


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


def test_consecutive_batches_are_the_text_in_order(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(0x4E00 + i) for i in range(300)))  # every character once
    text = load_text(file, held_out_fraction=0.1)
    task = consecutive_characters(text, T=7, batch_size=4)
    assert task.windows == 9  # (270 - 1) // 4 = 67 steps, 4 of them spare
    key, batch = jax.random.key(0), jax.jit(task.batch)
    offsets = []
    for one_pass in range(6):
        steps = range(9 * one_pass, 9 * one_pass + 9)
        xs, targets, starts = map(np.stack, zip(*(batch(key, s) for s in steps), strict=True))
        assert xs.shape == (9, 7, 4, task.input_size)
        np.testing.assert_array_equal(starts, np.arange(9)[:, None] == np.zeros(4))
        read = xs.argmax(-1).reshape(63, 4)
        np.testing.assert_array_equal(targets.reshape(63, 4), read + 1)
        offsets.append(read[0, 0])
        np.testing.assert_array_equal(read, read[0, 0] + np.arange(63)[:, None] + 67 * np.arange(4))
    assert set(offsets) <= set(range(5))
    assert len(set(offsets)) > 1
    np.testing.assert_array_equal(batch(key, 40)[1], task.batch(key, 40)[1])


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


@pytest.fixture(scope="module")
def templates():
    return year_sentences()


@pytest.fixture(scope="module")
def sentences(templates):
    keys = jax.random.split(jax.random.key(0), 2000)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(templates.draw))(keys))


MONTHS = "January February March April May June July August September October November December"


def numbers_in(words):
    """What a reader takes for the year, and the other numbers; `words` as a list."""
    dated = {"in", "of", *MONTHS.split()}
    places = [i for i, word in enumerate(words) if word.isdigit()]
    years = [i for i in places if words[i - 1] in dated]
    return years, [i for i in places if i not in years]


def test_the_year_stands_where_the_sentence_says(templates, sentences):
    others_seen = 0
    for symbols, length, year, position in zip(*sentences, strict=True):
        words = templates.text(symbols).split()
        assert len(words) == length
        assert (symbols[:length] > 0).all()
        assert (symbols[length:] == 0).all()
        (found,), others = numbers_in(words)
        assert found == position
        assert words[found] == str(1980 + year) == templates.vocabulary[symbols[position]]
        assert all(words[i] != words[found] for i in others)
        others_seen += bool(others)
    assert 0.3 < others_seen / len(sentences.year) < 0.8
    assert sentences.symbols.dtype == sentences.year.dtype == np.int32


def test_years_and_positions_are_uniform(templates, sentences):
    for values, among in ((sentences.year, np.arange(40)), (sentences.position, np.arange(1, 20))):
        found, counts = np.unique(values, return_counts=True)
        np.testing.assert_array_equal(found, among)
        expected = len(values) / len(among)
        assert (np.abs(counts - expected) < 5 * expected**0.5).all()
    np.testing.assert_array_equal(templates.positions, np.arange(1, 20))
    assert sentences.length.min() == 4
    assert sentences.length.max() == 20


def test_a_sentence_is_a_function_of_its_key(templates, sentences):
    keys = jax.random.split(jax.random.key(0), 2000)
    for i in (0, 17):
        again = templates.draw(keys[i])
        for value, batched in zip(again, sentences, strict=True):
            np.testing.assert_array_equal(value, batched[i])
    assert len(np.unique(sentences.symbols, axis=0)) > 1990


def test_the_year_is_put_where_asked(templates):
    keys = jax.random.split(jax.random.key(1), (19, 5))
    draw = jax.vmap(jax.vmap(templates.draw, (0, None)))
    drawn = draw(keys, jnp.asarray(templates.positions))
    np.testing.assert_array_equal(drawn.position, np.repeat(np.arange(1, 20)[:, None], 5, 1))
    with pytest.raises(ValueError, match="position: got int 0; expected one of"):
        templates.draw(keys[0, 0], 0)


def test_no_number_at_held_out_positions(templates):
    held_out = [7, 8, 9, 10]
    kept = templates.no_number_in(held_out)
    keys = jax.random.split(jax.random.key(2), 500)
    symbols = np.asarray(jax.jit(jax.vmap(kept.draw))(keys).symbols)
    is_number = (symbols >= 1) & (symbols <= 40)
    assert not is_number[:, held_out].any()
    np.testing.assert_array_equal(np.flatnonzero(is_number.any(0)), [*range(1, 7), *range(11, 20)])
    np.testing.assert_array_equal(kept.positions, [*range(1, 7), *range(11, 20)])
    assert kept.vocabulary == templates.vocabulary
    with pytest.raises(ValueError, match="positions: got"):
        templates.no_number_in(range(20))


@pytest.mark.parametrize("sentence", ["I went to IIT in 2017", "in 2017 I went to IIT"])
def test_the_lectures_sentences_can_be_drawn(templates, sentence):
    symbols = [templates.vocabulary.index(word) for word in sentence.split()]
    symbols = np.array(symbols + [0] * (20 - len(symbols)))
    fits = (templates.first <= symbols) & (symbols < templates.first + templates.size)
    assert fits.all(1).sum() == 1


def test_words_as_numbers(templates):
    xs = templates.one_hot(jnp.array([0, 1, templates.input_size]))
    np.testing.assert_array_equal(xs.sum(-1), [0, 1, 1])
    np.testing.assert_array_equal(xs[1:].argmax(-1), [0, templates.input_size - 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"years": [2000]}, "years: got"),
        ({"years": [2000, 2001, 2000]}, "years: got"),
        ({"max_length": 3}, "max_length: got int 3"),
    ],
)
def test_sentences_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        year_sentences(**arguments)
