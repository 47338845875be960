"""Checks of the outputs and targets of a loss."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_array, describe, invalid, is_traced
from rnn_jax.lengths import select
from rnn_jax.types import Array

FLOATS = "Pass floats, as a cell puts them out."
SAME = "Bring the targets into the shape of the outputs; nothing is broadcast here."


def check_outputs(argument: str, y: Any) -> Array:
    """Return `y [*batch, O]`. ValueError for what are no floats."""
    return check_array(argument, y, ("*batch", "O"), remedy=FLOATS)


def check_targets(target: Any, argument: str = "target") -> Any:
    """Return the target. ValueError for what is no array."""
    if not (hasattr(target, "dtype") and hasattr(target, "shape")):
        raise invalid(argument, target, "an array", "Convert it with jnp.asarray.")
    return target


def check_same_shape(argument: str, y: Any, target: Any) -> tuple[Array, Array]:
    """Return both in their wider dtype.

    Raises:
      ValueError: a y that is no array of floats; a target that is none of numbers of its shape.
    """
    y = check_outputs(argument, y)
    expected = f"the shape of the output, {describe(y)}"
    if check_targets(target).shape != y.shape:
        raise invalid("target", target, expected, SAME)
    target = check_array("target", target, y.shape, kind="number", remedy="Pass numbers.")
    dtype = y.dtype
    if jnp.issubdtype(target.dtype, jnp.floating) and target.dtype != dtype:
        # bfloat16 and float16 are as wide as each other, and neither holds the other's numbers.
        wide, narrow = target.dtype.itemsize, dtype.itemsize
        dtype = jnp.float32 if wide == narrow else target.dtype if wide > narrow else dtype
    return y.astype(dtype), target.astype(dtype)


def where_known(values: Any, known: Any, argument: str, got: Any, expected: Any):
    """Return `values`, NaN where `known [*batch]` is False; raise an error if that can be seen."""
    if is_traced(known):
        # A factor, so that the gradient is NaN too: a select would let none through.
        return values * select(known, jnp.ones_like(values), jnp.nan)
    if not np.all(known):
        remedy = "Mask what is no example with per_step(mask=...), or leave it out."
        if is_traced(got):
            raise invalid(argument, got, expected, remedy)
        wrong = np.asarray(got)[~np.asarray(known)].ravel()
        wrong = wrong[:3].tolist()
        raise invalid(argument, f"{describe(got)} with {wrong} in it", expected, remedy)
    return values
