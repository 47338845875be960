"""One task at several lengths in arrays of one size: padding, lengths that grow, or at random."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_integer, check_sizes, invalid
from rnn_jax.lengths import select
from rnn_jax.tasks.arrays import NO_CLASS, has_target
from rnn_jax.tasks.examples import integers
from rnn_jax.tasks.task import Task
from rnn_jax.types import Array, Key

OF_LENGTHS = "Take a task of tasks.TASKS, or give yours the field of_length: T -> Task."

ONE_LENGTH: Any = {"of_length": None, "chance": None, "chance_loss": math.nan}
"""What each length has of its own, and several have not together."""


def padded(task: Task, T: int) -> Task:
    """Return the task with zeros behind its sequences, up to T steps; those do not count.

    Steps that do not count have a target that says so: −1 where targets are classes, NaN where they
    are floats.

    Args:
      task: any task whose sequences have T steps or fewer.
      T: number of steps.

    Raises:
      ValueError: a T that is no positive integer, or, when a batch is drawn, smaller than the
        task's; no Task.
    """
    check_task(task)
    T = check_integer("T", T, remedy="Pass a number of steps.")

    def batch(key: Key, step: Any) -> tuple[Array, Array]:
        xs, targets = task.batch(key, step)
        more = T - len(xs)
        if more < 0:
            raise invalid("T", T, f"{len(xs)} steps or more, as the task has", "Pad to more steps.")
        is_class = jnp.issubdtype(targets.dtype, jnp.integer)
        none = np.asarray(NO_CLASS if is_class else math.nan, targets.dtype)
        targets = select(task.mask(xs, targets), targets, none)
        behind = lambda array, value: jnp.pad(
            array, [(0, more), *[(0, 0)] * (array.ndim - 1)], constant_values=value
        )
        return behind(xs, 0), behind(targets, none)

    return task._replace(batch=batch, mask=has_target, of_length=None)


def curriculum(task: Task, lengths: Sequence[int], starts: Sequence[int]) -> Task:
    """Return a task of growing length: from step `starts[i]` on its sequences have `lengths[i]`.

    Batches are padded to the longest, so that training compiles once.

    Args:
      task: a task that can be had at any length, as those of `TASKS`.
      lengths: values of its length parameter T.
      starts: the first step of training at each length, increasing from 0.

    Raises:
      ValueError: a task of one length alone; lengths that are no positive integers, or none; starts
        that do not begin with 0, do not increase, or are not as many.
    """
    stages = at_lengths(task, lengths)
    starts = check_sizes("starts", starts)
    increasing = starts[:1] == (0,) and all(a < b for a, b in itertools.pairwise(starts))
    if not increasing or len(starts) != len(stages):
        expected = f"{len(stages)} steps that increase from 0"
        raise invalid("starts", starts, expected, "Pass the first step at each length.")

    def batch(key: Key, step: Any) -> tuple[Array, Array]:
        stage = (jnp.asarray(step) >= jnp.asarray(starts)).sum(dtype=jnp.int32) - 1
        draws = [lambda key, stage=stage: stage.batch(key, step) for stage in stages]
        return jax.lax.switch(stage, draws, key)

    return stages[-1]._replace(batch=batch, mask=has_target, **ONE_LENGTH)


def random_lengths(task: Task, lengths: Sequence[int]) -> Task:
    """Return a task whose batches each have one of several lengths, drawn uniformly from them.

    Batches are padded to the longest, so that training compiles once.

    Args:
      task: a task that can be had at any length, as those of `TASKS`.
      lengths: values of its length parameter T; one that is given twice comes twice as often.

    Raises:
      ValueError: a task of one length alone; lengths that are no positive integers, or none.

    Reference: Pascanu, Mikolov and Bengio 2013, section 4.1, and Delétang et al. 2023, section 4,
    train on lengths at random.
    """
    stages = at_lengths(task, lengths)

    def batch(key: Key, step: Any) -> tuple[Array, Array]:
        of_length, of_batch = jax.random.split(key)
        stage = integers(jax.random.fold_in(of_length, step), (), 0, len(stages))
        # At this step, so that a data set is gone through in passes as it is without.
        draws = [lambda key, stage=stage: stage.batch(key, step) for stage in stages]
        return jax.lax.switch(stage, draws, of_batch)

    return stages[-1]._replace(batch=batch, mask=has_target, **ONE_LENGTH)


def at_lengths(task: Task, lengths: Sequence[int]) -> list[Task]:
    """Return the task at each length, all padded to the longest sequence.

    Raises:
      ValueError: a task of one length alone; lengths that are no positive integers, or none.
    """
    check_task(task)
    if task.of_length is None:
        got = f"{task.name or 'a task'} of one length"
        raise invalid("task", got, "a task of any length", OF_LENGTHS)
    lengths = lengths.tolist() if hasattr(lengths, "tolist") else lengths
    if not isinstance(lengths, Sequence) or len(lengths) == 0:
        raise invalid("lengths", lengths, "one length or more", "Pass (50, 100, 200), say.")
    each = lambda T: check_integer("lengths", T, remedy="Pass values of the task's T.")
    all_of_them = [task.of_length(each(T)) for T in lengths]
    key = jax.eval_shape(lambda: jax.random.key(0))
    steps = [len(jax.eval_shape(stage.batch, key, 0)[0]) for stage in all_of_them]
    return [padded(stage, max(steps)) for stage in all_of_them]


def check_task(task: Any) -> None:
    """Raise ValueError unless `task` is a Task."""
    if not isinstance(task, Task):
        raise invalid("task", task, "a Task", "Make one with tasks.TASKS[name]().")
