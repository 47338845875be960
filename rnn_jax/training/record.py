"""Recorders of the metrics of `fit`, as they come: on disk, and in TensorBoard.

A recorder is `(step, metrics) -> None`: metrics by name, `[n, ...]` of n steps, the first of them
`step`; the name of a nested one is `outer/inner`. A run that resumes hands it once more the steps
that it takes once more, and nothing is kept twice.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.errors import check_size, invalid, optional
from rnn_jax.training.files import check_path, make_folder
from rnn_jax.training.held_out import HELD_OUT
from rnn_jax.training.on_disk import OnDisk

Metrics = Mapping[str, np.ndarray]
Recorder = Callable[[int, Metrics], None]

MAX_SCALARS_PER_METRIC = 8
"""Most numbers of a metric that are scalars of TensorBoard; more become a histogram."""
BINS = 30
"""Bins of a histogram."""


def to_disk(folder: str | Path, steps: int) -> Recorder:
    """Return a recorder into one `.npy` file for each metric, `[steps, ...]`, NaN where none was.

    The files have their full size, and their place on the disk, from the first step on and are
    written in place: what a killed run has recorded is there, and `read_record` reads it while the
    run goes on. Files of fewer steps grow, where a run goes on to more of them. Integers and
    booleans are kept as float64, which NaN is one of, bfloat16 and its like as float32.

    Raises:
      ValueError: a folder that is no path, `steps` that are no positive integer; when it is called,
        files of another shape or dtype than that of the metrics, or damaged; more steps than
        `steps`; integers that float64 does not hold exactly; a name that leads out of the folder.
      OSError: when it is called, a file that cannot be written, as on a full disk; names it.
    """
    folder, steps = check_path("folder", folder), check_size("steps", steps)
    files: dict[str, OnDisk] = {}

    def record(step: int, metrics: Metrics) -> None:
        for name, values in metrics.items():
            if step + len(values) > steps:
                got = f"{steps}, for step {step + len(values) - 1}"
                raise invalid("steps", got, "those of fit", "Pass the same number to both.")
            if name not in files:
                files[name] = OnDisk(_file_of(folder, name), steps, values)
            files[name].write(step, values)

    return record


def read_record(folder: str | Path) -> dict[str, np.ndarray]:
    """Return what `to_disk` has recorded so far: `{name: [steps, ...]}`.

    Raises:
      FileNotFoundError: no record there.
      ValueError: a file in it that is damaged.
    """
    folder = check_path("folder", folder)
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): _loaded(file)
        for file in sorted(folder.rglob("*.npy"))
    }
    if not files:
        remedy = "Pass the folder that to_disk was given."
        raise invalid("folder", str(folder), "a folder of a record", remedy, FileNotFoundError)
    return files


def to_tensorboard(folder: str | Path, *, every: int = 1) -> Recorder:
    """Return a recorder into an event file of TensorBoard, of one step in `every`.

    Those are the steps that `every` divides, and all evaluations; of a `Telemetry` that does not
    measure at each step, one that its own divides shows the measurements. An event with telemetry
    takes up to 1 ms.

    A scalar is written as it is, a metric of up to 8 numbers (the gates of an LSTM) elementwise, as
    `name/0`, `name/1` and so on, and a larger one, such as the profile `state_log_norms`, as a
    histogram. What is not finite is not written, such as NaN where nothing
    was measured and an endless horizon. Where a run resumes, TensorBoard discards what the killed
    one wrote beyond that step.

    Raises:
      ValueError: `every` is not a positive integer; a folder that is no path.
      ImportError: when it is called, tensorboardX is not installed.
      OSError: when it is called, the folder cannot be written; names it.
    """
    every, folder = check_size("every", every), check_path("folder", folder)
    writer: list[Any] = []

    def record(step: int, metrics: Metrics) -> None:
        if not metrics:
            return
        if not writer:
            writer.append(_event_file(folder, step))
            weakref.finalize(record, writer[0].close)
        from tensorboardX.proto.event_pb2 import Event

        steps = len(next(iter(metrics.values())))
        is_evaluation = all(name.startswith(f"{HELD_OUT}/") for name in metrics)
        shown = range(steps) if is_evaluation else range(-step % every, steps, every)
        for offset in shown:
            summary = _summary(metrics, offset)
            event = Event(step=step + offset, wall_time=time.time(), summary=summary)
            writer[0].write_event(event)
        if shown:
            writer[0].flush()

    return record


def _file_of(folder: Path, name: str) -> Path:
    """Return the file of a metric. ValueError for a name that leads out of the folder."""
    file = folder / f"{name}.npy"
    if not file.resolve().is_relative_to(folder.resolve()):
        raise invalid("metrics", f"the name {name}", "one within the folder", "Rename it.")
    return file


def _loaded(file: Path) -> np.ndarray:
    """Return the array of a file. ValueError for one that is damaged."""
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        remedy = "Delete it, or choose another folder."
        raise invalid("folder", f"{file} ({error})", "a file of to_disk", remedy) from None


def _event_file(folder: Path, step: int) -> Any:
    """Return an event file from `step` on; what other files have from that step on is purged."""
    # Not SummaryWriter(purge_step=step), which writes the same two events in front: its `flush`
    # does not wait for the thread that writes, and a kill loses up to ten events of a step that a
    # checkpoint counts as recorded.
    optional("tensorboardX", "pip install tensorboardX, or the extra [telemetry]")
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    make_folder(folder)
    writer = EventsWriter(str(folder / "events"), filename_suffix=f".from_step_{step}")
    start = SessionLog(status=SessionLog.START)
    writer.write_event(Event(step=step, wall_time=time.time(), session_log=start))
    return writer


def _summary(metrics: Metrics, offset: int) -> Any:
    """Return the metrics of one step as TensorBoard's."""
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import make_histogram

    values = []
    for name, metric in metrics.items():
        value = metric[offset]
        if value.dtype.kind == "c":
            continue  # TensorBoard has none.
        if value.size > MAX_SCALARS_PER_METRIC:
            finite = value[np.isfinite(value)]
            if finite.size:
                histogram = make_histogram(finite.astype(float), BINS)
                values.append(Summary.Value(tag=name, histo=histogram))
        else:
            for i, number in enumerate(value.flat):
                if math.isfinite(number):
                    tag = name if value.ndim == 0 else f"{name}/{i}"
                    values.append(Summary.Value(tag=tag, simple_value=float(number)))
    return Summary(value=values)
