"""Checks of the numbers that the functions of this package take.

Outside `jit` a number out of its range is refused. Inside, where no value can be seen, it becomes
NaN, and so does what is computed from it. NaN itself passes, as through any other arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import describe, invalid, is_real, is_traced
from rnn_jax.types import Array

REMEDY = "Pass a number, or an array of numbers."


def numbers(**named: Any) -> list[Array]:
    """Return the named numbers, or arrays of numbers, as floating arrays of one dtype and shape.

    The dtype is the widest of the floats, float32 at least, and JAX's default where there is none.

    Raises:
      ValueError: anything else; shapes that do not broadcast.
    """
    dtype = _dtype([number(name, value) for name, value in named.items()])
    arrays = {name: _array(name, value, dtype) for name, value in named.items()}
    shape: tuple[int, ...] = ()
    for name, array in arrays.items():
        try:
            shape = np.broadcast_shapes(shape, array.shape)
        except ValueError as error:
            expected = f"a shape that broadcasts with {list(shape)}, that of the arguments before"
            raise invalid(name, named[name], expected, REMEDY) from error
    return [jnp.broadcast_to(array, shape) for array in arrays.values()]


def number(name: str, value: Any) -> Any:
    """Return `value` if it is a real number or an array of them. ValueError otherwise."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    has_dtype = hasattr(value, "dtype") and hasattr(value, "shape")
    if not is_number and not (has_dtype and is_real(value.dtype)):
        raise invalid(name, describe(value), "a real number, or an array of real numbers", REMEDY)
    return value


def within(
    name: str,
    x: Array,
    *,
    least: float = -np.inf,
    above: float = -np.inf,
    below: float = np.inf,
    most: float = np.inf,
    infinite: bool = False,
) -> Array:
    """Return `x`, numbers that lie within these limits, or are NaN.

    Raises:
      ValueError: numbers outside the limits, or infinite ones unless `infinite`, outside `jit`.
    """
    ok = (x >= least) & (x <= most)
    ok &= (x > above) | (above == -np.inf)
    ok &= (x < below) | (below == np.inf)
    if not infinite:
        ok &= jnp.isfinite(x)
    limits = {"at least": least, "above": above, "below": below, "at most": most}
    kind = "numbers" if infinite else "finite numbers"
    stated = [f"{word} {limit:g}" for word, limit in limits.items() if np.isfinite(limit)]
    return where_known(name, x, ok | jnp.isnan(x), ", ".join([kind, *stated]))


def where_known(name: str, x: Array, known: Array, expected: str) -> Array:
    """Return `x`, NaN where a traced `known` is False. ValueError where `known` has a value."""
    # Under `grad` alone comparisons of x have values, though x itself is traced: bad numbers are
    # then refused as well, only without showing one.
    if is_traced(known):
        return jnp.where(known, x, jnp.nan)
    if not np.all(known):
        got = describe(x)
        if not is_traced(x):
            value = np.asarray(x)[~np.asarray(known)].ravel()[0]
            got = f"{value:g}" if x.ndim == 0 else f"{got} with {value:g} in it"
        raise invalid(name, got, expected, "Outside of these limits no result is defined.")
    return x


def check_elementwise(name: str, f: Any, dtype: Any) -> None:
    """Raise ValueError unless f maps a floating array to one of the same shape and dtype."""
    example = jax.ShapeDtypeStruct((3,), dtype)
    expected = "a function of an array, elementwise, of its dtype"
    remedy = "Write it with jax.numpy, say `lambda x: jnp.tanh(x)`."
    if not callable(f):
        raise invalid(name, f, expected, remedy)
    try:
        result = jax.eval_shape(f, example)
    except Exception as error:
        got = f"a function that raises {type(error).__name__} for {describe(example)}"
        raise invalid(name, got, expected, remedy) from error
    if getattr(result, "shape", None) != example.shape or result.dtype != example.dtype:
        got = f"a function that returns {describe(result)} for {describe(example)}"
        raise invalid(name, got, expected, remedy)


def _dtype(values: list[Any]) -> Any:
    default = jax.dtypes.canonicalize_dtype(float)
    floats = [
        np.dtype(jax.dtypes.canonicalize_dtype(value.dtype))
        for value in values
        if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)
    ]
    widest = max(floats, key=lambda dtype: dtype.itemsize, default=np.dtype(default))
    return widest if widest.itemsize >= 4 else np.dtype(np.float32)


def _array(name: str, value: Any, dtype: Any) -> Array:
    if isinstance(value, jax.Array):
        return value.astype(dtype)
    try:
        return jnp.asarray(np.asarray(value, dtype))
    except OverflowError as error:
        raise invalid(name, value, f"a number that {dtype} can hold", REMEDY) from error


Elementwise = Callable[[Array], Array]
"""An elementwise function f; it must not close over traced values."""
