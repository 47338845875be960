"""The rate at which norms fall with the lag."""

from __future__ import annotations

import jax.numpy as jnp

from rnn_jax.errors import check_array
from rnn_jax.types import Array, at_least_float32


def decay_rate(log_norms: Array) -> Array:
    """Fit the nats per step by which ‖∂h_t/∂h_k‖ changes: `[T+1, T+1, *batch] -> [*batch]`.

    The least-squares slope of ln ‖∂h_t/∂h_k‖ on t − k over all pairs t > k with a norm above zero;
    negative for a vanishing gradient. NaN where fewer than two lags have one.

    Raises:
      ValueError: what is no square table of floats, such as a profile by lag.
    """
    remedy = "Pass a table at [t, k], such as jacobian_log_norms returns."
    log_norms = check_array("log_norms", log_norms, ("T+1", "T+1", "*batch"), remedy=remedy)
    dtype, log_norms = log_norms.dtype, at_least_float32(log_norms)
    states = jnp.arange(log_norms.shape[0])
    lag = states[:, None] - states[None, :]
    lag = lag.reshape(*lag.shape, *[1] * (log_norms.ndim - 2)).astype(log_norms.dtype)
    use = (lag > 0) & ~jnp.isneginf(log_norms)
    x, y = (jnp.where(use, values, 0) for values in (jnp.broadcast_to(lag, use.shape), log_norms))
    count = use.sum((0, 1)).astype(log_norms.dtype)
    x = jnp.where(use, x - x.sum((0, 1)) / count, 0)
    return ((x * y).sum((0, 1)) / (x * x).sum((0, 1))).astype(dtype)
