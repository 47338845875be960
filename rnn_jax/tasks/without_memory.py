"""The best answers of a network without memory, one that knows only t and x_t.

Where the distribution of a task is known, so is that answer: the conditional distribution of the
target given t and x_t. Its loss is the conditional entropy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

LEAST = 1e-30
"""Probability that stands for 0, so that logits are finite; ln LEAST = −69."""
NEVER = float(np.log(LEAST))
"""Logit of what cannot be."""


def constant(y: Any) -> Callable[[Array], Array]:
    """Return the answer y `[O]` at every step: `xs [T, B, I] -> [T, B, O]`."""
    y = np.asarray(y, float)

    def chance(xs: Array) -> Array:
        return jnp.broadcast_to(jnp.asarray(y, xs.dtype), (*xs.shape[:2], y.size))

    return chance


def from_table(table: np.ndarray) -> Callable[[Array], Array]:
    """Return the answer `table[t, x_t]`: x_t is one-hot, and the table `[T, X, O]`.

    A table `[T, 1, O]` does not depend on x_t.
    """

    def chance(xs: Array) -> Array:
        symbols = xs.argmax(-1) if table.shape[1] > 1 else jnp.zeros(xs.shape[:2], int)
        return jnp.asarray(table, xs.dtype)[jnp.arange(len(xs))[:, None], symbols]

    return chance


def first_step_only(xs: Array) -> Array:
    """Return the answer to running products of one-hot x_t: x_0 at t = 0, nothing afterwards."""
    return (-NEVER * xs).at[1:].set(0)


def class_answer(joint: np.ndarray) -> tuple[Callable[[Array], Array], float]:
    """Return ln p(class | t, x_t), as an answer, and its mean cross-entropy.

    Args:
      joint: `[T, X, O]`, the probability that step t counts, shows symbol x and asks for class o.
    """
    seen = joint.sum(-1, keepdims=True)
    log_p = _log(joint / np.where(seen > 0, seen, 1))
    return from_table(log_p), float(-(joint * log_p).sum() / joint.sum())


def set_answer(seen: np.ndarray, joint: np.ndarray) -> tuple[Callable[[Array], Array], float]:
    """Return the logits of p(o in the set | t, x_t), as an answer, and its mean cross-entropy.

    Args:
      seen: `[T, X]`, the probability that step t counts and shows symbol x.
      joint: `[T, X, O]`, that it does and that o is in the set of its target.
    """
    joint = np.minimum(joint, seen[..., None])
    p = joint / np.where(seen > 0, seen, 1)[..., None]
    p = np.where(p > 1 - 1e-12, 1.0, p)  # what rounding leaves of a certainty
    logits = _log(p) - _log(1 - p)
    entropy = -(p * _log(p) + (1 - p) * _log(1 - p)).sum(-1)
    return from_table(logits), float((seen * entropy).sum() / seen.sum())


def _log(p: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(p, LEAST))
