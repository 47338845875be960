"""Sequences of different lengths in one array."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from rnn_jax.types import Array


def length_mask(lengths: Array, T: int) -> Array:
    """`[T, *batch]`, True at the steps that belong to the example: t < lengths."""
    steps = jnp.arange(T).reshape(T, *[1] * jnp.ndim(lengths))
    return steps < jnp.asarray(lengths)[None]


def select(condition: Array, if_true: Array, if_false: Any) -> Array:
    """`where` with a condition `[*lead]` over arrays `[*lead, ...]`, in the dtype of `if_true`."""
    condition = condition.reshape(*condition.shape, *[1] * (if_true.ndim - condition.ndim))
    return jnp.where(condition, if_true, jnp.asarray(if_false, if_true.dtype))
