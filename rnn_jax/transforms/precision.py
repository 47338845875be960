"""Half precision over time: steps in bfloat16 or float16, sums over time in float32.

A sum of equal terms in bfloat16 stops at 256 of them, since 256 + 1 rounds to 256; and the gradient
of a parameter is a sum over all steps. So a loop closes over float32 and rounds it inside: the
transpose of that rounding passes each step's term on in float32, and the loop sums in float32.
Without half precision nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.types import Params


def is_half(dtype: Any) -> bool:
    """Return whether `dtype` is a floating dtype of two bytes or less."""
    return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4


def is_mixed(params: Params, dtype: Any) -> bool:
    """Return whether `params` are in float32 and steps, of `dtype`, in half precision."""
    precisions = {leaf.dtype for leaf in jax.tree.leaves(params) if _is_floating(leaf)}
    return is_half(dtype) and precisions == {jnp.dtype(jnp.float32)}


def as_read(params: Params, dtype: Any) -> Params:
    """Return `params` as a step with inputs of `dtype` reads them: rounded to it if mixed."""
    return cast(params, dtype) if is_mixed(params, dtype) else params


def cast(tree: Any, dtype: Any) -> Any:
    """Return `tree` with its floating leaves in `dtype`."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_floating(leaf) else leaf, tree)


def for_sums(tree: Any, like: Any = None) -> tuple[Any, Callable[[Any], Any]]:
    """Return `tree` with its half-precision leaves in float32, and the function that rounds it.

    A loop closes over the first, and its body calls the second on it. Rounded leaves have the
    dtypes of `like`, a tree of arrays or shapes, `tree` by default.
    """
    like = tree if like is None else like
    wide = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if _is_half_array(leaf) else leaf, tree
    )
    dtypes = jax.tree.map(lambda leaf: leaf.dtype if hasattr(leaf, "dtype") else None, like)

    def rounded(wide: Any) -> Any:
        def leaf(value: Any, dtype: Any):
            return value if dtype is None or value.dtype == dtype else value.astype(dtype)

        return jax.tree.map(leaf, wide, dtypes)

    return wide, rounded


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_half_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and is_half(leaf.dtype)
