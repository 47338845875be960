"""The interface of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rnn_jax.types import Array, Key, StepLoss


class Task(NamedTuple):
    """Sequences with targets.

    Attributes:
      input_size: number of inputs, I.
      output_size: number of outputs, O.
      loss: loss of one step, `(y [*batch, O], target) -> [*batch]`.
      batch: `(key, step) -> (xs [T, B, I], targets [T, B, ...])`, a pure function: a resumed run
        sees the batches that the killed run would have seen.
    """

    input_size: int
    output_size: int
    loss: StepLoss
    batch: Callable[[Key, Array | int], tuple[Array, Array]]
