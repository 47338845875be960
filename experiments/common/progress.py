"""How far a study is: a bar on a terminal, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 15.0


def progress(steps: Collection[Item], label: str) -> Iterator[Item]:
    """Go through `steps`, saying how many are done."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(steps, desc=label)
        return
    lines = _Lines(label, len(steps))
    for done, step in enumerate(steps, start=1):
        yield step
        lines.say(done)


def training_progress(label: str, steps: int) -> dict[str, Any]:
    """Return options of `fit`: its bar on a terminal, lines with the median loss in a file."""
    if sys.stderr.isatty():
        return {"label": label}
    lines = _Lines(label, steps)

    def record(step: int, metrics: Mapping[str, np.ndarray]) -> None:
        lines.say(step + len(metrics["loss"]), f", loss {np.median(metrics['loss'][-1]):.3f}")

    return {"label": label, "progress": False, "recorders": (record,)}


class _Lines:
    """The first line, the last one, and some in between, seconds apart."""

    def __init__(self, label: str, steps: int):
        self._label, self._steps = label, steps
        self._next = time.monotonic()

    def say(self, done: int, more: str = "") -> None:
        if done == self._steps or time.monotonic() >= self._next:
            print(f"{self._label}: {done:,} of {self._steps:,}{more}", flush=True)
            self._next = time.monotonic() + SECONDS_BETWEEN_LINES
