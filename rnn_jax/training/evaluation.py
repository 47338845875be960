"""How well a network does a task: loss and solved sequences, of fresh batches or other lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_key, check_size
from rnn_jax.tasks import Task
from rnn_jax.tasks._curriculum import at_lengths, check_task
from rnn_jax.training.checks import check_params
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Key, Params
from rnn_jax.unrolling.strategies import Strategy
from rnn_jax.unrolling.unroll import unroll


class Evaluation(NamedTuple):
    """What a network did on sequences of a task, `[...]`; of several lengths, `[lengths]`.

    Attributes:
      loss: mean loss over the steps that count.
      solved: part of the sequences that are solved.
      sequences: number of sequences.
    """

    loss: Array
    solved: Array
    sequences: Array


def evaluate(
    cell: Cell,
    params: Params,
    task: Task,
    *,
    key: Key,
    batches: int = 1,
    strategy: str | Strategy = "auto",
) -> Evaluation:
    """Evaluate a network on `batches` fresh batches of a task, in one program.

    The loss is the mean over batches of `Task.mean_loss`.

    Args:
      cell: any Cell whose outputs are those of the task.
      params: its parameters.
      task: any task.
      key: a JAX key; of another one than the training's, the sequences are fresh.
      batches: number of batches, one after another.
      strategy: as for `unroll`.

    Raises:
      ValueError: a cell, task or key that is none; a number of batches that is no positive integer;
        what `unroll` and `Task.mean_loss` raise.
    """
    _check(cell, params, task, key)
    batches = check_size("batches", batches)
    found = _evaluated(cell, params, key, task, None, batches, strategy)
    return Evaluation(*(value[0] for value in found))


def evaluate_lengths(
    cell: Cell,
    params: Params,
    task: Task,
    lengths: Sequence[int],
    *,
    key: Key | None = None,
    batches: int = 1,
    strategy: str | Strategy = "auto",
) -> Evaluation:
    """Evaluate a network on a task at several lengths, in one program that compiles once.

    Sequences are padded to the longest, and those of all lengths run side by side: time grows as
    the number of lengths times the longest, and there is one compilation for all of them.

    Args:
      cell, params, batches, strategy: as for `evaluate`.
      task: a task that can be had at any length, as those of `TASKS`.
      lengths: values of its length parameter T.
      key: a JAX key; by default that of seed 0.

    Returns:
      Loss and solved part at each length, `[len(lengths)]`.

    Raises:
      ValueError: a task of one length alone; lengths that are no positive integers, or none; what
        `evaluate` raises.
    """
    key = jax.random.key(0) if key is None else key
    _check(cell, params, task, key)
    batches = check_size("batches", batches)
    at_lengths(task, lengths)  # what is wrong with them is said here
    return _evaluated(cell, params, key, task, tuple(map(int, lengths)), batches, strategy)


def _check(cell: Cell, params: Params, task: Task, key: Key) -> None:
    """Raise ValueError for a cell, params, a task or a key that is none."""
    check_cell("cell", cell)
    if jax.tree.leaves(params):  # a cell may have none
        check_params(params)
    check_task(task)
    check_key("key", key)


@compiled("cell", "task", "lengths", "batches", "strategy")
def _evaluated(
    cell: Cell,
    params: Params,
    key: Key,
    task: Task,
    lengths: tuple[int, ...] | None,
    batches: int,
    strategy: str | Strategy,
) -> Evaluation:
    """Evaluate at all lengths side by side, `[len(lengths)]`; at the task's own if None, `[1]`."""
    stages = [task] if lengths is None else at_lengths(task, lengths)

    def of_batch(step: Array) -> tuple[Array, Array]:
        drawn = [stage.batch(key, step) for stage in stages]
        # Side by side in the batch axis, so that one loop over time serves all lengths.
        xs = jnp.concatenate([xs for xs, _ in drawn], 1)
        ys = unroll(cell, params, xs, strategy=strategy)[1]
        parts = jnp.split(ys, len(stages), 1)
        pairs = [
            (stage.mean_loss(ys, *one), stage.solved(ys, *one).mean())
            for stage, ys, one in zip(stages, parts, drawn, strict=True)
        ]
        losses, solved = map(jnp.stack, zip(*pairs, strict=True))
        return losses, solved

    losses, solved = jax.lax.map(of_batch, jnp.arange(batches))
    xs = jax.eval_shape(stages[0].batch, key, 0)[0]
    sequences = jnp.full(len(stages), batches * xs.shape[1], jnp.int32)
    return Evaluation(losses.mean(0), solved.mean(0), sequences)
