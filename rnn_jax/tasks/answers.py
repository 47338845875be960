"""When an answer of one step is right, and when those of a sequence are."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from rnn_jax.errors import invalid
from rnn_jax.lengths import select
from rnn_jax.types import Array, at_least_float32


def is_largest(y: Array, target: Array) -> Array:
    """Return whether y_target > y_o for every other o: `y [*batch, O]`, classes `[*batch]`.

    A tie is no answer, and neither is NaN.

    Raises:
      ValueError: a target that is no array of classes, integers `[*batch]`.
    """
    if not jnp.issubdtype(target.dtype, jnp.integer) or target.shape != y.shape[:-1]:
        expected = f"classes {list(y.shape[:-1])}"
        raise invalid("target", target, expected, "Give the Task a `correct` of its own.")
    classes = jnp.arange(y.shape[-1], dtype=target.dtype)
    own = jnp.take_along_axis(y, target[..., None], axis=-1)
    return ((own > y) | (classes == target[..., None])).all(-1) & ~jnp.isnan(own[..., 0])


def is_the_set(y: Array, target: Array) -> Array:
    """Return whether y_o > 0 where target_o is 1, and y_o < 0 where it is 0; both `[*batch, O]`."""
    return jnp.where(target > 0.5, y > 0, y < 0).all(-1)


def within(tolerance: float) -> Callable[[Array, Array], Array]:
    """Return the criterion |y_o − target_o| < tolerance for every o; both `[*batch, O]`."""

    def is_close(y: Array, target: Array) -> Array:
        return (jnp.abs(y - target.astype(y.dtype)) < tolerance).all(-1)

    return is_close


def root_mean_square_within(tolerance: float) -> Callable[[Array, Array, Array], Array]:
    """Return the criterion of a sequence: root of the mean squared error of its counted steps.

    The mean is over steps and outputs: `(ys [T, B, O], targets [T, B, O], mask [T, B]) -> [B]`.
    """

    def is_close(ys: Array, targets: Array, mask: Array) -> Array:
        ys = at_least_float32(ys)
        squares = select(mask, jnp.square(ys - targets.astype(ys.dtype)), 0).mean(-1)
        return squares.sum(0) < tolerance**2 * mask.sum(0).astype(ys.dtype)

    return is_close
