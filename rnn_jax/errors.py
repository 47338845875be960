"""One shape for every message about bad input: argument, got, expected, remedy."""

from typing import Any


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
