"""The frame of tangent vectors that Lyapunov spectra and vectors start from."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnn_jax.gradients.step.linearized_step import flat_state
from rnn_jax.linalg.orthonormalization import orthonormalize
from rnn_jax.types import Array, Key, State, at_least_float32


def initial_frame(key: Key | None, start: State, batch_ndim: int, K: int) -> Array:
    """Return orthonormalized Gaussian columns `[*batch, S, K]`, the same for all examples."""
    h = at_least_float32(flat_state(start, batch_ndim))
    key = jax.random.key(0) if key is None else key
    Q, _ = orthonormalize(jax.random.normal(key, (h.shape[-1], K), h.dtype))
    return jnp.broadcast_to(Q, (*h.shape[:-1], *Q.shape))
