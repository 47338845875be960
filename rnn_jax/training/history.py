"""The metrics of a run, step by step, in memory and as rows of bytes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import invalid
from rnn_jax.training.leaves import layout, named_leaves
from rnn_jax.training.processes import to_host
from rnn_jax.types import Array


class History:
    """Metrics of all steps so far.

    Attributes:
      steps: number of steps.
      bytes_per_step: bytes of a row of `take_rows`.
      layout: dtype and shape of one step's metrics, `float32[8]`, by name; a nested one's name is
        `outer/inner`.
    """

    def __init__(self, one_step: Any):
        """Take the shapes and dtypes of one step's metrics, in any pytree."""
        self._like = one_step
        self._shapes = named_leaves(one_step)
        self._blocks: dict[str, list[np.ndarray]] = {name: [] for name in self._shapes}
        self.layout = layout(one_step)
        sizes = [np.dtype(s.dtype).itemsize * math.prod(s.shape) for s in self._shapes.values()]
        self.bytes_per_step = sum(sizes)
        self.steps = 0
        self._taken = 0

    def append(self, metrics: list[Any]) -> None:
        """Fetch the metrics of the next n steps from the device.

        Raises:
          ValueError: metrics of another structure, shape or dtype than those of one step.
        """
        structure: Any = jax.tree.structure(self._like)
        fits = all(jax.tree.structure(step) == structure for step in metrics)
        stacked = named_leaves(_stacked(metrics)) if fits else {}
        if not fits or any(_of_one(v) != _of_one(s, 0) for v, s in _pairs(stacked, self._shapes)):
            remedy = "Return the same metrics, in the same shapes, at each step."
            raise invalid("train_step", "one whose metrics change", str(self.layout), remedy)
        arrays = {name: to_host(values) for name, values in stacked.items()}
        self._add(len(metrics), arrays)

    def append_rows(self, rows: bytes, steps: int) -> None:
        """Add `steps` steps of what `take_rows` returned, which will not return them again."""
        table = np.frombuffer(rows, np.uint8).reshape(steps, self.bytes_per_step)
        arrays, begin = {}, 0
        for name, shape in self._shapes.items():
            dtype = np.dtype(shape.dtype)
            end = begin + dtype.itemsize * int(np.prod(shape.shape))
            column = np.frombuffer(table[:, begin:end].tobytes(), dtype)
            arrays[name] = column.reshape(steps, *shape.shape)
            begin = end
        self._add(steps, arrays)
        self._taken = self.steps

    def take_rows(self) -> bytes:
        """Return the metrics since the last call, one step after the other."""
        columns = []
        for name in self._shapes:
            values = self._from(name, self._taken)
            rows = np.frombuffer(values.tobytes(), np.uint8)
            columns.append(rows.reshape(len(values), -1) if len(values) else rows[:, None])
        self._taken = self.steps
        return np.concatenate(columns, axis=1).tobytes() if columns else b""

    def since(self, step: int) -> dict[str, np.ndarray]:
        """Return the metrics of the steps from `step` on, by name."""
        return {name: self._from(name, step) for name in self._shapes}

    def as_tree(self) -> Any:
        """Return all metrics, `[steps, ...]`, nested as those of one step are."""
        return jax.tree.unflatten(jax.tree.structure(self._like), [*self.since(0).values()])

    def _from(self, name: str, step: int) -> np.ndarray:
        """Return a metric's values from `step` on."""
        # From the back: what is asked for is mostly the last reading, and to join all blocks each
        # time would make a run of n steps cost n².
        wanted, blocks, end = [], self._blocks[name], self.steps
        for block in reversed(blocks):
            if end <= step:
                break
            begin = end - len(block)
            wanted.append(block[max(step - begin, 0) :])
            end = begin
        shape = self._shapes[name]
        return np.concatenate([np.zeros((0, *shape.shape), shape.dtype), *reversed(wanted)])

    def _add(self, steps: int, arrays: dict[str, np.ndarray]) -> None:
        for name, values in arrays.items():
            self._blocks[name].append(values)
        self.steps += steps


def _pairs(values: Any, shapes: Any) -> list[tuple[Any, Any]]:
    """Return the values and the shape of each metric, side by side."""
    return [(values[name], shapes[name]) for name in shapes]


def _of_one(values: Any, leading: int = 1) -> tuple[Any, Any]:
    """Return the shape without its leading axes, and the dtype."""
    return values.shape[leading:], np.dtype(values.dtype)


@jax.jit
def _stacked(metrics: list[dict[str, Array]]) -> dict[str, Array]:
    """Stack each metric: to the host, time goes by the number of arrays, not their size."""
    return jax.tree.map(lambda *steps: jnp.stack(steps), *metrics)
