"""From a gradient to the next state: clipping, the optimizer, and steps that are skipped."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax

from rnn_jax.errors import check_number
from rnn_jax.training.checks import check_optimizer
from rnn_jax.training.clipping import GlobalNorm, global_norm, scale_down
from rnn_jax.training.scopes import OPTIMIZER, setting
from rnn_jax.training.train_state import TrainState, check_same_optimizer
from rnn_jax.types import Array, Params

Update = Callable[..., tuple[TrainState, dict[str, Array]]]


def make_update(
    optimizer: optax.GradientTransformation, clip_norm: float | None, clip_value: float | None
) -> Update:
    """Return `(state, gradient, value, value_fn) -> (state after the update, metrics)`.

    `value` is the loss and `value_fn` `params -> loss`, for optimizers that ask for them. The other
    arguments, the errors and the metrics, which `loss` is not among, are those of
    `make_train_step`.
    """
    check_optimizer(optimizer)
    for name, level in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if level is not None:
            remedy = "Pass a positive number, or None, which does not clip."
            check_number(name, level, above=0, infinite=True, remedy=remedy)
    extended = optax.with_extra_args_support(optimizer)

    def update(
        state: TrainState, grads: Params, value: Array, value_fn: Callable[[Params], Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        check_same_optimizer(optimizer, state)
        norm = global_norm(grads)
        is_finite = norm.is_finite
        # Zeros in place of what is not finite: an update that will not be used should not have to
        # be computed from NaN.
        grads = jax.tree.map(lambda g: jnp.where(is_finite, g, jnp.zeros_like(g)), grads)
        before_clipping, is_clipped, clipping = grads, jnp.zeros((), bool), norm
        if clip_value is not None:
            with setting("clip_value", clip_value):
                grads, is_clipped = _limit(grads, clip_value)
            clipping = global_norm(grads)
        if clip_norm is not None:
            with setting("clip_norm", clip_norm):
                grads, is_longer = _clip(grads, clipping, clip_norm)
                is_clipped |= is_longer & is_finite
        # Checkpoints tell the optimizer's operations by this scope (`training.fingerprint`).
        with jax.named_scope(OPTIMIZER):
            extra = {"value": value, "grad": before_clipping, "value_fn": value_fn}
            updates, opt_state = extended.update(grads, state.opt_state, state.params, **extra)
            params = optax.apply_updates(state.params, updates)
        # A skipped step must not move the optimizer's moments either: zeros would decay them.
        keep = functools.partial(_where, is_finite)
        params, opt_state = jax.tree.map(keep, (params, opt_state), (state.params, state.opt_state))
        state = replace(state, step=state.step + 1, params=params, opt_state=opt_state)
        number = lambda flag: flag.astype(norm.value.dtype)
        metrics = {"clipped": number(is_clipped), "skipped": number(~is_finite)}
        return state, {"grad_norm": norm.value, **metrics, **_learning_rate(opt_state)}

    return update


def _limit(grads: Params, clip_value: float) -> tuple[Params, Array]:
    """Return g with each number, of a complex one each part, in ±clip_value; whether any was not.

    The level is rounded to the dtype of each leaf.
    """

    def limited(leaf: Array) -> Array:
        if jnp.iscomplexobj(leaf):
            return jax.lax.complex(limited(leaf.real), limited(leaf.imag))
        # To infinity nothing is rounded: the largest number limits nothing either.
        most = jnp.minimum(clip_value, float(jnp.finfo(leaf.dtype).max)).astype(leaf.dtype)
        return jnp.clip(leaf, -most, most)

    after = jax.tree.map(limited, grads)
    changed = [(a != b).any() for a, b in zip(*map(jax.tree.leaves, (grads, after)), strict=True)]
    return after, functools.reduce(jnp.logical_or, changed, jnp.zeros((), bool))


def _learning_rate(opt_state: optax.OptState) -> dict[str, Array]:
    """Return the learning rate of this step where `optax.inject_hyperparams` says it, once."""
    says = lambda node: hasattr(node, "hyperparams")
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=says) if says(node)]
    rates = [s.hyperparams["learning_rate"] for s in states if "learning_rate" in s.hyperparams]
    return {"learning_rate": rates[0]} if len(rates) == 1 else {}


def _clip(grads: Params, norm: GlobalNorm, clip_norm: float) -> tuple[Params, Array]:
    """Return g, scaled down to `clip_norm` where its norm is larger, and whether it was."""
    most = jnp.asarray(clip_norm).astype(norm.value.dtype)
    is_clipped = norm.is_finite & (norm.value > most)
    # Selected, not multiplied by min(1, clip_norm / ‖g‖): what is not clipped keeps its bits.
    select = functools.partial(jax.lax.select, is_clipped)
    return jax.tree.map(select, scale_down(grads, norm, most), grads), is_clipped


def _where(condition: Array, new: Array, old: Array) -> Array:
    """Return the new leaf or the old one, in the new one's dtype."""
    old = jnp.asarray(old)
    return jnp.where(condition, new, old if old.dtype == new.dtype else old.astype(new.dtype))
