"""Arrays as named gates, in the notation of `conventions`, and back."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import describe, invalid
from rnn_jax.types import Array


class Gate(NamedTuple):
    """The H rows of one gate in an array, and how they are stored there: see `conventions`."""

    name: str
    negative: bool
    less_one: bool
    added: bool

    def ours(self, theirs: Array) -> Array:
        """Return the rows as we store them."""
        theirs = -theirs if self.negative else theirs
        return theirs + 1 if self.less_one else theirs

    def theirs(self, ours: Array) -> Array:
        """Return the rows as they store them."""
        ours = ours - 1 if self.less_one else ours
        return -ours if self.negative else ours


class Leaf(NamedTuple):
    """The gates of one array: for each group of columns (input, state), from row 0 down."""

    columns: tuple[tuple[Gate, ...], ...]

    @property
    def is_bias(self) -> bool:
        """Return whether it is a vector."""
        return self.columns[0][0].name.startswith("b")

    @property
    def is_second_bias(self) -> bool:
        """Return whether it only adds to gates that another leaf holds."""
        return all(gate.added for column in self.columns for gate in column)

    def widths(self, H: int, I: int) -> list[int]:
        """Return the widths of the groups of columns: I for the input, H for the state."""
        return [I if column[0].name.startswith("U") else H for column in self.columns]

    def shape(self, H: int, I: int) -> tuple[int, ...]:
        """Return [out, in], or [out] for a bias."""
        rows = H * len(self.columns[0])
        return (rows,) if self.is_bias else (rows, sum(self.widths(H, I)))


@functools.cache
def parse(leaf: str) -> Leaf:
    """Return `"U_i -U_f / W_i -W_f"` as a Leaf."""

    def gate(word: Any):
        name = word.removesuffix("-1").lstrip("+-")
        return Gate(name, word.startswith("-"), word.endswith("-1"), word.startswith("+"))

    return Leaf(tuple(tuple(map(gate, column.split())) for column in leaf.split("/")))


def read(
    argument: str, leaves: Mapping[str, str], arrays: Mapping[str, Array], transposed: bool
) -> dict[str, Array]:
    """Return the gates in `arrays`, by name; a leaf that is not there is left out.

    Raises:
      ValueError: a shape that does not fit the others, named by its path.
    """
    sizes = _sizes(argument, leaves, arrays, transposed)
    gates: dict[str, Array] = {}
    for path, array in arrays.items():
        leaf = parse(leaves[path])
        _check_shape(f"{argument}[{path!r}]", array, leaf.shape(*sizes), transposed)
        out_first = array.T if transposed else array
        widths = [] if leaf.is_bias else leaf.widths(*sizes)
        parts = jnp.split(out_first, np.cumsum(widths[:-1]), axis=-1) if widths else [out_first]
        for column, part in zip(leaf.columns, parts, strict=True):
            for gate, rows in zip(column, jnp.split(part, len(column)), strict=True):
                # A second bias of the same sum (torch's b_hh) is added to the first one, which
                # comes before it in the table: the network is the same.
                first = gates.get(gate.name) if gate.added else None
                ours = gate.ours(rows)
                gates[gate.name] = ours if first is None else first + ours
    return gates


def write(leaf: str, gates: Mapping[str, Array], transposed: bool) -> Array:
    """Return the array of a leaf: its gates, stacked and transposed as they store them."""

    def rows(gate: Any):
        ours = gates[gate.name]
        return jnp.zeros_like(ours) if gate.added else gate.theirs(ours)

    columns = [jnp.concatenate([rows(gate) for gate in column]) for column in parse(leaf).columns]
    array = jnp.concatenate(columns, axis=-1)
    return array.T if transposed else array


def _sizes(argument: str, leaves: Any, arrays: Any, transposed: Any) -> tuple[int, int]:
    """Return (H, I), from the leaves that hold W and U."""
    H = I = 0
    for path, array in arrays.items():
        leaf = parse(leaves[path])
        if leaf.is_bias:
            continue
        if array.ndim != 2:
            raise invalid(f"{argument}[{path!r}]", array, "a matrix", "Pass one layer's weights.")
        rows, columns = array.shape[::-1] if transposed else array.shape
        letters = "".join(column[0].name[0] for column in leaf.columns)
        H = H or rows // len(leaf.columns[0])
        if "U" in letters:
            I = columns - H if "W" in letters else columns
    return H, I


def _check_shape(argument: str, array: Any, shape: Any, transposed: Any):
    expected = shape[::-1] if transposed else shape
    if array.shape != expected:
        raise invalid(
            argument,
            describe(array),
            f"[{', '.join(map(str, expected))}]",
            "Every leaf must have the sizes of the others, and be of this kind of cell.",
        )
