"""The loop around a train_step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rnn_jax.errors import check_flag, check_function, check_size, invalid
from rnn_jax.training.checkpoints import Checkpoints, Found
from rnn_jax.training.fingerprint import fingerprint_of, trace
from rnn_jax.training.history import History
from rnn_jax.training.interrupts import Interrupts
from rnn_jax.training.record import Recorder
from rnn_jax.training.skipped import SkippedSteps

State = TypeVar("State")

STEPS_BETWEEN_READINGS = 10
"""Steps after which the loop waits for the device, to read and show their metrics."""


def fit(
    train_step: Callable[[State, Any], tuple[State, Any]],
    state: State,
    batch_at: Callable[[int], Any],
    steps: int,
    *,
    label: str = "training",
    progress: bool = True,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int = 100,
    recorders: Sequence[Recorder] = (),
    max_skipped: int | None = 100,
    config: Mapping[str, Any] | None = None,
) -> tuple[State, Any]:
    """Take `steps` steps of `train_step`, resuming where a killed run left off.

    With a `checkpoint_dir`, a run that ended in whatever way goes on from its last checkpoint, to
    the same bits as if it had never stopped, also on another number of devices, where those compute
    the same bits; one that is complete goes on to more steps. After an exception, Ctrl-C among
    them, the last complete step is kept before it is raised again. One run at a time may use a
    folder.

    A checkpoint is refused, and what differs is named, unless these are equal: the leaves of the
    state, their shapes and dtypes; the classes of the optimizer's state; the metrics; `clip_norm`;
    the operations of the optimizer and of the loss, cell and gradient, and the constants of the
    latter; `config`. What may change: `steps`, the learning rate, its schedule and every other
    constant of the optimizer, the label, recorders and intervals. What is not seen: the data, and
    the values of arrays that train_step closes over; say in `config` what must not change of
    those. Operations are not compared after an update of JAX or optax, or on another platform.

    Args:
      train_step: `(state, batch) -> (state, metrics)`, jitted; over one network or, vmapped, over
        an ensemble. The metrics are arrays, of any name, nested or not.
      state: the initial state, for a run without a checkpoint. A restored one lies on its devices.
      batch_at: `step -> batch`, a pure function, so that a resumed run sees the same batches.
      steps: number of steps in all, those before a resumption included.
      label: text in front of the progress bar.
      progress: show the bar, with the median over the ensemble of `loss`, or of the first metric
        where there is none.
      checkpoint_dir: keep states and metrics there (`training.checkpoints` says how), the last two
        states, and start from the last one kept. One that is damaged is named in a warning, and
        the one before it is taken. `training.restore` reads the state alone.
      checkpoint_every: number of steps between checkpoints.
      recorders: each is called with `(step, metrics)` whenever metrics have come from the device:
        those of n steps by name, `[n, ...]`, the first of them `step`; a nested one's name is
        `outer/inner`. `to_disk` and `to_tensorboard` make such.
      max_skipped: stop when the gradient of every network has not been finite, and the step was
        skipped (`make_train_step`), so many times in a row. The first skipped step is said in a
        warning, and so is a network of an ensemble that has been skipped so often. None to go on.
      config: names, numbers and text that a resumed run must have in common with this one.

    Returns:
      The state after the last step, and the metrics stacked over steps, `[steps, ...]`, nested as
      those of one step are.

    Raises:
      ValueError: arguments of another kind; a train step that does not return a state like the one
        it was given; a checkpoint of another run, or of more than `steps` steps; checkpoints none
        of which can be read.
      FloatingPointError: `max_skipped` steps in a row; names the first.
      OSError: a folder that cannot be written, such as one that is a file or on a full disk; one
        that another run holds. It names the path.
    """
    check_function("train_step", train_step, "(state, batch) -> (state, metrics)")
    check_function("batch_at", batch_at, "step -> batch")
    steps, every = check_size("steps", steps), check_size("checkpoint_every", checkpoint_every)
    most = None if max_skipped is None else check_size("max_skipped", max_skipped)
    bar = _Bar(steps, str(label), not check_flag("progress", progress))
    recorders = _checked_recorders(recorders)
    program, one_step = trace(train_step, state, batch_at(0))
    fingerprint = fingerprint_of(program, state, one_step, config)
    interrupts = Interrupts(hold=checkpoint_dir is not None)
    with bar, Checkpoints(checkpoint_dir, fingerprint) as checkpoints, interrupts:
        found = checkpoints.restore(state, steps)
        run = _Run(found.state if found else state, checkpoints, recorders, SkippedSteps(most), bar)
        run.begin(History(one_step), found)
        with _kept_after_an_error(run):
            run.train(train_step, batch_at, steps, every, interrupts)
    return run.state, run.history.as_tree()


class _Run:
    """The loop, and how far it has come.

    Attributes:
      state: state after the last step.
      taken: number of steps taken.
      unread: metrics that are still on the device, one of each step.
      history: metrics of the other steps.
    """

    def __init__(self, state: Any, checkpoints: Any, recorders: Any, skipped: Any, bar: Any):
        self.state, self.taken = state, 0
        self.unread: list[Any] = []
        self._checkpoints, self._recorders = checkpoints, recorders
        self._skipped, self._bar = skipped, bar

    def begin(self, history: History, found: Found | None) -> None:
        """Go on from a checkpoint if there is one."""
        self.history, self._recorded, self._saved = history, 0, 0
        if found is None:
            return
        history.append_rows(found.rows, found.step)
        self.taken = self._saved = found.step
        self._bar.update(found.step)
        self._skipped.recall(history.since(0))
        # What a recorder could not write when the run ended.
        self._record(found.recorded)

    def train(
        self, train_step: Any, batch_at: Any, steps: int, every: int, interrupts: Interrupts
    ) -> None:
        """Take the steps up to `steps`, and keep the state after each `every`."""
        for step in range(self.taken, steps):
            self.take(train_step, batch_at(step))
            keep = self.taken == steps or self.taken % every == 0
            # To read is to wait for the device, which meanwhile has no next step to begin.
            if keep or len(self.unread) == STEPS_BETWEEN_READINGS:
                self.read()
            if keep:
                self.save()
            interrupts.check()

    def take(self, train_step: Any, batch: Any) -> None:
        """Take one step."""
        # One statement, between whose assignments no signal is handled.
        self.taken, (self.state, metrics) = self.taken + 1, train_step(self.state, batch)
        self.unread.append(metrics)

    def read(self) -> None:
        """Wait for the metrics, and hand them on."""
        if not self.unread:
            return
        self.history.append(self.unread)
        self._bar.update(len(self.unread))
        self.unread.clear()
        begin = self._recorded
        self._record(begin)
        self._bar.show(self.history.since(self.taken - 1))
        self._skipped.read(begin, self.history.since(begin))

    def save(self) -> None:
        """Keep the state, once the metrics of all steps are read."""
        # After an error the metrics of the last steps may be lost; a state ahead of its metrics
        # would leave a hole in the record of a resumed run.
        complete = self.history.steps == self.taken
        if complete and self.taken > self._saved:
            rows = self.history.take_rows()
            self._checkpoints.save(self.taken, self.state, rows, self._recorded)
            self._saved = self.taken

    def _record(self, begin: int) -> None:
        end = self.history.steps
        if begin < end:
            metrics = self.history.since(begin)
            for record in self._recorders:
                record(begin, metrics)
        self._recorded = end


@contextlib.contextmanager
def _kept_after_an_error(run: _Run) -> Iterator[None]:
    """Keep the last complete step where something is raised, and raise it again."""
    try:
        yield
    except BaseException as error:
        for last in (run.read, run.save):
            try:
                last()
            except Exception as another:
                error.add_note(f"Then, to keep the last step: {another}")
        raise


class _Bar:
    """Progress bar with the loss."""

    def __init__(self, steps: int, label: str, hidden: bool):
        from tqdm import tqdm

        self._bar = tqdm(total=steps, desc=label, disable=hidden)

    def __enter__(self):
        return self

    def __exit__(self, *_: Any):
        self._bar.close()

    def update(self, steps: int) -> None:
        self._bar.update(steps)

    def show(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Show the median of the last step's loss, or else of the first real metric."""
        real = {name: values for name, values in metrics.items() if values.dtype.kind != "c"}
        name = "loss" if "loss" in real else next(iter(real), None)
        if not self._bar.disable and name is not None and real[name].size:
            self._bar.set_postfix({name: f"{np.median(real[name][-1].astype(float)):.3f}"})


def _checked_recorders(recorders: Any) -> list[Recorder]:
    """Return the recorders as a list. ValueError for what is no sequence of functions."""
    remedy = "Pass a list of what to_disk and to_tensorboard return, or functions like it."
    expected = "a sequence of functions (step, metrics)"
    if not isinstance(recorders, Iterable):
        raise invalid("recorders", recorders, expected, remedy)
    recorders = list(recorders)
    if not all(map(callable, recorders)):
        raise invalid("recorders", recorders, expected, remedy)
    return recorders
