"""One shape for every message about bad input: argument, got, expected, remedy.

Values are checked where they can be seen: outside `jit`, and for what is static inside it. A traced
value is checked by its shape and dtype alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

Choice = TypeVar("Choice")


def describe(value: Any) -> str:
    """`float32[5, 3]` for an array, the type and value of anything else, in one line."""
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
    """Return whether `value` has no value yet, being traced by `jit`, `vmap` or `grad`."""
    return isinstance(value, jax.core.Tracer)


def check_integer(
    argument: str,
    value: Any,
    least: int | None = 1,
    most: int | None = None,
    remedy: str = "Pass a whole number.",
) -> int:
    """Return `value` as an int; a NumPy integer and a 0-d integer array are as good as one.

    Raises:
      ValueError: no integer, a bool, or one that is not from `least` to `most`.
    """
    try:
        number = None if _is_bool(value) or is_traced(value) else operator.index(value)
    except TypeError:
        number = None
    low = number is not None and (least is None or number >= least)
    if number is None or not low or (most is not None and number > most):
        match least, most:
            case None, None:
                limits = ""
            case _, None:
                limits = f" of at least {least}"
            case None, _:
                limits = f" of at most {most}"
            case _:
                limits = f" from {least} to {most}"
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
    expected = " and ".join(
        f"{word} {limit:g}"
        for word, limit in (
            ("above", above),
            ("at least", least),
            ("below", below),
            ("at most", most),
        )
        if limit is not None
    )
    expected = f"a number {expected}".rstrip()
    if is_traced(value):
        if value.ndim or not _is_real(value.dtype):
            raise invalid(argument, value, expected, remedy)
        return value
    try:
        ok = not _is_bool(value) and np.ndim(value) == 0 and _is_real(np.asarray(value).dtype)
        number = float(value) if ok else math.nan
    except (TypeError, ValueError):
        number = math.nan
    if (
        math.isnan(number)
        or (math.isinf(number) and not infinite)
        or (above is not None and not number > above)
        or (least is not None and not number >= least)
        or (below is not None and not number < below)
        or (most is not None and not number <= most)
    ):
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
        raise invalid(
            argument, describe(name), f"one of {', '.join(choices)}", "Pick one of these names."
        )
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
      value: an array of JAX or NumPy. Lists and numbers are not taken for arrays.
      shape: sizes, or letters for axes of any size, the same letter for the same size; one that
        begins with `*` stands for any number of axes.
      kind: "floating", "integer", "bool", or "number" for the first two.

    Raises:
      ValueError: anything else.
    """
    letters = "[" + ", ".join(map(str, shape)) + "]"
    expected = f"{'floats' if kind == 'floating' else kind} {letters}"
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise invalid(argument, value, expected, remedy)
    if not _fits(tuple(value.shape), shape) or not KINDS[kind](value.dtype):
        raise invalid(argument, value, expected, remedy)
    return jnp.asarray(value)


KINDS = {
    "floating": lambda dtype: jnp.issubdtype(dtype, jnp.floating),
    "integer": lambda dtype: jnp.issubdtype(dtype, jnp.integer),
    "bool": lambda dtype: dtype == jnp.bool_,
    "number": lambda dtype: _is_real(dtype),
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


def _is_real(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)


def _shown(value: Any) -> str:
    """`describe`, and the value of a 0-d array, which is what is wrong with it."""
    has_value = hasattr(value, "dtype") and not is_traced(value) and np.ndim(value) == 0
    return f"{value.dtype} {value}" if has_value else describe(value)


def check_input(x: Array, U: Array) -> None:
    """Raise ValueError unless `x [*batch, I]` is floating and fits `U [.., I]`."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise invalid("xs", x, f"{U.dtype} numbers", "Symbols enter as jax.nn.one_hot(symbols, I).")
    if x.shape[-1] != U.shape[-1]:
        raise invalid(
            "xs",
            f"{describe(x)} at one step",
            f"[*batch, {U.shape[-1]}], the input size that params were made for",
            "Pass xs [T, *batch, I], or params = cell.init(key, I) for this I.",
        )
