"""Where `fit` puts its metrics as they come: on disk, and in TensorBoard.

A recorder is `(step, metrics) -> None`: metrics `[n, ...]` of n steps, the first of them `step`. A
run that resumes hands it once more the steps that it takes once more, and nothing is kept twice.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rnn_jax.errors import invalid

Metrics = Mapping[str, np.ndarray]
Recorder = Callable[[int, Metrics], None]

FEW = 8
"""Numbers of a metric that TensorBoard gets one by one; more of them become a histogram."""


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


def to_tensorboard(folder: str | Path) -> Recorder:
    """A recorder into an event file of TensorBoard, by tensorboardX.

    A scalar is written as it is, a metric of up to 8 numbers (the gates of an LSTM) number by
    number, as `name/0`, `name/1` and so on, and a larger one, such as the profile
    `state_log_norms`, as a histogram. What is not finite is not written, such as NaN where nothing
    was measured and an endless horizon. Where a run resumes, TensorBoard discards what the killed
    one wrote beyond that step.
    """
    writer: list[Any] = []

    def record(step: int, metrics: Metrics) -> None:
        from tensorboardX.proto.event_pb2 import Event

        if not writer:
            writer.append(_begun(Path(folder), step))
            weakref.finalize(record, writer[0].close)
        for offset in range(len(next(iter(metrics.values())))):
            event = Event(step=step + offset, wall_time=time.time())
            for name, values in metrics.items():
                for summary in _summaries(name, values[offset]):
                    event.summary.MergeFrom(summary)
            writer[0].write_event(event)
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


def _summaries(name: str, value: np.ndarray) -> Iterator[Any]:
    from tensorboardX import summary

    if value.size > FEW:
        finite = value[np.isfinite(value)]
        if finite.size:
            yield summary.histogram(name, finite, bins="auto")
    else:
        for i, number in enumerate(np.ravel(value)):
            if np.isfinite(number):
                yield summary.scalar(name if value.ndim == 0 else f"{name}/{i}", number)
