"""Losses over a sequence, from E_t, the loss of one step.

A step's loss is any `loss(y [*batch, O], target) -> E_t [*batch]`; `per_step` and `last_step` apply
one to a sequence. E = Σ_t E_t.

Targets and lengths out of their range have no loss: outside `jit` they are refused, and inside,
where no value can be seen, the loss of that example and its gradient are NaN.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_array, describe, invalid
from rnn_jax.lengths import filled, select
from rnn_jax.losses.arguments import SAME, check_targets, where_known
from rnn_jax.types import Array, StepLoss


def per_step(loss: StepLoss, ys: Array, targets: Array, mask: Array | None = None) -> Array:
    """Return E_t for every step: `[T, *batch]`.

    Args:
      loss: loss of one step, E_t.
      ys: outputs, `[T, *batch, O]`.
      targets: `[T, *batch]` or `[T, *batch, O]`, as the loss takes them.
      mask: `[T, *batch]` booleans (`length_mask(lengths, T)`, say). Where it is False E_t = 0, and
        neither outputs nor targets are read: NaN there reaches no gradient.

    Raises:
      ValueError: ys that are no array of floats with a step in it; targets without the time axis
        of ys, a mask that is not boolean `[T, *batch]`; a loss that returns anything but one number
        for each example and step.
    """
    ys = _sequence(ys)
    if check_targets(targets, "targets").shape[: ys.ndim - 1] != ys.shape[:-1]:
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
      loss: loss of one step, E_t.
      ys: outputs, `[T, *batch, O]`.
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
      ys: outputs, `[T, *batch, O]`, T at least 1.
      lengths: `[*batch]` integers from 1 to T, an array or a list; T for all by default.

    Raises:
      ValueError: ys that are no array of floats with a step in it; lengths that do not fit; one
        that is not from 1 to T, outside `jit` (inside, that example's y is NaN).
    """
    ys = _sequence(ys)
    if lengths is None:
        return ys[-1]
    T, batch = len(ys), ys.shape[1:-1]
    lengths = _lengths(lengths, batch)
    # Clipped, so that no index wraps around; examples out of range get NaN below.
    index = jnp.clip(lengths, 1, T).reshape(1, *batch, 1) - 1
    y = jnp.take_along_axis(ys, index, axis=0)[0]
    known = (lengths >= 1) & (lengths <= T)
    return where_known(y, known, "lengths", lengths, f"integers from 1 to {T}")


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


def _lengths(lengths: Any, batch: Any) -> Array:
    """Return lengths as integers `[*batch]` that can be compared with T. ValueError for others."""
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


def _sequence(ys: Any) -> Array:
    """Return ys. ValueError unless they are floats `[T, *batch, O]` with a step in them."""
    ys = check_array("ys", ys, ("T", "*batch", "O"), remedy="Pass ys [T, *batch, O] of unroll.")
    if len(ys) == 0:
        raise invalid("ys", ys, "T of at least 1", "Pass a sequence with a step in it.")
    return ys
