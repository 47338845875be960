"""Batches of independent examples, and the arguments that every maker of a task takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.errors import check_dtype, check_integer, check_size
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key, wide_dtype

Maker = TypeVar("Maker", bound=Callable[..., Task])


def check_common(
    T: Any,
    batch_size: Any,
    dtype: Any,
    *,
    least: int = 1,
    most: int | None = None,
    remedy: str = "Pass a number of steps.",
) -> tuple[int, int, Any]:
    """Return T, the batch size and the dtype. ValueError for what is none, or a T out of range."""
    T = check_integer("T", T, least, most, remedy)
    return T, check_size("batch_size", batch_size), check_dtype("dtype", dtype)


def of_any_length(make: Maker) -> Maker:
    """Return the maker of a task, whose tasks can then be had at another T: `Task.of_length`."""

    @functools.wraps(make)
    def maker(**given: Any) -> Task:
        return make(**given)._replace(of_length=lambda T: maker(**given | {"T": T}))

    return maker  # type: ignore[return-value]


def batch_of(
    draw: Callable[[Key], tuple[Array, Array]], batch_size: int
) -> Callable[[Key, Any], tuple[Array, Array]]:
    """Return `batch(key, step)` of independent examples.

    Args:
      draw: one example, `key -> (xs [T, I], targets [T, ...])`.
      batch_size: number of examples, B.
    """

    def batch(key: Key, step: Any) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.fold_in(key, step), batch_size)
        return jax.vmap(draw, out_axes=1)(keys)

    return batch


def uniform(key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return numbers from U[0, 1), drawn in float32 at least."""
    return jax.random.uniform(key, shape, wide_dtype(dtype)).astype(dtype)


def integers(key: Key, shape: tuple[int, ...], low: Any, high: Any) -> Array:
    """Return integers, int32, uniform in [low, high)."""
    return jax.random.randint(key, shape, low, high, jnp.int32)


def steps_of(T: int) -> Array:
    """Return 0 .. T − 1, int32."""
    return jnp.arange(T, dtype=jnp.int32)


def numbered(count: int) -> tuple[str, ...]:
    """Return the names "0", "1", ..."""
    return tuple(map(str, range(count)))
