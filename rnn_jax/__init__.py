"""Recurrent networks in JAX, and what backpropagation through time does to their gradients."""

from rnn_jax import cells, gradients, linalg, losses, tasks, training, types
from rnn_jax.types import Cell
from rnn_jax.unroll import length_mask, trajectory, unroll

__version__ = "0.1.0"
__all__ = [
    "Cell",
    "cells",
    "gradients",
    "length_mask",
    "linalg",
    "losses",
    "tasks",
    "training",
    "trajectory",
    "types",
    "unroll",
]
