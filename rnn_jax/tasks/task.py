"""What every source of sequences offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rnn_jax.types import Array, Key, StepLoss


class Task(NamedTuple):
    """Sequences with targets.

    Attributes:
      input_size: I.
      output_size: O.
      loss: one step's, `(y [*batch, O], target) -> [*batch]`.
      batch: `(key, step) -> (xs [T, B, I], targets [T, B, ...])`, a pure function: a resumed run
        sees the batches that the killed run would have seen.
    """

    input_size: int
    output_size: int
    loss: StepLoss
    batch: Callable[[Key, Array | int], tuple[Array, Array]]
