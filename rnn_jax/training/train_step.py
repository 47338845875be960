"""One pure step of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import invalid
from rnn_jax.types import Array, Params


@flax.struct.dataclass
class TrainState:
    """All that one step of training hands to the next: `step` counts those already taken."""

    step: Array
    params: Params
    opt_state: optax.OptState


AnyTrainState = TypeVar("AnyTrainState", bound=TrainState)
TrainStep = Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]


def create_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
    loss: Callable[[Params, Any], Array],
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
    mesh: Mesh | None = None,
    batch_spec: Any = PartitionSpec(None, "batch"),
) -> TrainStep:
    """`train_step(state, batch) -> (state, metrics)`: pure, to be jitted, vmapped or exported.

    Args:
      loss: `(params, batch) -> scalar`.
      optimizer: any of optax; the one that `create_train_state` was given.
      clip_norm: the gradient is scaled down to this global norm where it is larger, before the
        optimizer sees it (Pascanu, Mikolov and Bengio 2013, algorithm 1); None to leave it.
      mesh: devices that share each batch (`batch_mesh`); the loss must then be a mean over
        examples. Loss and gradients are averaged over devices once, after each has gone through
        all steps of its part.
      batch_spec: with a mesh, which axis of each array of a batch is shared: a `PartitionSpec`, or
        a pytree of them that is a prefix of the batch; by default the second axis, as in
        time-major arrays.

    Returns:
      The step. Its metrics are scalars: `loss`; `grad_norm`, the global norm before clipping;
      `clipped`, 1 where the norm was scaled down, whose mean is the clip rate.

    Raises:
      ValueError: a clip norm that is not positive; a batch that the devices cannot share evenly.
    """
    update = make_update(optimizer, clip_norm)
    value_and_grad = jax.value_and_grad(loss)
    if mesh is not None:
        value_and_grad = _shared(value_and_grad, mesh, batch_spec)

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        value, grads = value_and_grad(state.params, batch)
        state, metrics = update(state, grads)
        return state, {"loss": value, **metrics}

    return train_step


def make_update(
    optimizer: optax.GradientTransformation, clip_norm: float | None
) -> Callable[[AnyTrainState, Params], tuple[AnyTrainState, dict[str, Array]]]:
    """`(state, gradient) -> (state after the optimizer's step, metrics without the loss)`.

    The arguments, the errors and the metrics are those of `make_train_step`.
    """
    if clip_norm is not None and not clip_norm > 0:
        raise invalid("clip_norm", clip_norm, "a positive norm or None", "None does not clip.")

    def update(state: AnyTrainState, grads: Params) -> tuple[AnyTrainState, dict[str, Array]]:
        grad_norm = optax.tree.norm(grads)
        clipped = jnp.zeros_like(grad_norm)
        if clip_norm is not None:
            grads, _ = optax.clip_by_global_norm(clip_norm).update(grads, optax.EmptyState())
            clipped = (grad_norm > clip_norm).astype(grad_norm.dtype)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = replace(state, step=state.step + 1, params=params, opt_state=opt_state)
        return state, {"grad_norm": grad_norm, "clipped": clipped}

    return update


def batch_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices, all local ones by default, in a row named "batch"."""
    return Mesh(np.array(jax.local_devices() if devices is None else devices), ("batch",))


def _shared(value_and_grad, mesh, batch_spec):
    """`value_and_grad`, each device taking its part of the batch."""

    def of_a_part(params, batch):
        return jax.lax.pmean(value_and_grad(params, batch), mesh.axis_names)

    replicated = PartitionSpec()
    return jax.shard_map(
        of_a_part,
        mesh=mesh,
        in_specs=(replicated, batch_spec),
        out_specs=replicated,
        check_vma=False,
    )
