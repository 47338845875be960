"""Letters for the leaves of a pytree: the last name on the path of each, as in an equation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from rnn_jax.types import Key

GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Phi",
    "Psi",
    "Omega",
]
SIGNS = {"ŷ": r"\hat{y}", **{name: rf"\{name}" for name in GREEK}}


class Letter(NamedTuple):
    """A letter, with subscripts behind underscores as in b_n, and `above`, its superscripts."""

    base: str
    above: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return the letter in plain characters: `W`, `b_n`, `h(1)`."""
        return self.base + (f"({','.join(self.above)})" if self.above else "")

    def tex(self, time: str = "") -> str:
        """Return the letter in mathematics, at a time: `$h_{t-1}$`."""
        head, *subscripts = [word for word in map(_plain, self.base.split("_")) if word] or ["?"]
        subscripts = [_word(subscript) for subscript in subscripts] + ([time] if time else [])
        below = "_{" + ",".join(subscripts) + "}" if subscripts else ""
        index = ",".join(_word(_plain(word)) for word in self.above)
        return f"${_word(head)}{below}{f'^{{({index})}}' if index else ''}$"


def letters(tree: Any, bare: str | Sequence[str]) -> list[Letter]:
    """Return a letter for each leaf, no two alike.

    Args:
      tree: pytree. A leaf is called by the last field or key on its path, and counted from 1 where
        it stands in a sequence; the names before that are added where two would be alike.
      bare: letter of a leaf with no name on its path; one for all or one for each.
    """
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    bases = [bare] * len(paths) if isinstance(bare, str) else bare
    named = list(zip(paths, bases, strict=True))
    short = [_letter(path, base, everything=False) for path, base in named]
    long = [_letter(path, base, everything=True) for path, base in named]
    seen = Counter(short)
    chosen = [s if seen[s] == 1 else one for s, one in zip(short, long, strict=True)]
    # Names that differ only in characters that no equation has, as `h-1` and `h_1`, are numbered.
    texts = Counter(letter.tex() for letter in chosen)
    return [
        letter if texts[letter.tex()] == 1 else letter._replace(above=(*letter.above, f"#{n}"))
        for n, letter in enumerate(chosen, start=1)
    ]


def free(candidates: Iterable[str], taken: Collection[str]) -> Letter:
    """Return the first of `candidates` that is not taken."""
    return Letter(next(base for base in candidates if base not in taken))


def _letter(path: Any, bare: str, everything: bool) -> Letter:
    words = [_key(key) for key in path]
    named = [i for i, word in enumerate(words) if isinstance(word, str)]
    base = str(words[named[-1]]) if named else bare
    rest = [word for i, word in enumerate(words) if not named or i != named[-1]]
    kept = [word for word in rest if everything or isinstance(word, int)]
    return Letter(base, tuple(str(word + 1 if isinstance(word, int) else word) for word in kept))


def _key(key: Key) -> str | int:
    for attribute in ("name", "idx", "key"):
        if hasattr(key, attribute):
            value = getattr(key, attribute)
            return value if isinstance(value, int) else str(value)
    return str(key)


def _plain(word: str) -> str:
    return re.sub(r"[\W_]", "", word)


def _word(word: str) -> str:
    if word in SIGNS:
        return SIGNS[word]
    return word if len(word) == 1 or word.isdigit() else rf"\mathrm{{{word}}}"
