"""The interface of a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp

from rnn_jax.errors import check_array, check_key
from rnn_jax.lengths import filled
from rnn_jax.losses import per_step
from rnn_jax.tasks.answers import is_largest
from rnn_jax.types import Array, Key, StepLoss, at_least_float32

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def every_step(xs: Array, targets: Array) -> Array:
    """Return True for every step: `[T, B]`."""
    del targets
    return jnp.ones(xs.shape[:2], bool)


def last_step_only(xs: Array, targets: Array) -> Array:
    """Return True for the last step alone: `[T, B]`."""
    return every_step(xs, targets).at[:-1].set(False)


class Task(NamedTuple):
    """Sequences with targets, and what counts as an answer to them.

    Attributes:
      input_size: number of inputs, I.
      output_size: number of outputs, O.
      loss: loss of one step, `(y [*batch, O], target) -> [*batch]`.
      batch: `(key, step) -> (xs [T, B, I], targets [T, B, ...])`, a pure function: a resumed run
        sees the batches that the killed run would have seen.
      mask: steps that count, `(xs, targets) -> [T, B]` booleans; all by default. At other steps
        neither outputs nor targets are read.
      correct: whether the answer of one step is right, `(y [*batch, O], target) -> [*batch]`; by
        default, whether the output of the target's class is the largest.
      chance: the best answer of a network without memory, one that knows only t and x_t:
        `xs -> ys [T, B, O]`, or None where none is known.
      chance_loss: mean loss of `chance` over the steps that count; NaN where it is not known.
      name: name of the task.
      inputs, outputs: names of the channels, for `show`; numbers by default.
      solved_when: `(ys, targets, mask) -> [B]`, where a sequence is solved by another criterion
        than that every step is correct. Its ys hold, where no step counts, those of one that does.
      of_length: the same task at another length, `T -> Task`; None if there is no other.
      sequences: how many there are, of a data set; None where they are drawn. A batch of as many
        holds each once.
    """

    input_size: int
    output_size: int
    loss: StepLoss
    batch: Callable[[Key, Array | int], tuple[Array, Array]]
    mask: Callable[[Array, Array], Array] = every_step
    correct: Callable[[Array, Array], Array] = is_largest
    chance: Callable[[Array], Array] | None = None
    chance_loss: float = math.nan
    name: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    solved_when: Callable[[Array, Array, Array], Array] | None = None
    of_length: Callable[[int], Any] | None = None
    sequences: int | None = None

    def mean_loss(self, ys: Array, xs: Array, targets: Array) -> Array:
        """Return the mean of E_t over the steps that count, of all examples: a scalar.

        In float32 at least. What stands at other steps, NaN included, reaches neither the mean nor
        its gradient.

        Args:
          ys: outputs, `[T, B, O]`.
          xs: inputs, `[T, B, I]`.
          targets: targets, `[T, B, ...]`.

        Raises:
          ValueError: ys that do not fit xs; what `per_step` raises.
        """
        mask = self.mask(xs, targets)
        # Without a mask there is nothing to fill in.
        fill = None if self.mask is every_step else mask
        E = at_least_float32(per_step(self.loss, self._outputs(ys, xs), targets, fill))
        return E.sum() / mask.sum().astype(E.dtype)

    def solved(self, ys: Array, xs: Array, targets: Array) -> Array:
        """Return which sequences are answered rightly at every step that counts: `[B]` booleans.

        Args:
          ys: outputs, `[T, B, O]`.
          xs: inputs, `[T, B, I]`.
          targets: targets, `[T, B, ...]`.

        Raises:
          ValueError: ys that do not fit xs.
        """
        mask, ys = self.mask(xs, targets), self._outputs(ys, xs)
        if self.solved_when is not None:
            return self.solved_when(filled(mask, ys), filled(mask, targets), mask)
        return (self.correct(ys, targets) | ~mask).all(0)

    def show(self, key: Key) -> Figure:
        """Draw the first examples of a batch: inputs, targets and the steps that count.

        Needs matplotlib.

        Args:
          key: a JAX key.

        Raises:
          ImportError: no matplotlib.
          ValueError: no key.
        """
        from rnn_jax.plotting.examples_of_tasks import task_examples

        xs, targets = self.batch(check_key("key", key), 0)
        return task_examples(
            xs,
            targets,
            self.mask(xs, targets),
            title=self.name.replace("_", " "),
            inputs=self.inputs or tuple(map(str, range(self.input_size))),
            outputs=self.outputs or tuple(map(str, range(self.output_size))),
        )

    def _outputs(self, ys: Array, xs: Array) -> Array:
        shape = (*xs.shape[:2], self.output_size)
        return check_array("ys", ys, shape, remedy="Pass the outputs of unroll for these xs.")
