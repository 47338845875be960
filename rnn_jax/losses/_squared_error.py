"""Squared error of one step."""

from __future__ import annotations

from rnn_jax.losses.arguments import check_same_shape
from rnn_jax.types import Array


def squared_error(y: Array, target: Array) -> Array:
    """Return E_t = ½ Σ_o (y_o − target_o)²; both `[*batch, O]`.

    Raises:
      ValueError: shapes that differ; a y that is no array of floats, a target that is none of
        numbers.
    """
    y, target = check_same_shape("y", y, target)
    # ½ d first: d² may be out of range where ½ d² is not.
    d = y - target
    return (d * (0.5 * d)).sum(-1)


def mean_squared_error(y: Array, target: Array) -> Array:
    """Return E_t = 1/O Σ_o (y_o − target_o)²; both `[*batch, O]`.

    Raises:
      ValueError: what `squared_error` raises.
    """
    y, target = check_same_shape("y", y, target)
    d = y - target
    return (d * (d / max(d.shape[-1], 1))).sum(-1)
