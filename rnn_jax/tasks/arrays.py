"""Tasks from arrays: a data set of sequences, of one length or many."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_array, check_size, describe, invalid
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.answers import is_largest
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key, StepLoss

NO_CLASS = -1
"""Target of a step that does not count, where targets are classes; NaN where they are floats."""


def from_arrays(
    xs: Any,
    targets: Any,
    *,
    lengths: Any = None,
    batch_size: int = 32,
    output_size: int | None = None,
    loss: StepLoss = softmax_cross_entropy,
    correct: Callable[[Array, Array], Array] = is_largest,
    name: str = "",
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
) -> Task:
    """Return the task of a data set: batches of its N sequences, each once in a pass.

    A pass takes the N // B batches of a random order, which the key and the number of the pass
    decide; the N mod B sequences left over are others in each pass. The steps that count are those
    up to each length, or its last one where there is a single target for a whole sequence.

    Args:
      xs: inputs, `[T, N, I]`, floats. What stands past a length is replaced by zeros.
      targets: `[T, N]` classes or `[T, N, O]` numbers, of every step; or `[N]` classes or `[N, O]`
        numbers, of the last step. With T = N, `[T, N]` are those of every step.
      lengths: number of steps of each sequence, `[N]` integers from 1 to T; T for all by default.
      batch_size: number of sequences of a batch, B, at most N.
      output_size: number of outputs, O; by default the largest class and one, or the last axis.
      loss: loss of one step; cross-entropy by default, which wants classes.
      correct: whether the answer of one step is right; see `Task`.
      name: name of the task.
      inputs, outputs: names of the channels, for `Task.show`.

    Raises:
      ValueError: xs that are no such floats, or empty; targets or lengths that do not fit them, or
        are out of range; targets that are not finite where they count; a batch of more sequences
        than there are; classes beyond the output size.
    """
    xs = np.asarray(check_array("xs", xs, ("T", "N", "I"), remedy="Pass time-major sequences."))
    T, N, I = xs.shape
    if T == 0 or N == 0:
        raise invalid("xs", xs, "a sequence and a step at least", "Pass sequences to learn from.")
    lengths = _checked_lengths(lengths, T, N)
    targets = _checked_targets(targets, T, N)
    batch_size = check_size("batch_size", batch_size)
    if batch_size > N:
        raise invalid("batch_size", batch_size, f"at most {N} sequences", "Take a smaller batch.")
    is_class = np.issubdtype(targets.dtype, np.integer)
    counted = within = np.arange(T)[:, None] < lengths
    if targets.ndim == (1 if is_class else 2):  # one for a whole sequence
        targets, counted = np.broadcast_to(targets, (T, *targets.shape)), np.zeros_like(within)
        counted[lengths - 1, np.arange(N)] = True
    if not (is_class or np.isfinite(np.asarray(targets[counted], float)).all()):
        got = "numbers that are not finite, at steps that count"
        raise invalid("targets", got, "finite numbers", "Leave out what is not known by lengths.")
    size = _output_size(output_size, targets, counted, is_class)
    put = lambda keep, array, other: np.where(
        keep.reshape(keep.shape + (1,) * (array.ndim - 2)), array, np.asarray(other, array.dtype)
    )
    all_xs = jnp.asarray(put(within, xs, 0))
    all_targets = jnp.asarray(put(counted, targets, NO_CLASS if is_class else math.nan))
    batches = N // batch_size

    def batch(key: Key, step: Any) -> tuple[Array, Array]:
        number, place = jnp.divmod(jnp.asarray(step, jnp.int32), batches)
        order = jax.random.permutation(jax.random.fold_in(key, number), N)
        chosen = jax.lax.dynamic_slice_in_dim(order, place * batch_size, batch_size)
        return all_xs[:, chosen], all_targets[:, chosen]

    return Task(
        input_size=I,
        output_size=size,
        loss=loss,
        batch=batch,
        mask=has_target,
        correct=correct,
        name=name,
        inputs=inputs,
        outputs=outputs,
        sequences=N,
    )


def has_target(xs: Array, targets: Array) -> Array:
    """Return at which steps there is a target, `[T, B]`: a class from 0 on, or numbers not NaN."""
    del xs
    is_class = jnp.issubdtype(targets.dtype, jnp.integer)
    known = targets >= 0 if is_class else ~jnp.isnan(targets)
    return known if known.ndim == 2 else known.all(range(2, known.ndim))


def _checked_lengths(lengths: Any, T: int, N: int) -> np.ndarray:
    """Return lengths `[N]`. ValueError unless they are integers from 1 to T."""
    if lengths is None:
        return np.full(N, T)
    remedy = "Pass the number of steps of each sequence."
    lengths = np.asarray(check_array("lengths", lengths, (N,), kind="integer", remedy=remedy))
    if N and not (lengths.min() >= 1 and lengths.max() <= T):
        got = f"{describe(lengths)} from {lengths.min()} to {lengths.max()}"
        raise invalid("lengths", got, f"integers from 1 to {T}", remedy)
    return lengths


def _checked_targets(targets: Any, T: int, N: int) -> np.ndarray:
    """Return targets. ValueError unless they are classes or floats of each step or sequence."""
    if not (hasattr(targets, "shape") and hasattr(targets, "dtype")):
        raise invalid("targets", targets, "an array", "Convert it with np.asarray.")
    targets = np.asarray(targets)
    is_class = np.issubdtype(targets.dtype, np.integer)
    if not (is_class or jnp.issubdtype(targets.dtype, jnp.floating)):
        raise invalid("targets", targets, "integers or floats", "Pass classes, or numbers.")
    shapes = [(T, N), (N,)] if is_class else [(T, N, "O"), (N, "O")]
    lead = targets.shape if is_class else targets.shape[:-1]
    if lead not in ((T, N), (N,)):
        expected = " or ".join(str(list(shape)).replace("'", "") for shape in shapes)
        raise invalid("targets", targets, expected, "Pass one for each step, or one a sequence.")
    most = np.iinfo(np.int32).max
    if is_class and targets.size and not 0 <= targets.min() <= targets.max() < most:
        got = f"{describe(targets)} from {targets.min()} to {targets.max()}"
        raise invalid("targets", got, "classes from 0", "Number the classes from 0 on.")
    # Room for NO_CLASS, which bytes without a sign have none for.
    return targets.astype(np.int32) if is_class else targets


def _output_size(given: Any, targets: np.ndarray, counted: np.ndarray, is_class: bool) -> int:
    """Return O. ValueError for one that the targets do not fit."""
    own = int(targets[counted].max(initial=0)) + 1 if is_class else targets.shape[-1]
    size = own if given is None else check_size("output_size", given)
    if size < own or (not is_class and size != own):
        expected = f"{own}, as in the targets" if not is_class else f"at least {own} classes"
        raise invalid("output_size", size, expected, "Leave it out, or count the targets again.")
    return size
