"""What the cells' public edges refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from rnn_jax.errors import invalid

Choice = TypeVar("Choice")


def check_size(argument: str, size: int, least: int = 1) -> None:
    """Raise ValueError unless `size` is an integer of at least `least`."""
    if not isinstance(size, int) or isinstance(size, bool) or size < least:
        raise invalid(argument, size, f"an integer of at least {least}", "Pass a size in units.")


def choose(argument: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    """`choices[name]`, or a ValueError that lists the names."""
    if name not in choices:
        raise invalid(argument, name, f"one of {', '.join(choices)}", "Pick one of these names.")
    return choices[name]


def check_positive(argument: str, value: float) -> None:
    """Raise ValueError unless `value` is a number above zero."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise invalid(argument, value, "a number above zero", "Pass a positive number.")
