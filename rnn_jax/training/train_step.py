"""One pure step of training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import check_function, check_number
from rnn_jax.training._batch_mesh import share
from rnn_jax.training.checks import (
    check_mesh,
    check_optimizer,
    check_params,
    check_scalar,
    check_state,
)
from rnn_jax.training.clipping import global_norm, scale_down
from rnn_jax.training.scopes import OPTIMIZER, setting
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
    """Return the state before the first step.

    Raises:
      ValueError: params that are no pytree of floating arrays; an optimizer that is none.
    """
    check_optimizer(optimizer)
    check_params(params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(
    loss: Callable[[Params, Any], Array],
    optimizer: optax.GradientTransformation,
    *,
    clip_norm: float | None = None,
    mesh: Mesh | None = None,
    batch_spec: Any = PartitionSpec(None, "batch"),
) -> TrainStep:
    """Return `train_step(state, batch) -> (state, metrics)`, to be jitted, vmapped or exported.

    A gradient with a number that is not finite moves nothing: parameters and the optimizer's state
    stay as they were, `step` goes on, and the metric `skipped` says so. Under `vmap` each network
    is skipped by itself.

    Args:
      loss: `(params, batch) -> scalar`.
      optimizer: any of optax; the one that `create_train_state` was given. One that asks for them
        (`optax.contrib.reduce_on_plateau`, `optax.polyak_sgd`, `optax.lbfgs`) is handed optax's
        extra arguments: `value`, the loss; `grad`, the gradient before clipping; `value_fn`,
        `params -> loss` on the same batch.
      clip_norm: the gradient is scaled down to this global norm where it is larger, before the
        optimizer sees it (Pascanu, Mikolov and Bengio 2013, algorithm 1); None to leave it. The
        direction is right for any finite gradient, also where its norm overflows.
      mesh: devices that share each batch (`batch_mesh`); the loss must then be a mean over
        examples. Loss and gradients are averaged over devices once, after each has gone through
        all steps of its part.
      batch_spec: with a mesh, which axis of each array of a batch is shared: a `PartitionSpec`, or
        a pytree of them that is a prefix of the batch; by default the second axis, as in
        time-major arrays.

    Returns:
      The step. Its metrics are scalars: `loss`; `grad_norm`, the global norm before clipping, in
      float32 at least, and inf beyond its largest number; `clipped`, 1 where the norm was scaled
      down, whose mean is the clip rate; `skipped`, 1 where the gradient was not finite.

    Raises:
      ValueError: a loss or a mesh that is none; an optimizer without `init` and `update`; a clip
        norm that is not positive; a loss that is not a scalar; a state that is no TrainState; a
        batch that the devices cannot share evenly.
    """
    check_function("loss", loss, "(params, batch) -> scalar")
    update = make_update(optimizer, clip_norm)
    check_mesh(mesh)

    def value_of(params: Params, batch: Any) -> Array:
        return check_scalar("loss", loss(params, batch))

    value_and_grad = jax.value_and_grad(value_of)
    if mesh is not None:
        value_and_grad = share(value_and_grad, mesh, batch_spec)
        value_of = share(value_of, mesh, batch_spec)

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        check_state(state, TrainState, "create_train_state")
        value, grads = value_and_grad(state.params, batch)
        state, metrics = update(state, grads, value, lambda params: value_of(params, batch))
        return state, {"loss": value, **metrics}

    return train_step


def make_update(
    optimizer: optax.GradientTransformation, clip_norm: float | None
) -> Callable[..., tuple[AnyTrainState, dict[str, Array]]]:
    """Return `(state, gradient, value, value_fn) -> (state after the update, metrics)`.

    `value` is the loss and `value_fn` `params -> loss`, for optimizers that ask for them. The other
    arguments, the errors and the metrics, which `loss` is not among, are those of
    `make_train_step`.
    """
    check_optimizer(optimizer)
    if clip_norm is not None:
        remedy = "Pass a positive norm, or None, which does not clip."
        check_number("clip_norm", clip_norm, above=0, infinite=True, remedy=remedy)
    extended = optax.with_extra_args_support(optimizer)

    def clip(grads: Any, norm: Any):
        most = jnp.asarray(clip_norm).astype(norm.value.dtype)
        is_clipped = norm.is_finite & (norm.value > most)
        select = functools.partial(jax.lax.select, is_clipped)
        return jax.tree.map(select, scale_down(grads, norm, most), grads), is_clipped

    def update(
        state: AnyTrainState, grads: Params, value: Array, value_fn: Callable[[Params], Array]
    ) -> tuple[AnyTrainState, dict[str, Array]]:
        norm = global_norm(grads)
        is_finite = norm.is_finite
        # Zeros in place of what is not finite: an update that will not be used should not have to
        # be computed from NaN.
        grads = jax.tree.map(lambda g: jnp.where(is_finite, g, jnp.zeros_like(g)), grads)
        before_clipping, is_clipped = grads, jnp.zeros((), bool)
        if clip_norm is not None:
            with setting("clip_norm", clip_norm):
                grads, is_clipped = clip(grads, norm)
        with jax.named_scope(OPTIMIZER):
            extra = {"value": value, "grad": before_clipping, "value_fn": value_fn}
            updates, opt_state = extended.update(grads, state.opt_state, state.params, **extra)
            params = optax.apply_updates(state.params, updates)
        keep = functools.partial(_where, is_finite)
        params, opt_state = jax.tree.map(keep, (params, opt_state), (state.params, state.opt_state))
        state = replace(state, step=state.step + 1, params=params, opt_state=opt_state)
        number = lambda flag: flag.astype(norm.value.dtype)
        metrics = {"clipped": number(is_clipped), "skipped": number(~is_finite)}
        return state, {"grad_norm": norm.value, **metrics}

    return update


def _where(condition: Array, new: Array, old: Array) -> Array:
    old = jnp.asarray(old)
    return jnp.where(condition, new, old if old.dtype == new.dtype else old.astype(new.dtype))
