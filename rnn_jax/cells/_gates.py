"""Gates: the parts of a pre-activation, each with its activation and its name."""

from __future__ import annotations

from collections.abc import Callable

import jax

from rnn_jax.types import Array


def split_gates(a: Array, count: int) -> list[Array]:
    """Split `a [.., count H]` into its gates, each `[.., H]`."""
    # Not `jnp.split`, whose gradient pads each gate with zeros and adds: that of `lax.split` is one
    # concatenation.
    return list(jax.lax.split(a, [a.shape[-1] // count] * count, axis=a.ndim - 1))


def gates(a: Array, **activations: Callable[[Array], Array]) -> list[Array]:
    """Return each gate of `a [.., G H]` by its name: i, g of `gates(a, i=sigmoid, g=tanh)`."""
    # A named scope adds no operation. Compilers carry it along, so that a profile shows the time of
    # gate f as `f`, and `rnn_jax.graph` labels the result with it.
    values = []
    for (name, activation), part in zip(
        activations.items(), split_gates(a, len(activations)), strict=True
    ):
        with jax.named_scope(name):
            values.append(activation(part))
    return values
