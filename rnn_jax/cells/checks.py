"""What the cells' public edges refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import jax.numpy as jnp

from rnn_jax.errors import describe, invalid
from rnn_jax.types import Array

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
