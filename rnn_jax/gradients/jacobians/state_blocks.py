"""Named blocks of a structured state: which entries of the flattened state a name stands for."""

from __future__ import annotations

import jax
import numpy as np
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from rnn_jax.cell import Cell, check_cell, state_shapes
from rnn_jax.errors import invalid
from rnn_jax.gradients.step.continuous import real_leaves
from rnn_jax.types import Key, Params, State

Block = tuple[str | None, str | None]
"""(to, from): names of parts of the state, None for all of it. ("c", "h") is ∂c_t/∂h_k."""


def state_blocks(cell: Cell, params: Params) -> dict[str, np.ndarray]:
    """Return the entries of the flattened state, int `[size]`, of each named part of it.

    A name is the path to a field, key or position, with dots: "c", or "0.c" in a stack; each part
    on the way, "0", has a name too. A state that is one array has none.
    """
    return _blocks(_state(cell, params))


def _state(cell: Cell, params: Params) -> State:
    """Return shapes of the real leaves of one example's state, the ones that are flattened."""
    state = state_shapes(check_cell("cell", cell), params)
    return jax.eval_shape(real_leaves, state)


def _blocks(state: State) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    first = 0
    for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
        entries = np.arange(first, first + leaf.size)
        first += leaf.size
        names = [_name(key) for key in path]
        for depth in range(1, len(names) + 1):
            parts.setdefault(".".join(names[:depth]), []).append(entries)
    return {name: np.concatenate(entries) for name, entries in parts.items()}


Entries = tuple[tuple[int, ...], tuple[int, ...]]
"""(rows, columns) of a block, as numbers that can be held constant under `jit`."""


def block_entries(cell: Cell, params: Params, block: Block | None) -> Entries:
    """Return (rows, columns) of a block of ∂h_t/∂h_k; all of them for None.

    Raises:
      ValueError: a block that is no pair, a name that the state does not have.
    """
    state = _state(cell, params)
    S = sum(leaf.size for leaf in jax.tree.leaves(state))
    names = _blocks(state)
    if block is None:
        block = (None, None)
    if not isinstance(block, tuple) or len(block) != 2:
        remedy = 'Pass ("c", "c") for ∂c_t/∂c_k, say, or None for the whole state.'
        raise invalid("block", block, "a pair (to, from) of names", remedy)
    for name in block:
        if name is not None and name not in names:
            known = f"one of {', '.join(names)}" if names else "None: this state has no named parts"
            raise invalid("block", name, known, "Names are those of gradients.state_blocks.")
    to, of = (range(S) if name is None else names[name].tolist() for name in block)
    return tuple(to), tuple(of)


def _name(key: Key) -> str:
    match key:
        case GetAttrKey(name=name):
            return str(name)
        case DictKey(key=name) | FlattenedIndexKey(key=name):
            return str(name)
        case SequenceKey(idx=index):
            return str(index)
    return str(key)
