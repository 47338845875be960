"""E_t, one step's loss, and what is read of it over a sequence.

A step's loss is any `loss(y [*batch, O], target) -> E_t [*batch]`; `per_step` and `last_step` apply
one to a sequence. E = Σ_t E_t.

Targets and lengths out of their range have no loss: outside `jit` they are refused, and inside,
where no value can be seen, the loss of that example and its gradient are NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.errors import check_array, describe, invalid, is_traced
from rnn_jax.lengths import filled, select
from rnn_jax.types import Array, StepLoss, at_least_float32

FLOATS = "Pass floats, as a cell puts them out."
SAME = "Bring the targets into the shape of the outputs; nothing is broadcast here."


def squared_error(y: Array, target: Array) -> Array:
    """Return E_t = ½ Σ_o (y_o − target_o)²; both `[*batch, O]`.

    Raises:
      ValueError: shapes that differ; a y that is no array of floats, a target that is none of
        numbers.
    """
    y, target = _same_shape("y", y, target)
    # ½ d first: d² may be out of range where ½ d² is not.
    d = y - target
    return (d * (0.5 * d)).sum(-1)


def bernoulli_cross_entropy(logits: Array, target: Array) -> Array:
    """Return E_t = −Σ_o [target_o ln ŷ_o + (1 − target_o) ln(1 − ŷ_o)], ŷ = σ(logits), in nats.

    Both `[*batch, O]`, targets in [0, 1]. Finite for finite logits, unless the dtype cannot hold
    the sum.

    Raises:
      ValueError: shapes that differ; logits that are no array of floats; a target outside [0, 1],
        outside `jit` (inside, NaN).
    """
    logits, target = _same_shape("logits", logits, target)
    known = ((target >= 0) & (target <= 1)) | jnp.isnan(target)
    loss = optax.sigmoid_binary_cross_entropy(logits, target).sum(-1)
    return _where_known(loss, known.all(-1), "target", target, "probabilities from 0 to 1")


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
    logits = _outputs("logits", logits)
    O = logits.shape[-1]
    if O == 0:
        raise invalid("logits", logits, "[*batch, O] with O at least 1", "Pass a logit a class.")
    if not jnp.issubdtype(_targets(target).dtype, jnp.integer):
        logits, target = _same_shape("logits", logits, target)
        half, log_sum = _log_softmax(logits)
        p = at_least_float32(target)
        linear = jnp.where((p == 0) & jnp.isneginf(half), 0, half)
        loss = (p.sum(-1) * log_sum - 2 * (p * linear).sum(-1)).astype(logits.dtype)
        known = ((target >= 0) | jnp.isnan(target)).all(-1)
        return _where_known(loss, known, "target", target, "probabilities, at least 0")
    if target.shape != logits.shape[:-1]:
        raise invalid("target", target, f"classes {list(logits.shape[:-1])}", SAME)
    classes = jnp.asarray(target)
    classes = classes.astype(jnp.int32) if classes.dtype.itemsize < 4 else classes
    known = (classes >= 0) & (classes < O)
    half, log_sum = _log_softmax(logits)
    its_own = jnp.where(known, classes, 0)[..., None]
    own = jnp.take_along_axis(half, its_own, axis=-1)[..., 0]
    loss = (log_sum - 2 * own).astype(logits.dtype)
    return _where_known(loss, known, "target", classes, f"classes from 0 to {O - 1}")


def per_step(loss: StepLoss, ys: Array, targets: Array, mask: Array | None = None) -> Array:
    """Return E_t for every step: `[T, *batch]`.

    Args:
      loss: one step's.
      ys: `[T, *batch, O]`.
      targets: `[T, *batch]` or `[T, *batch, O]`, as the loss takes them.
      mask: `[T, *batch]` booleans (`length_mask(lengths, T)`, say). Where it is False E_t = 0, and
        neither outputs nor targets are read: NaN there reaches no gradient.

    Raises:
      ValueError: ys that are no array of floats with a step in it; targets without the time axis
        of ys, a mask that is not boolean `[T, *batch]`; a loss that returns anything but one number
        for each example and step.
    """
    ys = _sequence(ys)
    if _targets(targets, "targets").shape[: ys.ndim - 1] != ys.shape[:-1]:
        expected = f"[{', '.join(map(str, ys.shape[:-1]))}] and what the loss adds"
        raise invalid("targets", targets, expected, SAME)
    if mask is None:
        return one_a_step(loss, ys, targets)
    mask = check_array(
        "mask", mask, ys.shape[:-1], kind="bool", remedy="Pass length_mask(lengths, T)."
    )
    targets = jnp.asarray(targets)
    # Steps of the example's own stand in the padding: a loss may be singular at zero.
    return select(mask, one_a_step(loss, filled(mask, ys), filled(mask, targets)), 0)


def last_step(loss: StepLoss, ys: Array, target: Array, lengths: Any = None) -> Array:
    """Return E of the one output at the end: `[*batch]`.

    Args:
      loss: one step's.
      ys: `[T, *batch, O]`.
      target: `[*batch]` or `[*batch, O]`, as the loss takes it.
      lengths: as for `at_last_step`.

    Raises:
      ValueError: what `at_last_step` raises; a loss that returns anything but one number for each
        example.
    """
    return one_a_step(loss, at_last_step(ys, lengths), target)


def at_last_step(ys: Array, lengths: Any = None) -> Array:
    """Return y of each example's last step: `[T, *batch, O] -> [*batch, O]`.

    Args:
      ys: `[T, *batch, O]`, T at least 1.
      lengths: `[*batch]` integers from 1 to T, an array or a list; T for all by default.

    Raises:
      ValueError: ys that are no array of floats with a step in it; lengths that do not fit; one
        that is not from 1 to T, outside `jit` (inside, that example's y is NaN).
    """
    ys = _sequence(ys)
    if lengths is None:
        return ys[-1]
    T, batch = len(ys), ys.shape[1:-1]
    lengths = _lengths(lengths, batch, T)
    index = jnp.clip(lengths, 1, T).reshape(1, *batch, 1) - 1
    y = jnp.take_along_axis(ys, index, axis=0)[0]
    known = (lengths >= 1) & (lengths <= T)
    return _where_known(y, known, "lengths", lengths, f"integers from 1 to {T}")


def _log_softmax(z):
    """ln softmax(z) = d − ln Σ exp d with d = z − max z: (½ d, ln Σ exp d), in float32 at least.

    d may be out of range where half of it is not; and beside a large max z, ln Σ exp d would be
    lost in rounding.
    """
    z = at_least_float32(z)
    most = jax.lax.stop_gradient(z.max(-1, keepdims=True))
    half = 0.5 * z - 0.5 * most
    return half, jnp.log(jnp.exp(2 * half).sum(-1))


def _where_known(values, known, argument, got, expected):
    """`values [*batch, ...]`, NaN where `known [*batch]` is False; an error if that can be seen."""
    if is_traced(known):
        # A factor, so that the gradient is NaN too.
        return values * select(known, jnp.ones_like(values), jnp.nan)
    if not np.all(known):
        remedy = "Mask what is no example with per_step(mask=...), or leave it out."
        if is_traced(got):
            raise invalid(argument, got, expected, remedy)
        wrong = np.asarray(got)[~np.asarray(known)].ravel()
        wrong = wrong[:3].tolist()
        raise invalid(argument, f"{describe(got)} with {wrong} in it", expected, remedy)
    return values


def one_a_step(loss: StepLoss, ys: Array, targets: Array) -> Array:
    """Return `loss(ys, targets)`. ValueError unless it is one number for each output, `[*lead]`."""
    if not callable(loss):
        raise invalid("loss", loss, "a function (y, target) -> E_t", "Pass squared_error, say.")
    E = loss(ys, targets)
    shape = ys.shape[:-1]
    if getattr(E, "shape", None) != shape or not jnp.issubdtype(E.dtype, jnp.floating):
        raise invalid(
            "loss",
            f"a function that returns {describe(E)}",
            f"one that returns floats {list(shape)}, one number for each example",
            "Sum over the outputs, .sum(-1), and over nothing else.",
        )
    return E


def _lengths(lengths, batch, T):
    remedy = "Pass a length for each example."
    if not hasattr(lengths, "dtype"):
        try:
            lengths = np.asarray(lengths)
        except ValueError as error:  # a ragged list
            raise invalid("lengths", lengths, f"integers {list(batch)}", remedy) from error
        if not np.issubdtype(lengths.dtype, np.integer):
            raise invalid("lengths", lengths.tolist(), f"integers {list(batch)}", remedy)
    lengths = check_array("lengths", lengths, batch, kind="integer", remedy=remedy)
    return lengths.astype(jnp.int32) if lengths.dtype.itemsize < 4 else lengths


def _sequence(ys):
    ys = check_array("ys", ys, ("T", "*batch", "O"), remedy="Pass ys [T, *batch, O] of unroll.")
    if len(ys) == 0:
        raise invalid("ys", ys, "T of at least 1", "Pass a sequence with a step in it.")
    return ys


def _outputs(argument, y):
    return check_array(argument, y, ("*batch", "O"), remedy=FLOATS)


def _targets(target, argument="target"):
    if not (hasattr(target, "dtype") and hasattr(target, "shape")):
        raise invalid(argument, target, "an array", "Convert it with jnp.asarray.")
    return target


def _same_shape(argument, y, target):
    """Both in the wider of their dtypes. ValueError unless floats, and numbers of that shape."""
    y = _outputs(argument, y)
    expected = f"the shape of the output, {describe(y)}"
    if _targets(target).shape != y.shape:
        raise invalid("target", target, expected, SAME)
    target = check_array("target", target, y.shape, kind="number", remedy="Pass numbers.")
    dtype = y.dtype
    if jnp.issubdtype(target.dtype, jnp.floating) and target.dtype != dtype:
        wide, narrow = target.dtype.itemsize, dtype.itemsize
        dtype = jnp.float32 if wide == narrow else target.dtype if wide > narrow else dtype
    return y.astype(dtype), target.astype(dtype)


__all__ = [
    "at_last_step",
    "bernoulli_cross_entropy",
    "last_step",
    "per_step",
    "softmax_cross_entropy",
    "squared_error",
]
