"""φ, by name, with what the norm bound needs to know of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array


class Activation(NamedTuple):
    """φ and sup |φ'|."""

    phi: Callable[[Array], Array]
    sup_derivative: float


ACTIVATIONS = {
    "tanh": Activation(jnp.tanh, 1.0),
    "sigmoid": Activation(jax.nn.sigmoid, 0.25),
    "relu": Activation(jax.nn.relu, 1.0),
    "identity": Activation(lambda a: a, 1.0),
}
