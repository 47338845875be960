"""One pure step of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rnn_jax.errors import invalid
from rnn_jax.types import Array, Params


@flax.struct.dataclass
class TrainState:
    """All that one step of training hands to the next: `step` counts those already taken."""

    step: Array
    params: Params
    opt_state: optax.OptState


TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]


def create_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
    loss: Callable[[Params, Any], Array],
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
) -> TrainStep:
    """`train_step(state, batch) -> (state, metrics)`: pure, to be jitted, vmapped or exported.

    Args:
      loss: `(params, batch) -> scalar`.
      optimizer: any of optax; the one that `create_train_state` was given.
      clip_norm: the gradient is scaled down to this global norm where it is larger, before the
        optimizer sees it (Pascanu, Mikolov and Bengio 2013, algorithm 1); None to leave it.

    Returns:
      The step. Its metrics are scalars: `loss`; `grad_norm`, the global norm before clipping;
      `clipped`, 1 where the norm was scaled down, whose mean is the clip rate.

    Raises:
      ValueError: a clip norm that is not positive.
    """
    if clip_norm is not None and not clip_norm > 0:
        raise invalid("clip_norm", clip_norm, "a positive norm or None", "None does not clip.")

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        value, grads = jax.value_and_grad(loss)(state.params, batch)
        grad_norm = optax.tree.norm(grads)
        clipped = jnp.zeros_like(grad_norm)
        if clip_norm is not None:
            grads, _ = optax.clip_by_global_norm(clip_norm).update(grads, optax.EmptyState())
            clipped = (grad_norm > clip_norm).astype(grad_norm.dtype)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": value, "grad_norm": grad_norm, "clipped": clipped}
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step
