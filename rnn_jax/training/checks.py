"""Argument checks that only training asks for; the others are in `rnn_jax.errors`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rnn_jax.errors import describe, invalid
from rnn_jax.types import Array


def check_optimizer(optimizer: Any) -> None:
    """Raise ValueError unless `optimizer` has the two functions of one of optax."""
    if not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
        remedy = "Pass one of optax, such as optax.adam(1e-3)."
        raise invalid("optimizer", optimizer, "an optax.GradientTransformation", remedy)


def check_params(params: Any) -> None:
    """Raise ValueError unless `params` is a pytree of floating or complex arrays, with a leaf."""
    leaves = jax.tree.leaves(params)
    expected, remedy = "a pytree of floating arrays", "Pass what cell.init(key, I) returns."
    if not leaves:
        raise invalid("params", params, f"{expected}, at least one", remedy)
    for leaf in leaves:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise invalid("params", f"a leaf {describe(leaf)}", expected, remedy)


def check_scalar(argument: str, value: Any) -> Array:
    """Return `value` as an array. ValueError unless it is one real floating number."""
    array = jnp.asarray(value) if hasattr(value, "dtype") or isinstance(value, float) else None
    if array is None or array.shape != () or not jnp.issubdtype(array.dtype, jnp.floating):
        remedy = "Take the mean over steps and examples, of floating numbers."
        raise invalid(argument, f"one that returns {describe(value)}", "one number", remedy)
    return array


def check_mesh(mesh: Any) -> None:
    """Raise ValueError unless `mesh` is a Mesh or None."""
    if mesh is not None and not isinstance(mesh, Mesh):
        raise invalid("mesh", mesh, "a jax.sharding.Mesh or None", "Pass training.batch_mesh().")
