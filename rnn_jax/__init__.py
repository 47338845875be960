"""Recurrent networks in JAX, and what backpropagation through time does to their gradients."""

from rnn_jax import (
    cells,
    gradients,
    graph,
    interop,
    linalg,
    losses,
    tasks,
    theory,
    topologies,
    training,
    types,
)
from rnn_jax._report import report
from rnn_jax.cell import Cell
from rnn_jax.lengths import length_mask
from rnn_jax.transforms.serialization import register_classes
from rnn_jax.unrolling.scan import Scan
from rnn_jax.unrolling.strategies import Checkpointed, Fused, Parallel
from rnn_jax.unrolling.trajectory import trajectory
from rnn_jax.unrolling.unroll import unroll

register_classes()

__version__ = "0.1.0"
__all__ = [
    "Cell",
    "Checkpointed",
    "Fused",
    "Parallel",
    "Scan",
    "cells",
    "gradients",
    "graph",
    "interop",
    "length_mask",
    "linalg",
    "losses",
    "report",
    "tasks",
    "theory",
    "topologies",
    "training",
    "trajectory",
    "types",
    "unroll",
]
