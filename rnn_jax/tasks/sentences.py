"""Sentences that say a year: "I went to IIT in 2017", "in 2017 I went to IIT".

A sentence is an opening, a statement and an ending, with a date somewhere between them. Other
numbers, drawn from the same words as the years, are those of rooms, buses and prices, so that only
what stands around a number tells whether it is the year.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import (
    check_array,
    check_dtype,
    check_integer,
    check_key,
    describe,
    invalid,
    is_traced,
)
from rnn_jax.tasks.characters import check_symbols
from rnn_jax.types import Array, Key

OPENINGS = (
    "",
    "honestly",
    "as you know",
    "{name} says that",
    "my friend {name} told me that",
    "if I remember it well",
    "from what I read in room {number}",
    "on the way to bus {number} I heard that",
)
STATEMENTS = (
    "we met",
    "I went to {place}",
    "{name} went to {place}",
    "{name} moved to {place}",
    "my family left {place}",
    "{name} and {name} studied at {place}",
)
DATES = ("in {year}", "in {month} {year}", "in the {season} of {year}")
ENDINGS = (
    "",
    "with {name}",
    "by bus {number}",
    "and stayed in room {number}",
    "and paid {number} rupees",
    "to be near {name}",
    "for the first time",
)
WORDS = {
    "name": "Anita Arjun Kavya Leela Meera Nikhil Ravi Sunita",
    "place": "IIT Chennai Delhi Kochi London Mumbai Paris Pune",
    "month": (
        "January February March April May June July August September October November December"
    ),
    "season": "spring summer autumn winter",
}
PADDING = 0
"""Symbol of no word, behind the end of a sentence."""
FIRST_YEAR = 1
"""Symbol of the first year."""


class Sentence(NamedTuple):
    """A sentence as integers, the year as its label.

    Attributes:
      symbols: the words, `[T]`; symbol 0 past the end.
      length: number of words.
      year: class of the year, from 0.
      position: number of words in front of the year, which is symbols[position].
    """

    symbols: Array
    length: Array
    year: Array
    position: Array


@dataclass(frozen=True)
class Templates:
    """Templates that sentences are drawn from. Symbol s is the word vocabulary[s].

    Place t of template n is any of the `size[n, t]` words from `first[n, t]` on; a fixed word is
    one of one. Templates are in the order of the year's position.

    Attributes:
      vocabulary: padding, the years, and every other word.
      years: number of years; class y is vocabulary[1 + y].
      first: first symbol of each place, `[N, T]`.
      size: number of words that may stand there, `[N, T]`, at least 1.
      lengths: number of words, `[N]`.
      year_at: number of words in front of the year, `[N]`.
    """

    vocabulary: tuple[str, ...]
    years: int
    first: np.ndarray = field(repr=False)
    size: np.ndarray = field(repr=False)
    lengths: np.ndarray = field(repr=False)
    year_at: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.first)

    @property
    def input_size(self) -> int:
        """Return I, words without the padding."""
        return len(self.vocabulary) - 1

    @property
    def positions(self) -> np.ndarray:
        """Return where the year may stand, sorted."""
        return np.unique(self.year_at)

    @property
    def is_number(self) -> np.ndarray:
        """Return whether a year or another number stands there, `[N, T]`."""
        return self.first == FIRST_YEAR

    def no_number_in(self, positions: Sequence[int]) -> Templates:
        """Return the templates without any number, the year's or another, at these positions.

        Raises:
          ValueError: no words in front of which a number could stand, or every template has one
            there.
        """
        T = self.first.shape[1]
        if isinstance(positions, str) or not isinstance(positions, Iterable):
            raise invalid("positions", describe(positions), f"integers below {T}", "Pass [0].")
        positions = [
            check_integer("positions", p, least=0, most=T - 1, remedy="Pass positions of words.")
            for p in positions
        ]
        number_there = np.any(self.is_number[:, list(positions)], axis=1)
        kept = np.logical_not(number_there)
        if not kept.any():
            raise invalid(
                "positions",
                f"{list(positions)}, and every template has a number at one of them",
                "positions that leave some template",
                "Leave out fewer positions.",
            )
        parts = ("first", "size", "lengths", "year_at")
        return replace(self, **{name: getattr(self, name)[kept] for name in parts})

    def draw(self, key: Key, position: Array | int | None = None) -> Sentence:
        """Draw one sentence, a pure function of the key; `jax.vmap` draws more.

        The template is uniform over those that have the year at `position`, each word over its
        class; no other number equals the year.

        Args:
          key: a JAX key, all that is random.
          position: one of `positions`; uniform over them by default.

        Raises:
          ValueError: no key; outside `jit` (inside, symbols and year are −1), a position that is
            not one of `positions`.
        """
        check_key("key", key)
        starts = np.searchsorted(self.year_at, self.positions)
        counts = np.diff(starts, append=len(self))
        # Bits mod a count of at most a few hundred are uniform to one part in ten million.
        bits = jax.random.bits(key, (2 + self.first.shape[1],), jnp.uint32)
        below = lambda bits, count: (bits % count.astype(jnp.uint32)).astype(jnp.int32)
        if position is None:
            p = below(bits[0], jnp.uint32(len(starts)))
        else:
            position = self._checked_position(position)
            p = jnp.minimum(jnp.searchsorted(self.positions, position), len(starts) - 1)
        n = _int32(starts)[p] + below(bits[1], _int32(counts)[p])

        # Every other number leaves out the year: of years − 1 choices, those from year + 1 on,
        # around the end.
        asked, position = position, _int32(self.year_at)[n]
        is_other = jnp.asarray(self.is_number)[n].at[position].set(False)
        offset = below(bits[2:], _int32(self.size)[n] - is_other.astype(jnp.int32))
        year = offset[position]
        offset = jnp.where(is_other, (year + 1 + offset) % self.years, offset)
        symbols = _int32(self.first)[n] + offset
        if asked is not None and is_traced(asked):
            there = asked.astype(jnp.int32) == position
            symbols, year = jnp.where(there, symbols, -1), jnp.where(there, year, -1)
        return Sentence(symbols, _int32(self.lengths)[n], year, position)

    def _checked_position(self, position: Any) -> Array:
        if is_traced(position):
            return check_array("position", position, (), kind="integer", remedy="Pass one integer.")
        remedy = f"Pick one of {', '.join(map(str, self.positions))}."
        number = check_integer("position", position, least=None, remedy=remedy)
        if number not in self.positions:
            raise invalid("position", position, f"one of {self.positions}", "Pick one of these.")
        return jnp.asarray(number, jnp.int32)

    def one_hot(self, symbols: Array, dtype: DTypeLike = jnp.float32) -> Array:
        """Return symbols as unit vectors: `[...] -> [..., I]`, I the size of the vocabulary.

        Padding is the zero vector.

        Raises:
          ValueError: as for `tasks.one_hot`.
        """
        symbols = check_symbols("symbols", symbols, self.input_size + 1)
        known = (symbols >= 0) & (symbols <= self.input_size)
        dtype = check_dtype("dtype", dtype)
        vectors = jax.nn.one_hot(symbols - 1, self.input_size, dtype=dtype)
        return jnp.where(known[..., None], vectors, jnp.nan) if is_traced(symbols) else vectors

    def text(self, symbols: Array) -> str:
        """Return `symbols [T]` as words. ValueError for symbols that the vocabulary lacks."""
        symbols = check_symbols("symbols", symbols, self.input_size + 1)
        if symbols.ndim != 1 or is_traced(symbols):
            raise invalid("symbols", symbols, "[T] with values", "Pass one sentence, outside jit.")
        return " ".join(self.vocabulary[s] for s in np.asarray(symbols) if s != PADDING)


def year_sentences(years: Sequence[int] = range(1980, 2020), *, max_length: int = 20) -> Templates:
    """Return templates of sentences that say one of `years`, a class each.

    Every opening, statement, date and ending is combined with every other; the date stands in front
    of the statement, behind it, or behind the ending.

    Args:
      years: the classes, distinct integers from 0.
      max_length: T; templates with more words are left out.

    Raises:
      ValueError: fewer than two years, a repeated one, or one that is no integer; a length that no
        template has.
    """
    if isinstance(years, str) or not isinstance(years, Iterable):
        raise invalid("years", describe(years), "two or more integers", "Pass range(1980, 2020).")
    years = [check_integer("years", year, 0, remedy="Pass range(1980, 2020).") for year in years]
    max_length = check_integer("max_length", max_length, 1, remedy="Pass the default, 20.")
    if len(set(years)) != len(years) or len(years) < 2:
        raise invalid("years", f"{list(years)}", "two or more, distinct", "Pass range(1980, 2020).")
    classes = {"year": list(map(str, years)), **{name: w.split() for name, w in WORDS.items()}}
    templates = [words for words in map(str.split, _templates()) if len(words) <= max_length]
    if not templates:
        raise invalid("max_length", max_length, "at least 4 words", "Pass the default, 20.")
    templates.sort(key=_year_at)

    fixed = {word for words in templates for word in words if not word.startswith("{")}
    vocabulary = ["", *itertools.chain(*classes.values()), *sorted(fixed)]
    classes_at = {f"{{{name}}}": (vocabulary.index(w[0]), len(w)) for name, w in classes.items()}
    classes_at["{number}"] = classes_at["{year}"]
    ranges = {word: (symbol, 1) for symbol, word in enumerate(vocabulary)} | classes_at
    table = np.full((len(templates), max_length, 2), (PADDING, 1), np.int32)
    for row, words in zip(table, templates, strict=True):
        row[: len(words)] = [ranges[word] for word in words]
    return Templates(
        vocabulary=tuple(vocabulary),
        years=len(years),
        first=table[..., 0],
        size=table[..., 1],
        lengths=np.array([len(words) for words in templates], np.int32),
        year_at=np.array([_year_at(words) for words in templates], np.int32),
    )


def _templates() -> Iterator[str]:
    """Yield every template as text, the classes of words in braces."""
    for opening, statement, date, ending in itertools.product(OPENINGS, STATEMENTS, DATES, ENDINGS):
        yield f"{opening} {date} {statement} {ending}"
        yield f"{opening} {statement} {date} {ending}"
        if ending:
            yield f"{opening} {statement} {ending} {date}"


def _year_at(words: list[str]) -> int:
    return words.index("{year}")


def _int32(values: np.ndarray) -> Array:
    return jnp.asarray(values, jnp.int32)
