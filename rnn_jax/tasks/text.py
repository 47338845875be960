"""Texts as integers, and the entropy of their characters."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rnn_jax.errors import check_array, check_number, describe, invalid, is_traced

PYTHON_REFERENCE = "the Python language reference"


@dataclass(frozen=True)
class Text:
    """A text as integers.

    Attributes:
      name: name of the file, or `PYTHON_REFERENCE`.
      vocabulary: distinct characters, sorted; symbol s is vocabulary[s].
      train: symbols of the first part of the text, `[n]`.
      held_out: symbols of the rest, `[m]`.
      sha256: digest of the text in UTF-8, as hexadecimal digits.
    """

    name: str
    vocabulary: str
    train: np.ndarray = field(repr=False)
    held_out: np.ndarray = field(repr=False)
    sha256: str

    def __len__(self) -> int:
        return len(self.train) + len(self.held_out)


def load_text(path: str | Path | None = None, *, held_out_fraction: float = 0.1) -> Text:
    """Read a UTF-8 file, or, with no path, the language reference that every CPython carries.

    The reference is `pydoc_data.topics`, about 465,000 characters of English; it differs between
    Python versions, so a run records `len(text)` and `text.sha256`.

    Args:
      path: any UTF-8 text.
      held_out_fraction: part of the text, from its end, that is kept from training, in (0, 1).

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as `open` does, with the path.
      ValueError: a file that is not UTF-8 or is too short to split; a fraction outside (0, 1); a
        path that is none.
    """
    remedy = "Pass 0.1 to keep a tenth."
    check_number("held_out_fraction", held_out_fraction, above=0, below=1, remedy=remedy)
    if not (path is None or isinstance(path, str | os.PathLike)):
        raise invalid("path", path, "a path, or None", "Pass the name of a file.")
    characters = _python_reference() if path is None else _read_utf8(Path(path))
    train_size = round(len(characters) * (1 - held_out_fraction))
    if not 0 < train_size < len(characters):
        raise invalid(
            "text",
            f"{len(characters)} characters in {path}",
            "enough for a training and a held-out part",
            "Pass a longer file.",
        )
    vocabulary, symbols = np.unique(np.array(list(characters)), return_inverse=True)
    symbols = symbols.astype(np.int32)
    return Text(
        name=PYTHON_REFERENCE if path is None else str(path),
        vocabulary="".join(vocabulary),
        train=symbols[:train_size],
        held_out=symbols[train_size:],
        sha256=hashlib.sha256(characters.encode()).hexdigest(),
    )


def unigram_entropy(symbols: np.ndarray) -> float:
    """Return −Σ p log₂ p, bits per character: no predictor that ignores context does better.

    Args:
      symbols: `[n]` integers, from 0.

    Raises:
      ValueError: anything else, or no symbol at all.
    """
    symbols = check_line("symbols", symbols)
    if len(symbols) == 0 or symbols.min() < 0:
        got = f"{describe(symbols)} from {symbols.min()}" if len(symbols) else describe(symbols)
        raise invalid("symbols", got, "one or more, from 0 on", "Pass text.held_out.")
    p = np.bincount(symbols) / len(symbols)
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def check_text(text: Text) -> None:
    """Raise ValueError unless `text` is a Text."""
    if not isinstance(text, Text):
        raise invalid("text", describe(text), "a Text", "Pass load_text(path).")


def _read_utf8(path: Path) -> str:
    data = path.read_bytes()
    try:
        characters = data.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            "text",
            f"byte 0x{data[error.start]:02x} at offset {error.start} of {path}",
            "UTF-8",
            f"Convert it: iconv -f LATIN1 -t UTF-8 {path}",
        ) from error
    if not characters:
        raise invalid("text", f"the empty file {path}", "characters", "Pass a file with text.")
    return characters


def _python_reference() -> str:
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def check_line(argument: str, symbols: np.ndarray) -> np.ndarray:
    """Return symbols as an array. ValueError unless they are one axis of integers."""
    remedy = "Pass text.held_out, one axis of integers."
    if is_traced(symbols):
        raise invalid(argument, symbols, "integers [n] with values", "Call this outside jit.")
    check_array(argument, symbols, ("n",), kind="integer", remedy=remedy)
    return np.asarray(symbols)  # not what check_array returns, which is traced inside jit
