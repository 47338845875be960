"""Cells whose states hold more than real numbers, as cells that the laboratory can differentiate.

A counter or a random key in the state is no direction in which a state can be moved. It is computed
once, on the trajectory, and handed to each step as a part of its input, so that what is measured is
the run itself, its own noise and its own count. A complex leaf is two real ones. And a step with a
`jax.custom_vjp` in it (a surrogate gradient) is given the forward mode that its rule implies:
u -> uᵀ J is linear in u, and v -> J v is its transpose.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, Complex
from rnn_jax.errors import invalid
from rnn_jax.lengths import is_array, is_key
from rnn_jax.transforms.program import Program, has_custom_vjp
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.arguments import checked_masks, checked_start
from rnn_jax.unrolling.trajectory import states_along


def continuous(
    cell: Cell,
    params: Params,
    xs: Any,
    initial_state: State | None = None,
    *,
    lengths: Array | None = None,
) -> tuple[Cell, Any, State]:
    """Return (cell, xs, start) of the same run, whose state has real floating leaves alone.

    They are the cell, its inputs and its initial state as they came where there is nothing to do.
    Where the state has leaves that are no floats, those become features of `xs`, behind its own:
    the bytes of each, as numbers from 0 to 255, which any dtype holds exactly.

    Raises:
      ValueError: what `unroll` raises; such leaves beside xs that are not one array.
    """
    start = checked_start(cell, params, xs, initial_state)
    masks = checked_masks(xs, lengths, None, reverse=False)
    kinds = {_kind(leaf) for leaf in jax.tree.leaves(start)}
    plain = cell.structure is not None or not has_custom_vjp(cell.step, params, start, xs)
    if kinds <= {"real"} and plain:
        return cell, xs, start
    if "other" in kinds:
        if not is_array(xs):
            raise invalid(
                "state",
                f"{_first_unreal(start)} beside xs of several arrays",
                "xs as one array [T, *batch, I]",
                "Put the arrays of xs side by side, or the counter or key among the inputs.",
            )
        states = states_along(cell, params, xs, start, masks)
        before = jax.tree.map(lambda leaf: leaf[:-1], states)
        codes = [_encoded(leaf, xs.ndim - 1) for leaf in _others(before)]
        xs = jnp.concatenate([xs, *(code.astype(xs.dtype) for code in codes)], axis=-1)
    return _continued(cell), xs, real_leaves(start)


def check_reals(state: State) -> None:
    """Raise ValueError unless every leaf of `state` is a real floating array."""
    if any(_kind(leaf) != "real" for leaf in jax.tree.leaves(state)):
        raise invalid(
            "state",
            _first_unreal(state),
            "real floating leaves alone, where states are perturbed on their way",
            "Give a counter or a key as an input; hold a complex number as a types.Complex.",
        )


def _continued(cell: Cell) -> Cell:
    """Return the cell of the real leaves, which reads the others from the end of x."""
    if "_continuous" in cell.__dict__:
        return cell.__dict__["_continuous"]

    def initial_state(params: Params, batch: tuple[int, ...] = ()) -> State:
        return real_leaves(cell.initial_state(params, batch))

    def whole(params: Params, reals: State, x: Array) -> tuple[State, Array]:
        """Return the state, of reals and of what x holds, and x without it."""
        one = cell.initial_state(params)
        leaves: list[Array]
        tree: Any
        leaves, tree = jax.tree.flatten(one)
        kinds = [_kind(leaf) for leaf in leaves]
        if "other" not in kinds:
            parts: list[Array] = []
        else:
            batch = x.shape[:-1]
            sizes = [_bytes(leaf) for leaf in _others(one)]
            x, *codes = jnp.split(x, _places(x.shape[-1], sizes), axis=-1)
            parts = [_decoded(c, leaf, batch) for c, leaf in zip(codes, _others(one), strict=True)]
        others = iter(parts)
        given = tree.flatten_up_to(reals)
        number = lambda kind, leaf: jax.lax.complex(leaf.re, leaf.im) if kind == "complex" else leaf
        state = [
            next(others) if kind == "other" else number(kind, leaf)
            for kind, leaf in zip(kinds, given, strict=True)
        ]
        return tree.unflatten(state), x

    def step(params: Params, reals: State, x: Array) -> tuple[State, Any]:
        def plain(params: Params, reals: Any, x: Array):
            state, x = whole(params, reals, x)
            after, y = cell.step(params, state, x)
            return real_leaves(after), y

        # A `custom_vjp` has no forward mode, which the laboratory needs. Evaluated equation by
        # equation, `Program` gives it the one that is implied: u -> uᵀ J is linear, and its
        # transpose is v -> J v.
        closed, shape = jax.make_jaxpr(plain, return_shape=True)(params, reals, x)
        program = Program(closed)
        values = program.evaluate(jax.tree.leaves((params, reals, x)), {})
        outputs = [values[place] for place in program.outputs]
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    continued = Cell(cell.init, initial_state, step)
    cell.__dict__["_continuous"] = continued
    return continued


def _kind(leaf: Any) -> str:
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        return "complex"
    return "real" if jnp.issubdtype(leaf.dtype, jnp.floating) else "other"


def real_leaves(state: State) -> State:
    """Return `state` with a `Complex` for each complex leaf, and None for each that is no float."""
    real = {
        "real": lambda a: a,
        "complex": lambda a: Complex(a.real, a.imag),
        "other": lambda _: None,
    }
    return jax.tree.map(lambda leaf: real[_kind(leaf)](leaf), state)


def _others(state: State) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(state) if _kind(leaf) == "other"]


def _first_unreal(state: State) -> str:
    leaf = next(leaf for leaf in jax.tree.leaves(state) if _kind(leaf) != "real")
    return f"a leaf that is no float, {leaf.dtype}{list(leaf.shape)}"


def _words(leaf: Any) -> Any:
    """Return the numbers that `leaf`, of one example, is stored as."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _bytes(leaf: Any) -> int:
    words = _words(leaf)
    return math.prod(words.shape) * words.dtype.itemsize


def _places(end: int, sizes: list[int]) -> list[int]:
    """Return where to split `end` features to get blocks of these sizes at the end."""
    return [end - sum(sizes[i:]) for i in range(len(sizes))]


def _encoded(leaf: Array, lead: int) -> Array:
    """Return `[*lead, bytes]` of uint8."""
    words = jax.random.key_data(leaf) if is_key(leaf) else leaf
    if words.dtype == jnp.bool_:
        words = words.astype(jnp.uint8)
    # Bytes, for a key's words have 32 bits, which float32 does not hold and bfloat16 by far not.
    codes = jax.lax.bitcast_convert_type(words, jnp.uint8)
    shape = leaf.shape[:lead]
    return codes.reshape(*shape, math.prod(codes.shape[lead:]))


def _decoded(code: Array, like: Any, batch: tuple[int, ...]) -> Array:
    """Return the inverse of `_encoded` for a leaf which in one example is `like`."""
    words = _words(like)
    code = jax.lax.stop_gradient(code).astype(jnp.uint8)
    if words.dtype == jnp.bool_:
        return code.reshape(*batch, *words.shape).astype(jnp.bool_)
    size = words.dtype.itemsize
    code = code.reshape(*batch, *words.shape, *([size] if size > 1 else []))
    value = jax.lax.bitcast_convert_type(code, words.dtype)
    if is_key(like):
        return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like))
    return value
