"""Checks of arguments, and one form of their errors: argument, got, expected, remedy.

Values are checked where they can be seen: outside `jit`, and for what is static inside it. A traced
value is checked by its shape and dtype alone.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.export import is_symbolic_dim

Choice = TypeVar("Choice")


def describe(value: Any) -> str:
    """Describe in one line: `float32[5, 3]` for an array, else the type and the value."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:97] + '...'}"


def invalid(
    argument: str, got: Any, expected: str, remedy: str, error: type[Exception] = ValueError
) -> Exception:
    """Return the exception to raise for `argument`; `got` is described unless it is text."""
    got = got if isinstance(got, str) else describe(got)
    return error(f"{argument}: got {got}; expected {expected}. {remedy}")


def is_traced(value: Any) -> bool:
    """Return whether `value` is traced, by `jit`, `vmap` or `grad`, and so has no value yet."""
    return isinstance(value, jax.core.Tracer)


def optional(module: str, install: str) -> Any:
    """Import an optional dependency. ImportError that says how to install it if it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        missing = (error.name or module).partition(".")[0]
        # It may be there, and one of its own dependencies not.
        got = "no such package" if missing == package else f"no {missing}, which it imports"
        remedy = f"Install it: {install}."
        raise invalid(package, got, "an installed package", remedy, ImportError) from error


def check_integer(
    argument: str,
    value: Any,
    least: int | None = 1,
    most: int | None = None,
    remedy: str = "Pass a whole number.",
) -> int:
    """Return `value`, an integer of Python, NumPy or a 0-d array, as an int.

    Raises:
      ValueError: a bool, anything else, or an integer that is not from `least` to `most`.
    """
    try:
        number = None if _is_bool(value) or is_traced(value) else operator.index(value)
    except TypeError:
        number = None
    fits = number is not None and (least is None or number >= least)
    if number is None or not fits or (most is not None and number > most):
        limits = "" if least is None else f" of at least {least}"
        if most is not None:
            limits = f" of at most {most}" if least is None else f" from {least} to {most}"
        raise invalid(argument, _shown(value), f"an integer{limits}", remedy)
    return number


def check_size(argument: str, size: Any, least: int = 1) -> int:
    """Return `size` as an int: `check_integer` for numbers of units, steps and members."""
    return check_integer(argument, size, least, remedy="Pass a number of units, steps or members.")


def check_number(
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    infinite: bool = False,
    remedy: str = "Pass a number in that range.",
) -> Any:
    """Return `value`: a real number, of Python, NumPy or a 0-d array, within the limits.

    A traced scalar passes. NaN never does, infinity where `infinite`.

    Raises:
      ValueError: anything else.
    """
    limits: list[tuple[str, float | None, Callable[..., bool]]] = [
        ("above", above, operator.gt),
        ("at least", least, operator.ge),
        ("below", below, operator.lt),
        ("at most", most, operator.le),
    ]
    known = [limit for limit in limits if limit[1] is not None]
    expected = f"a number {' and '.join(f'{word} {limit:g}' for word, limit, _ in known)}".rstrip()
    if is_traced(value):
        if value.ndim or not is_real(value.dtype):
            raise invalid(argument, value, expected, remedy)
        return value
    try:
        ok = not _is_bool(value) and np.ndim(value) == 0 and is_real(np.asarray(value).dtype)
        number = float(value) if ok else math.nan
    except (TypeError, ValueError):
        number = math.nan
    within = all(holds(number, limit) for _, limit, holds in known)
    if not within or math.isnan(number) or (math.isinf(number) and not infinite):
        raise invalid(argument, _shown(value), expected, remedy)
    return value


def check_positive(argument: str, value: Any) -> Any:
    """Return `value`, a finite number above zero; see `check_number`."""
    return check_number(argument, value, above=0, remedy="Pass a positive number.")


def check_flag(argument: str, value: Any) -> bool:
    """Return `value` as a bool. ValueError for anything but True and False."""
    if not _is_bool(value):
        raise invalid(argument, _shown(value), "True or False", "Pass a bool.")
    return bool(value)


def choose(argument: str, name: Any, choices: Mapping[str, Choice]) -> Choice:
    """Return `choices[name]`. ValueError that lists the names for any other."""
    if not isinstance(name, str) or name not in choices:
        expected = f"one of {', '.join(choices)}"
        raise invalid(argument, describe(name), expected, "Pick one of these names.")
    return choices[name]


def check_array(
    argument: str,
    value: Any,
    shape: tuple[int | str, ...],
    *,
    kind: str = "floating",
    remedy: str = "Pass an array of that shape.",
) -> Array:
    """Return `value` as an array, once its shape and kind are known to fit.

    Args:
      argument: its name.
      value: an array of JAX or NumPy; lists and numbers are refused.
      shape: sizes, or letters for axes of any size, the same letter for the same size; one that
        begins with `*` stands for any number of axes.
      kind: "floating", "integer", "bool", "number" for the first two, or "inexact" for floats and
        complex numbers.
      remedy: the last sentence of the error.

    Raises:
      ValueError: anything else.
    """
    letters = "[" + ", ".join(map(str, shape)) + "]"
    expected = f"{'floats' if kind == 'floating' else kind} {letters}"
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    if not is_array or not _fits(tuple(value.shape), shape) or not KINDS[kind](value.dtype):
        raise invalid(argument, value, expected, remedy)
    return jnp.asarray(value)


KINDS = {
    "floating": lambda dtype: jnp.issubdtype(dtype, jnp.floating),
    "integer": lambda dtype: jnp.issubdtype(dtype, jnp.integer),
    "bool": lambda dtype: dtype == jnp.bool_,
    "number": lambda dtype: is_real(dtype),
    "inexact": lambda dtype: jnp.issubdtype(dtype, jnp.inexact),
}


def _fits(sizes: tuple[int, ...], shape: tuple[int | str, ...]) -> bool:
    starred = [i for i, letter in enumerate(shape) if str(letter).startswith("*")]
    if starred:
        (at,) = starred
        tail = len(shape) - at - 1
        if len(sizes) < len(shape) - 1:
            return False
        sizes = sizes[:at] + sizes[len(sizes) - tail :]
        shape = shape[:at] + shape[at + 1 :]
    known: dict[str, int] = {}
    return len(sizes) == len(shape) and all(
        known.setdefault(letter, size) == size if isinstance(letter, str) else letter == size
        for letter, size in zip(shape, sizes, strict=True)
    )


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_


def is_real(dtype: Any) -> bool:
    """Return whether a dtype is that of floats or integers."""
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _shown(value: Any) -> str:
    """Describe, with the value of a 0-d array, since it is the value that is wrong."""
    has_value = hasattr(value, "dtype") and not is_traced(value) and np.ndim(value) == 0
    return f"{value.dtype} {value}" if has_value else describe(value)


def check_sizes(argument: str, sizes: Any) -> tuple[int, ...]:
    """Return `sizes` of axes as a tuple of ints from 0, or of symbols of jax.export."""
    if not isinstance(sizes, tuple | list):
        raise invalid(argument, sizes, "the sizes of the batch axes", "Pass a tuple: (B,) or ().")

    known: Any = lambda size: size if is_symbolic_dim(size) else check_size(argument, size, least=0)
    return tuple(map(known, sizes))


def check_axes(argument: str, axes: Any, x: Array) -> tuple[int, ...]:
    """Return `axes` of x as ints, once they are known to exist."""
    remedy = f"Pass a tuple of numbers from {-x.ndim} to {x.ndim - 1}."
    if not isinstance(axes, tuple | list):
        raise invalid(argument, axes, f"axes of an array of {x.ndim} dimensions", remedy)
    return tuple(check_integer(argument, axis, -x.ndim, x.ndim - 1, remedy) for axis in axes)


def check_function(argument: str, value: Any, signature: str) -> Any:
    """Return `value`. ValueError that states the `signature` unless it can be called."""
    if not callable(value):
        raise invalid(argument, value, f"a function {signature}", "Pass a function.")
    return value


def check_dtype(argument: str, dtype: Any) -> Any:
    """Return `dtype`. ValueError for what is not the dtype of real floating numbers."""
    try:
        floating = dtype is not None and jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        floating = False
    if not floating:
        raise invalid(argument, dtype, "a floating dtype", "Pass jnp.float32, say.")
    return dtype


def check_key(argument: str, key: Any) -> Any:
    """Return `key`. ValueError for what is not one PRNG key, of `jax.random.key` or `PRNGKey`."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key) and shape == ()
    raw = dtype == jnp.uint32 and len(shape or ()) == 1
    if not typed and not raw:
        raise invalid(argument, key, "one key of jax.random", "Pass jax.random.key(0).")
    return key


@contextlib.contextmanager
def fitting(params: Any, called: str) -> Iterator[None]:
    """Turn an error raised inside a cell's function into one that names params and the call."""
    try:
        yield
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        if "; expected" in str(error):
            raise
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise invalid(
            "params",
            layout(params),
            "parameters that fit the cell, its state and xs",
            f"Make them by cell.init(key, I). {called} said: {said[:300]}",
        ) from error


def layout(tree: Any) -> str:
    """Describe a pytree leaf by leaf."""
    return str(jax.tree.map(describe, tree))


def as_array(value: Any) -> Any:
    """Return `value` or a list of numbers as an array; anything else as text, to be refused."""
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        return np.asarray(str(value))
