"""The loop around a train_step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rnn_jax.errors import check_flag, check_function, check_size, invalid
from rnn_jax.training.checkpoints import Checkpoints
from rnn_jax.training.fingerprint import fingerprint_of, trace
from rnn_jax.training.held_out import Evaluations, HeldOut
from rnn_jax.training.history import History
from rnn_jax.training.interrupts import Interrupts
from rnn_jax.training.leaves import named_leaves
from rnn_jax.training.processes import are_several, is_first
from rnn_jax.training.progress import Progress
from rnn_jax.training.record import Recorder
from rnn_jax.training.skipped import SkippedSteps

State = TypeVar("State")
Hook = Callable[[int, Any], None]

STEPS_BETWEEN_READINGS = 10
"""Steps after which the loop waits for the device, to read and show their metrics."""
SECONDS_BETWEEN_CHECKPOINTS = 10.0
"""Seconds from one checkpoint to the next, unless the user says steps: to write one takes 0.1."""
STEPS_BETWEEN_CHECKPOINTS = 100
"""Steps instead of seconds where there are several processes."""


def fit(
    train_step: Callable[[State, Any], tuple[State, Any]],
    state: State,
    batch_at: Callable[[int], Any],
    steps: int,
    *,
    label: str = "training",
    progress: bool = True,
    show: Sequence[str] | None = None,
    held_out: HeldOut | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int | None = None,
    keep: int = 2,
    recorders: Sequence[Recorder] = (),
    hooks: Sequence[Hook] = (),
    max_skipped: int | None = 100,
    config: Mapping[str, Any] | None = None,
) -> tuple[State, Any]:
    """Take `steps` steps of `train_step`, resuming where a killed run left off.

    With a `checkpoint_dir`, a run that ended in whatever way goes on from its last checkpoint, to
    the same bits as if it had never stopped, also on another number of devices, where those compute
    the same bits; one that is complete goes on to more steps. After an exception, Ctrl-C among
    them, the last complete step is kept before it is raised again. One run at a time may use a
    folder, and a checkpoint of another run is refused (`training.fingerprint` says what it may
    differ in).

    Args:
      train_step: `(state, batch) -> (state, metrics)`, jitted; over one network or, vmapped, over
        an ensemble. The metrics are arrays, of any name, nested or not.
      state: the initial state, for a run without a checkpoint. A restored one lies on its devices.
      batch_at: `step -> batch`, a pure function, so that a resumed run sees the same batches.
      steps: number of steps in all, those before a resumption included.
      label: text in front of the progress bar.
      progress: show a bar on a terminal or in a notebook, elsewhere a line every ten seconds.
      show: names of metrics that it shows, the median over an ensemble; the usual ones by default
        (`training.progress`). Skipped steps are shown in any case.
      held_out: evaluation of data that is not trained on; where it is best, the state is kept.
      checkpoint_dir: keep states and metrics there (`training.checkpoints` says how), and start
        from the last state kept. One that is damaged is named in a warning, and the one before it
        is taken. `training.restore` reads the last or the best state alone.
      checkpoint_every: number of steps between checkpoints, the last step apart, which has one in
        any case; by default about ten seconds lie between them.
      keep: number of checkpoints that are kept, the newest ones; each holds the best state too.
      recorders: each is called with `(step, metrics)` whenever metrics have come from the device
        (`training.record`). `to_disk` and `to_tensorboard` make such.
      hooks: each is called with `(step, state)` after each step, `step` the number taken so far.
      max_skipped: stop when the gradient of every network has not been finite, and the step was
        skipped (`make_train_step`), so many times in a row. The first skipped step is said in a
        warning, and so is a network of an ensemble that has been skipped so often. None to go on.
      config: names, numbers and text that a resumed run must have in common with this one.

    Returns:
      The state after the last step, and the metrics stacked over steps, `[steps, ...]`, nested as
      those of one step are; with `held_out`, a dict of them with that name for one more.

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
    run = _Run(state, steps, checkpoint_every, recorders, hooks, max_skipped)
    hidden = not check_flag("progress", progress) or not is_first()
    bar = Progress(run.steps, str(label), show, hidden=hidden)
    program, one_step = trace(train_step, state, batch_at(0))
    evaluations = Evaluations(held_out, state, one_step)
    bar.check_shown([*named_leaves(one_step), *evaluations.names])
    fingerprint = fingerprint_of(program, state, one_step, config, evaluations.layout)
    interrupts = Interrupts(hold=checkpoint_dir is not None)
    with bar, Checkpoints(checkpoint_dir, fingerprint, keep) as checkpoints, interrupts:
        run.begin(History(one_step), evaluations, checkpoints, bar)
        with _kept_after_an_error(run, checkpoints):
            run.train(train_step, batch_at, interrupts)
            checkpoints.wait()
    return run.state, evaluations.joined(run.history.as_tree())


class _Run:
    """The loop, and how far it has come.

    Attributes:
      state: state after the last step.
      taken: number of steps taken.
      unread: metrics that are still on the device, one of each step.
      history: metrics of the other steps.
    """

    def __init__(
        self, state: Any, steps: Any, every: Any, recorders: Any, hooks: Any, max_skipped: Any
    ):
        """Take arguments of `fit`. ValueError for those of another kind."""
        self.state, self.taken = state, 0
        self.steps = check_size("steps", steps)
        self.unread: list[Any] = []
        self._every = None if every is None else check_size("checkpoint_every", every)
        recorders = _functions("recorders", recorders, "(step, metrics)")
        self._recorders = recorders if is_first() else []
        self._hooks = _functions("hooks", hooks, "(step, state)")
        most = None if max_skipped is None else check_size("max_skipped", max_skipped)
        self._skipped = SkippedSteps(most)

    def begin(
        self, history: History, evaluations: Evaluations, checkpoints: Checkpoints, bar: Progress
    ) -> None:
        """Go on from a checkpoint if there is one."""
        self.history, self._evaluations, self._recorded = history, evaluations, 0
        self._checkpoints, self._bar, self._saved_at = checkpoints, bar, time.monotonic()
        found = checkpoints.restore(self.state, self.steps)
        if found is None:
            return
        history.append_rows(found.rows["metrics"], found.step)
        evaluations.restore(found.rows["held_out"], found.best)
        self.state, self.taken = found.state, found.step
        bar.resume(found.step)
        self._skipped.recall(history.since(0))
        # What a recorder could not write when the run ended.
        self._record(found.recorded)

    def train(self, train_step: Any, batch_at: Any, interrupts: Interrupts) -> None:
        """Take the steps that are left, and keep the state after each `every` and the last."""
        # An error may have come between a step that is kept and its evaluation.
        missing = self._is_due() and self._evaluations.last < self.taken
        is_over = self.evaluate() if missing else self._evaluations.is_over()
        while self.taken < self.steps and not is_over:
            self.take(train_step, batch_at(self.taken))
            for hook in self._hooks:
                hook(self.taken, self.state)
            if self._is_due():
                self.read()
                is_over = self.evaluate()
            keep = is_over or self.taken == self.steps or self._is_to_be_kept()
            # To read is to wait for the device, which meanwhile has no next step to begin.
            if keep or len(self.unread) == STEPS_BETWEEN_READINGS:
                self.read()
            if keep:
                self.save()
            interrupts.check()
        self.save()  # where the run was over before its first step

    def take(self, train_step: Any, batch: Any) -> None:
        """Take one step."""
        # One statement, between whose assignments no signal is handled.
        self.taken, (self.state, metrics) = self.taken + 1, train_step(self.state, batch)
        self.unread.append(metrics)

    def evaluate(self) -> bool:
        """Evaluate the state, hand the metrics on, and return whether the run is over."""
        self._evaluations.evaluate(self.taken, self.state)
        self._recorded = self.taken - 1  # until every recorder has the evaluation too
        self._record_evaluations(self._recorded)
        self._recorded = self.taken
        return self._evaluations.is_over()

    def read(self) -> None:
        """Wait for the metrics, and hand them on."""
        if not self.unread:
            return
        count = len(self.unread)
        self.history.append(self.unread)
        self.unread.clear()
        begin = self._recorded
        self._record(begin)
        self._bar.update(self.history.since(self.taken - count), count)
        self._skipped.read(begin, self.history.since(begin))

    def save(self) -> None:
        """Keep the state, once the metrics of all steps are read."""
        # After an error the metrics of the last steps may be lost; a state ahead of its metrics
        # would leave a hole in the record of a resumed run.
        complete = self.history.steps == self.taken
        if complete and self.taken > self._checkpoints.newest:
            rows = {"metrics": self.history.take_rows(), "held_out": self._evaluations.take_rows()}
            best = self._evaluations.best
            self._checkpoints.save(self.taken, self.state, best, rows, self._recorded)
            self._saved_at = time.monotonic()

    def _is_to_be_kept(self) -> bool:
        if self._every is not None or are_several():  # whose clocks differ
            return self.taken % (self._every or STEPS_BETWEEN_CHECKPOINTS) == 0
        return time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS

    def _is_due(self) -> bool:
        return self._evaluations.is_due(self.taken, self.steps)

    def _record(self, begin: int) -> None:
        end = self.history.steps
        if begin < end:
            metrics = self.history.since(begin)
            for record in self._recorders:
                record(begin, metrics)
            self._record_evaluations(begin)
        self._recorded = end

    def _record_evaluations(self, begin: int) -> None:
        """Hand on the evaluations after step `begin`."""
        for step, metrics in self._evaluations.after(begin):
            for record in self._recorders:
                record(step - 1, metrics)
            self._bar.update(metrics, 0)


@contextlib.contextmanager
def _kept_after_an_error(run: _Run, checkpoints: Checkpoints) -> Iterator[None]:
    """Keep the last complete step where something is raised, and raise it again."""
    try:
        yield
    except BaseException as error:
        if are_several():
            raise  # alone, while the others may be waiting for this one elsewhere
        for last in (run.read, run.save, checkpoints.wait):
            try:
                last()
            except Exception as another:
                error.add_note(f"Then, to keep the last step: {another}")
        raise


def _functions(argument: str, functions: Any, signature: str) -> list[Any]:
    """Return them as a list. ValueError for what is no sequence of functions."""
    found = list(functions) if isinstance(functions, Iterable) else [None]
    if not all(map(callable, found)):
        remedy = "Pass a list of them, such as what to_disk and to_tensorboard return."
        raise invalid(argument, functions, f"a sequence of functions {signature}", remedy)
    return found
