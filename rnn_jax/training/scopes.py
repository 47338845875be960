"""Names that train steps write into their programs, which checkpoints and profilers read.

`jax.named_scope` marks operations without changing them, and survives `jit`, `vmap`, `shard_map`
and any function that a user wraps around a train step.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import jax
import numpy as np

from rnn_jax.errors import is_traced

OPTIMIZER = "optimizer_update"
"""Scope of the optimizer's own operations."""
SHARED = "mean_over_devices"
"""Scope of what devices that share a batch do with their parts."""


def setting(name: str, value: Any) -> contextlib.AbstractContextManager:
    """Return a scope that says `name=value` of its operations; a traced value is left out."""
    if is_traced(value):
        return jax.named_scope(name)
    number = float(np.asarray(value))
    # No slash may stand in the name of a scope, and no two numbers may share one.
    return jax.named_scope(f"{name}={number!r}" if math.isfinite(number) else f"{name}=inf")
