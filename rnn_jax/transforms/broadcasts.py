"""Broadcasts in half precision whose gradients are summed in float32.

The gradient of what is broadcast over examples, a bias say, is a sum over them. XLA takes a sum of
bfloat16 in bfloat16: over several axes one term after the other, so that it stops growing at 256
equal ones. Broadcasts in a step are implicit: adding a vector to rows is one. So the step is
traced, and each broadcast in it is taken by way of float32, which is exact: its transpose is then a
sum in float32, and in forward mode nothing changes. Reading rows of a table, an embedding of
symbols, is a broadcast too: many examples may read the same row.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Literal
from jax.extend.core import primitives as lax_primitives

from rnn_jax.transforms.precision import is_half
from rnn_jax.types import Array

ELEMENTWISE = tuple(
    getattr(lax_primitives, f"{name}_p")
    for name in ("add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "clamp")
)
"""Primitives that broadcast scalars and axes of size 1 implicitly."""

MOVING = (lax_primitives.broadcast_in_dim_p, lax_primitives.gather_p)
"""Primitives that copy, or may copy, an entry of their first operand to several places."""


def with_wide_sums(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` with gradients of what it broadcasts in half precision summed in float32.

    Its values are the same. Where no argument is of half precision, or none is traced, it is called
    unchanged; the inside of a `jax.custom_jvp` or `jax.custom_vjp` is never changed.
    """

    def call(*args: Any) -> Any:
        leaves = jax.tree.leaves(args)
        half = any(hasattr(leaf, "dtype") and is_half(leaf.dtype) for leaf in leaves)
        if not half or not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*args)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        if not _broadcasts(closed.jaxpr):
            return function(*args)
        return jax.tree.unflatten(jax.tree.structure(shapes), _evaluate(closed, leaves))

    return call


def _evaluate(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= zip(jaxpr.invars, args, strict=True)
    value_of = lambda atom: atom.val if isinstance(atom, Literal) else values[atom]
    for eqn in jaxpr.eqns:
        bind_params = eqn.primitive.get_bind_params(_wide_inside(eqn))

        def bind(*reads: Any, eqn: Any = eqn, bind_params: Any = bind_params):
            return eqn.primitive.bind(*reads, **bind_params)

        # `bind` evaluates a primitive on tracers and arrays alike, so that the rewritten function
        # is differentiated, batched and compiled as the first one would be. A gather is taken in
        # float32 as a whole: its operand is widened, and rounded again where rows have been read.
        reads = [value_of(atom) for atom in eqn.invars]
        # Names of scopes outlast the second evaluation, for profiles.
        scope = str(eqn.source_info.name_stack)
        with jax.named_scope(scope) if scope else contextlib.nullcontext():
            if eqn.primitive in MOVING and _broadcast_by(eqn):
                first, *others = reads
                results = bind(first.astype(jnp.float32), *others).astype(first.dtype)
            else:
                for i in _broadcast_by(eqn):
                    reads[i] = _broadcast(reads[i], eqn.outvars[0].aval.shape)
                results = bind(*reads)
        results = results if eqn.primitive.multiple_results else [results]
        values |= zip(eqn.outvars, results, strict=True)
    return [jnp.asarray(value_of(atom)) for atom in jaxpr.outvars]


def _broadcast(x: Array, shape: tuple[int, ...]) -> Array:
    """Return `x`, a scalar or an array with axes of size 1, in `shape`."""
    # To float32 first and back last: transposed, the cotangent is widened, summed, then rounded.
    wide = jax.lax.broadcast_in_dim(x.astype(jnp.float32), shape, tuple(range(x.ndim)))
    return wide.astype(x.dtype)


def _broadcast_by(eqn: Any) -> list[int]:
    """Return the indices of the operands of half precision that an equation broadcasts."""
    # An operand as large as the result is copied at most once per entry. The result of a gather can
    # be as small as its table and still read a row twice, so that every gather counts.
    primitive = eqn.primitive
    if primitive not in MOVING and primitive not in ELEMENTWISE:
        return []
    size = None if primitive is lax_primitives.gather_p else math.prod(eqn.outvars[0].aval.shape)
    return [
        i
        for i, atom in enumerate(eqn.invars[:1] if primitive in MOVING else eqn.invars)
        if not isinstance(atom, Literal)
        and is_half(atom.aval.dtype)
        and math.prod(atom.aval.shape) != size
    ]


def _broadcasts(jaxpr: Any) -> bool:
    """Return whether there is a broadcast of half precision in a jaxpr, or in one inside of it."""
    return any(
        _broadcast_by(eqn)
        or any(_broadcasts(inner) for value in _inside(eqn).values() for inner in _jaxprs(value))
        for eqn in jaxpr.eqns
    )


def _inside(eqn: Any) -> dict[str, Any]:
    """Return the parameters of an equation that may hold jaxprs: none of a custom derivative."""
    return {} if eqn.primitive.name.startswith("custom_") else eqn.params


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [inner for part in value for inner in _jaxprs(part)]
    jaxpr = getattr(value, "jaxpr", value)  # of a ClosedJaxpr
    return [jaxpr] if hasattr(jaxpr, "eqns") else []


def _wide_inside(eqn: Any) -> dict[str, Any]:
    """Return the parameters of an equation, with the functions that it calls rewritten."""
    inside = _inside(eqn)
    return eqn.params | {name: _wide(value) for name, value in inside.items()}


def _wide(value: Any) -> Any:
    if isinstance(value, tuple):
        parts = [_wide(part) for part in value]
        return tuple(parts) if any(a is not b for a, b in zip(parts, value, strict=True)) else value
    if not any(map(_broadcasts, _jaxprs(value))):
        return value
    if isinstance(value, ClosedJaxpr):
        return jax.make_jaxpr(lambda *args: _evaluate(value, args))(*value.in_avals)
    # A jaxpr that is not closed has no constants, and so its successor has none.
    return _wide(ClosedJaxpr(value, ())).jaxpr
