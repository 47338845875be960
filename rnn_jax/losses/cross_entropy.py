"""Cross-entropies of one step's logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnn_jax.errors import invalid
from rnn_jax.losses.arguments import (
    SAME,
    check_outputs,
    check_same_shape,
    check_targets,
    where_known,
)
from rnn_jax.types import Array, at_least_float32


def bernoulli_cross_entropy(logits: Array, target: Array) -> Array:
    """Return E_t = −Σ_o [target_o ln ŷ_o + (1 − target_o) ln(1 − ŷ_o)], ŷ = σ(logits), in nats.

    Both `[*batch, O]`, targets in [0, 1]. Finite for finite logits, unless the dtype cannot hold
    the sum.

    Raises:
      ValueError: shapes that differ; logits that are no array of floats; a target outside [0, 1],
        outside `jit` (inside, NaN).
    """
    logits, target = check_same_shape("logits", logits, target)
    known = ((target >= 0) & (target <= 1)) | jnp.isnan(target)
    loss = optax.sigmoid_binary_cross_entropy(logits, target).sum(-1)
    return where_known(loss, known.all(-1), "target", target, "probabilities from 0 to 1")


def softmax_cross_entropy(logits: Array, target: Array) -> Array:
    """Return E_t = −Σ_o target_o ln softmax(logits)_o, in nats.

    Finite for finite logits, and so is its gradient, unless the dtype cannot hold the loss: it is
    inf then. A logit of -inf is a class that cannot be.

    Args:
      logits: `[*batch, O]`.
      target: classes, integers `[*batch]` from 0 to O − 1, or a distribution `[*batch, O]`.

    Raises:
      ValueError: logits that are no array of floats; a target of neither form; outside `jit`
        (inside, NaN) a class that there is not, or a negative probability.
    """
    logits = check_outputs("logits", logits)
    O = logits.shape[-1]
    if O == 0:
        raise invalid("logits", logits, "[*batch, O] with O at least 1", "Pass a logit a class.")
    if not jnp.issubdtype(check_targets(target).dtype, jnp.integer):
        logits, target = check_same_shape("logits", logits, target)
        half, log_sum = _log_softmax(logits)
        p = at_least_float32(target)
        # 0 · (−∞) is NaN; a class that cannot be and is no target adds nothing.
        linear = jnp.where((p == 0) & jnp.isneginf(half), 0, half)
        loss = (p.sum(-1) * log_sum - 2 * (p * linear).sum(-1)).astype(logits.dtype)
        known = ((target >= 0) | jnp.isnan(target)).all(-1)
        return where_known(loss, known, "target", target, "probabilities, at least 0")
    if target.shape != logits.shape[:-1]:
        raise invalid("target", target, f"classes {list(logits.shape[:-1])}", SAME)
    classes = jnp.asarray(target)
    # O may be no number of int8, which the classes are compared with it in.
    classes = classes.astype(jnp.int32) if classes.dtype.itemsize < 4 else classes
    known = (classes >= 0) & (classes < O)
    half, log_sum = _log_softmax(logits)
    # A negative class would be read from the end, without a word.
    its_own = jnp.where(known, classes, 0)[..., None]
    own = jnp.take_along_axis(half, its_own, axis=-1)[..., 0]
    loss = (log_sum - 2 * own).astype(logits.dtype)
    return where_known(loss, known, "target", classes, f"classes from 0 to {O - 1}")


def _log_softmax(z: Any) -> tuple[Array, Array]:
    """Return ln softmax(z) = d − ln Σ exp d as (½ d, ln Σ exp d), d = z − max z, in float32.

    d may be out of range where half of it is not; and beside a large max z, ln Σ exp d would be
    lost in rounding.
    """
    z = at_least_float32(z)
    most = jax.lax.stop_gradient(z.max(-1, keepdims=True))
    half = 0.5 * z - 0.5 * most
    return half, jnp.log(jnp.exp(2 * half).sum(-1))
