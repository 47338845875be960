"""E_t, one step's loss, and what is read of it over a sequence.

A step's loss is any `loss(y [*batch, O], target) -> E_t [*batch]`; `per_step` and `last_step` apply
one to a sequence. E = Σ_t E_t.
"""

from __future__ import annotations

import jax.numpy as jnp
import optax

from rnn_jax.errors import describe, invalid
from rnn_jax.lengths import select
from rnn_jax.types import Array, StepLoss


def squared_error(y: Array, target: Array) -> Array:
    """E_t = ½ Σ_o (y_o − target_o)²; both `[*batch, O]`. ValueError if the shapes differ."""
    _check_same_shape(y, target)
    return optax.l2_loss(y, target).sum(-1)


def bernoulli_cross_entropy(logits: Array, target: Array) -> Array:
    """E_t = −Σ_o [target_o ln ŷ_o + (1 − target_o) ln(1 − ŷ_o)], ŷ = σ(logits), in nats.

    Both `[*batch, O]`, targets in [0, 1]; finite for any finite logit. ValueError if the shapes
    differ.
    """
    _check_same_shape(logits, target)
    return optax.sigmoid_binary_cross_entropy(logits, target).sum(-1)


def softmax_cross_entropy(logits: Array, target: Array) -> Array:
    """E_t = −Σ_o target_o ln softmax(logits)_o, in nats; finite for any finite logit.

    Args:
      logits: `[*batch, O]`.
      target: classes, integers `[*batch]`, or a distribution `[*batch, O]`.

    Raises:
      ValueError: a target of neither form.
    """
    if jnp.issubdtype(target.dtype, jnp.integer):
        if target.shape != logits.shape[:-1]:
            raise _misfit(target, f"classes {list(logits.shape[:-1])}")
        return optax.softmax_cross_entropy_with_integer_labels(logits, target)
    _check_same_shape(logits, target)
    return optax.softmax_cross_entropy(logits, target)


def per_step(loss: StepLoss, ys: Array, targets: Array, mask: Array | None = None) -> Array:
    """E_t for every step: `[T, *batch]`.

    Args:
      loss: one step's.
      ys: `[T, *batch, O]`.
      targets: `[T, *batch]` or `[T, *batch, O]`, as the loss takes them.
      mask: `[T, *batch]` booleans (`length_mask(lengths, T)`, say). Where it is False E_t = 0, and
        neither outputs nor targets are read: NaN there reaches no gradient.

    Raises:
      ValueError: targets without the time axis of ys, a mask that is not boolean `[T, *batch]`.
    """
    if targets.shape[: ys.ndim - 1] != ys.shape[:-1]:
        raise _misfit(targets, f"[{', '.join(map(str, ys.shape[:-1]))}] and what the loss adds")
    if mask is None:
        return loss(ys, targets)
    if mask.shape != ys.shape[:-1] or mask.dtype != jnp.bool_:
        raise invalid("mask", mask, f"bool{list(ys.shape[:-1])}", "Pass length_mask(lengths, T).")
    return select(mask, loss(select(mask, ys, 0), select(mask, targets, 0)), 0)


def last_step(loss: StepLoss, ys: Array, target: Array, lengths: Array | None = None) -> Array:
    """E of the one output at the end: `[*batch]`.

    Args:
      loss: one step's.
      ys: `[T, *batch, O]`.
      target: `[*batch]` or `[*batch, O]`, as the loss takes it.
      lengths: `[*batch]`, each at least 1; the last step is then each example's own.
    """
    return loss(at_last_step(ys, lengths), target)


def at_last_step(ys: Array, lengths: Array | None = None) -> Array:
    """y of each example's last step: `[T, *batch, O] -> [*batch, O]`."""
    if lengths is None:
        return ys[-1]
    index = lengths.reshape(1, *lengths.shape, 1) - 1
    return jnp.take_along_axis(ys, index, axis=0)[0]


def _check_same_shape(y, target):
    if y.shape != target.shape:
        raise _misfit(target, f"the shape of the output, {describe(y)}")


def _misfit(target, expected):
    remedy = "Bring the targets into the shape of the outputs; nothing is broadcast here."
    return invalid("target", target, expected, remedy)


__all__ = [
    "at_last_step",
    "bernoulli_cross_entropy",
    "last_step",
    "per_step",
    "softmax_cross_entropy",
    "squared_error",
]
