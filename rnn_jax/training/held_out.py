"""Evaluations of a run on data that it does not train on, the best of them, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_function, check_size, describe, invalid
from rnn_jax.lengths import select
from rnn_jax.training.history import History
from rnn_jax.training.processes import to_host

HELD_OUT = "held_out"


@dataclass(frozen=True)
class HeldOut:
    """Evaluation of data that is not trained on, while `fit` trains.

    The state before the first step, that after each `every` and that after the last are evaluated;
    of a run that goes on to more steps, also that after what was the last.
    `fit` returns the metrics as `held_out`, `[evaluations, ...]`, and with them `step`, the number
    of steps before each. Recorders get one after n steps as of step n − 1, under `held_out/loss`
    and so on.

    Attributes:
      evaluate: `state -> metrics by name`, a pure function, such as
        `lambda state: training.evaluate(cell, state.params, task, key=key)`.
      every: number of steps between evaluations.
      best_by: name of a metric, a floating number or one for each member of an ensemble. The best
        state (of a member) is the first where it is lowest; NaN never is.
      stop_when: `metrics of an evaluation -> bool`: training ends at the first for which it is
        true; None for never.

    Raises:
      ValueError: attributes of another kind.
    """

    evaluate: Callable[[Any], Any]
    every: int = 100
    best_by: str = "loss"
    stop_when: Callable[[Mapping[str, np.ndarray]], Any] | None = None

    def __post_init__(self):
        check_function("evaluate", self.evaluate, "state -> metrics by name")
        check_size("every", self.every)
        if not isinstance(self.best_by, str):
            raise invalid("best_by", self.best_by, "a name", "Pass that of a metric.")
        if self.stop_when is not None:
            check_function("stop_when", self.stop_when, "metrics of an evaluation -> bool")


class Evaluations:
    """The evaluations of a run so far; none, and nothing is done, without a `HeldOut`.

    Attributes:
      best: state at the best evaluation, of an ensemble member by member; None without evaluations.
      layout: dtype and shape of the metrics of one evaluation, and what the best is chosen by.
    """

    def __init__(self, held_out: HeldOut | None, state: Any, one_step: Any):
        """Evaluate the state before training, which says what an evaluation returns.

        Raises:
          ValueError: an evaluation that does not return its `best_by`, a number for each network;
            metrics of one step that those of an evaluation cannot stand beside.
        """
        self.best, self.layout = None, {}
        if held_out is not None and not isinstance(held_out, HeldOut):
            remedy = "Pass training.HeldOut(lambda state: ...)."
            raise invalid("held_out", held_out, "a HeldOut or None", remedy)
        self._held_out = held_out
        if held_out is None:
            return
        if not isinstance(one_step, Mapping) or HELD_OUT in one_step:
            remedy = f"Return a dict of metrics, none of them named {HELD_OUT}."
            raise invalid("train_step", one_step, "metrics by name, beside held_out", remedy)
        found = self._measured(state)
        self._one = jax.eval_shape(lambda: {"step": jnp.int32(0), **found})
        self.history = History(self._one)
        self.layout = {**self.history.layout, "best_by": held_out.best_by}
        self._values = np.full(np.shape(self._value_of(found, state)), np.inf)
        self._note(0, found, state)

    @property
    def is_on(self) -> bool:
        """Return whether there are evaluations."""
        return self._held_out is not None

    @property
    def names(self) -> list[str]:
        """Return the names of the metrics as recorders and the bar have them."""
        return [f"{HELD_OUT}/{n}" for n in self.layout if n not in ("step", "best_by")]

    def is_due(self, step: int, last: int) -> bool:
        """Return whether to evaluate the state after `step` steps, `last` in all."""
        return self._held_out is not None and (step % self._held_out.every == 0 or step == last)

    @property
    def last(self) -> int:
        """Return the number of steps before the last evaluation."""
        return int(self.history.since(self.history.steps - 1)["step"][0])

    def evaluate(self, step: int, state: Any) -> None:
        """Evaluate the state after `step` steps."""
        self._note(step, self._measured(state), state)

    def after(self, step: int) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield the evaluations after more than `step` steps, and when, as recorders take them."""
        if not self.is_on:
            return
        columns = self.history.since(0)
        for row in np.flatnonzero(columns["step"] > step):
            yield (
                int(columns["step"][row]),
                {
                    f"{HELD_OUT}/{name}": values[row : row + 1]
                    for name, values in columns.items()
                    if name != "step"
                },
            )

    def restore(self, rows: bytes, best: Any) -> None:
        """Go on after the evaluations of a checkpoint."""
        if not self.is_on:
            return
        self.history = History(self._one)
        self.history.append_rows(rows, len(rows) // self.history.bytes_per_step)
        self.best = best
        for values in self.history.since(0)[self._given.best_by]:
            self._values = np.fmin(self._values, values)

    def take_rows(self) -> bytes:
        """Return the evaluations since the last call, for a checkpoint."""
        return self.history.take_rows() if self.is_on else b""

    def is_over(self) -> bool:
        """Return whether the last evaluation says to stop."""
        if self._held_out is None or self._held_out.stop_when is None:
            return False
        last = self.history.since(self.history.steps - 1)
        metrics = {name: values[0] for name, values in last.items()}
        try:
            return bool(self._held_out.stop_when(metrics))
        except KeyError as error:
            got, expected = f"one that reads {error}", f"some of {', '.join(metrics)}"
            raise invalid("stop_when", got, expected, "Check the name.") from error

    def joined(self, metrics: Any) -> Any:
        """Return the metrics of the steps with those of the evaluations, `[evaluations, ...]`."""
        return {**metrics, HELD_OUT: self.history.as_tree()} if self.is_on else metrics

    @property
    def _given(self) -> HeldOut:
        assert self._held_out is not None
        return self._held_out

    def _measured(self, state: Any) -> dict[str, Any]:
        """Return the metrics of a state. ValueError unless they are arrays by name."""
        found, best_by = self._given.evaluate(state), self._given.best_by
        if isinstance(found, tuple) and hasattr(found, "_asdict"):
            found = found._asdict()
        if not isinstance(found, Mapping) or best_by not in found or "step" in found:
            named = isinstance(found, Mapping)
            got = f"one that returns {', '.join(map(str, found)) if named else describe(found)}"
            expected = f"metrics by name, {best_by} among them, step not"
            raise invalid("evaluate", got, expected, "Name them, or pass another best_by.")
        return {name: jax.tree.map(jnp.asarray, found[name]) for name in found}

    def _value_of(self, found: Mapping[str, Any], state: Any) -> np.ndarray:
        """Return the number that the best is chosen by, one for each member of an ensemble."""
        value = found[self._given.best_by]
        real = hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)
        leads = {np.shape(leaf)[: value.ndim] for leaf in jax.tree.leaves(state)} if real else set()
        if not real or (value.ndim and leads != {value.shape}):
            expected = "a floating number, or one for each member of an ensemble"
            got = f"{self._given.best_by} of {describe(value)}"
            raise invalid("evaluate", got, expected, "Return its mean.")
        return to_host(value).astype(np.float64)

    def _note(self, step: int, found: Mapping[str, Any], state: Any) -> None:
        """Append an evaluation, and keep the state where it is the best so far."""
        self.history.append([{"step": jnp.int32(step), **found}])
        value = self._value_of(found, state)
        better = value < self._values
        self._values = np.where(better, value, self._values)
        self.best = _selected(better, state, state if self.best is None else self.best)


@jax.jit
def _selected(better: Any, state: Any, best: Any) -> Any:
    """Return the state of the members that are better, in new buffers: steps may donate theirs."""
    return jax.tree.map(lambda new, old: select(better, new, old), state, best)
