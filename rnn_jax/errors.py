"""One shape for every message about bad input: argument, got, expected, remedy."""

from typing import Any

import jax.numpy as jnp

from rnn_jax.types import Array


def describe(value: Any) -> str:
    """`float32[5, 3]` for an array, the type and value of anything else."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    return f"{type(value).__name__} {value!r}"


def invalid(
    argument: str, got: Any, expected: str, remedy: str, error: type[Exception] = ValueError
) -> Exception:
    """The exception to raise for `argument`; `got` is described unless it is already text."""
    got = got if isinstance(got, str) else describe(got)
    return error(f"{argument}: got {got}; expected {expected}. {remedy}")


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
