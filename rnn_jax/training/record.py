"""Where `fit` puts its metrics as they come: on disk, and in TensorBoard.

A recorder is `(step, metrics) -> None`: metrics `[n, ...]` of n steps, the first of them `step`. A
run that resumes hands it once more the steps that it takes once more, and nothing is kept twice.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.errors import check_size, invalid

Metrics = Mapping[str, np.ndarray]
Recorder = Callable[[int, Metrics], None]

FEW = 8
"""Numbers of a metric that TensorBoard gets one by one; more of them become a histogram."""
BINS = 30
"""Of a histogram."""


def to_disk(folder: str | Path, steps: int) -> Recorder:
    """A recorder into one `.npy` file for each metric, `[steps, ...]`, NaN where no step has been.

    The files have their full size from the first step on and are written in place: what a killed
    run has recorded is there, and `read_record` reads it while the run goes on.

    Raises:
      ValueError: when it is called, files of another shape or dtype than that of the metrics, or
        more steps than `steps`.
    """
    files: dict[str, np.ndarray] = {}

    def record(step: int, metrics: Metrics) -> None:
        for name, values in metrics.items():
            if name not in files:
                shape = (steps, *values.shape[1:])
                files[name] = _opened(Path(folder) / f"{name}.npy", shape, values.dtype)
            if step + len(values) > steps:
                got = f"{steps}, for step {step + len(values) - 1}"
                raise invalid("steps", got, "those of fit", "Pass the same number to both.")
            files[name][step : step + len(values)] = values

    return record


def read_record(folder: str | Path) -> dict[str, np.ndarray]:
    """What `to_disk` has recorded so far: `{name: [steps, ...]}`.

    Raises:
      FileNotFoundError: no record there.
    """
    folder = Path(folder)
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): np.load(file)
        for file in sorted(folder.rglob("*.npy"))
    }
    if not files:
        remedy = "Pass the folder that to_disk was given."
        raise invalid("folder", str(folder), "a folder of a record", remedy, FileNotFoundError)
    return files


def to_tensorboard(folder: str | Path, *, every: int = 1) -> Recorder:
    """A recorder into an event file of TensorBoard, by tensorboardX, of one step in `every`.

    Those are the steps that `every` divides; of a `Telemetry` that does not measure at each step,
    one that its own divides shows the measurements. An event with telemetry takes up to 1 ms.

    A scalar is written as it is, a metric of up to 8 numbers (the gates of an LSTM) number by
    number, as `name/0`, `name/1` and so on, and a larger one, such as the profile
    `state_log_norms`, as a histogram. What is not finite is not written, such as NaN where nothing
    was measured and an endless horizon. Where a run resumes, TensorBoard discards what the killed
    one wrote beyond that step.

    Raises:
      ValueError: `every` is not a positive integer.
    """
    check_size("every", every)
    writer: list[Any] = []

    def record(step: int, metrics: Metrics) -> None:
        from tensorboardX.proto.event_pb2 import Event

        if not writer:
            writer.append(_begun(Path(folder), step))
            weakref.finalize(record, writer[0].close)
        shown = range(-step % every, len(next(iter(metrics.values()))), every)
        for offset in shown:
            summary = _summary(metrics, offset)
            event = Event(step=step + offset, wall_time=time.time(), summary=summary)
            writer[0].write_event(event)
        if shown:
            writer[0].flush()

    return record


def _opened(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        array = np.lib.format.open_memmap(file, "w+", dtype, shape)
        array[:] = np.nan
        return array
    array = np.lib.format.open_memmap(file, "r+")
    if array.shape != shape or array.dtype != dtype:
        remedy = "Delete that folder, or choose another."
        raise invalid("folder", f"{file} of another run", f"{dtype}{list(shape)}", remedy)
    return array


def _begun(folder: Path, step: int) -> Any:
    """An event file that begins at `step`, written at once: SummaryWriter's queue may be lost."""
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    folder.mkdir(parents=True, exist_ok=True)
    writer = EventsWriter(str(folder / "events"), filename_suffix=f".from_step_{step}")
    start = SessionLog(status=SessionLog.START)
    writer.write_event(Event(step=step, wall_time=time.time(), session_log=start))
    return writer


def _summary(metrics: Metrics, offset: int) -> Any:
    """The metrics of one step as TensorBoard's."""
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import make_histogram

    values = []
    for name, metric in metrics.items():
        value = metric[offset]
        if value.size > FEW:
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
