"""A loss and its gradient, in the one form that every train step is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.unroll import unroll

Unroll = Callable[..., tuple[State, Array]]
Loss = Callable[[Params, State, Any, Unroll], tuple[Array, State]]
"""`(params, carried, batch, unroll) -> (L, what is carried on)`."""
Gradient = Callable[[Params, State, Any], tuple[tuple[Array, Params], State, Any]]
"""`(params, carried, batch) -> ((L, ∂L/∂params), what is carried on, StateGradients or None)`."""


def value_and_grad(loss: Loss) -> Gradient:
    """Return L and the whole of its gradient, without StateGradients."""
    run = jax.value_and_grad(loss, has_aux=True)

    def gradient(params: Params, carried: State, batch: Any):
        (value, carried), grads = run(params, carried, batch, unroll)
        return (value, grads), carried, None

    return gradient
