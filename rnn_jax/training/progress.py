"""How far a run is: a bar on a terminal or in a notebook, a line now and then in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping

import numpy as np

from rnn_jax.errors import invalid

SHOWN = ("loss", "grad_norm", "learning_rate", "held_out/loss", "held_out/solved")
"""Metrics that are shown unless others are asked for."""
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """The bar of one run."""

    def __init__(self, steps: int, label: str, shown: Iterable[str] | None, *, hidden: bool):
        """Take the number of steps, and the metrics to show; None for the usual ones."""
        from tqdm.auto import tqdm

        if shown is not None and (isinstance(shown, str) or not isinstance(shown, Iterable)):
            raise invalid("show", shown, "a sequence of names", "Pass names of metrics.")
        self._named = None if shown is None else [str(name) for name in shown]
        self._is_bar = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._hidden, self._label, self._steps = hidden, label, steps
        self._bar = tqdm(total=steps, desc=label, disable=hidden or not self._is_bar)
        self._values: dict[str, str] = {}
        self._skipped = 0.0
        self._done = self._before = 0
        self._begun = time.monotonic()
        self._compiled: tuple[float, int] | None = None
        self._next_line = self._begun + SECONDS_BETWEEN_LINES

    def __enter__(self):
        return self

    def __exit__(self, *error: object):
        if not any(error):
            self._say()
        self._bar.close()

    def check_shown(self, known: Iterable[str]) -> None:
        """Raise ValueError for a name that is none of those of the metrics."""
        known = list(known)
        for name in self._named or ():
            if name not in known:
                raise invalid("show", name, f"some of {', '.join(known)}", "Check the name.")

    def resume(self, steps: int) -> None:
        """Count the steps that another process has taken."""
        self._before = self._done = steps
        self._bar.initial = steps
        self._bar.update(steps)
        self._bar.unpause()

    def update(self, metrics: Mapping[str, np.ndarray], steps: int) -> None:
        """Show the last of `[n, ...]` metrics, after n more steps of training or none.

        Of many numbers, as an ensemble has them, the median is shown, of learning rates the least
        and the largest; skipped steps are counted.
        """
        self._done += steps
        if steps and self._compiled is None:
            self._compiled = time.monotonic(), self._done
        if self._hidden:
            return
        self._bar.update(steps)
        if "skipped" in metrics:
            self._skipped += float(metrics["skipped"].sum())
        for name in self._names(metrics):
            if metrics[name].size and metrics[name].dtype.kind != "c":
                self._values[name] = _shown(name, metrics[name][-1].astype(float))
        if self._skipped:
            self._values["skipped"] = f"{self._skipped:g}"
        if self._is_bar:
            self._bar.set_postfix(self._values, refresh=False)
        elif self._done < self._steps and time.monotonic() >= self._next_line:
            self._say()

    def _names(self, metrics: Mapping[str, np.ndarray]) -> list[str]:
        """Return which of these metrics to show: the usual ones, or else the first."""
        if self._named is not None:
            return [name for name in self._named if name in metrics]
        usual = [name for name in SHOWN if name in metrics]
        return usual or ([] if self._values else [*metrics][:1])

    def _say(self) -> None:
        """Print a line."""
        if self._hidden or self._is_bar:
            return
        # Once more than one lot of steps is taken, without the first, which was compiled.
        since, before = self._begun, self._before
        if self._compiled is not None and self._done > self._compiled[1]:
            since, before = self._compiled
        rate = (self._done - before) / max(time.monotonic() - since, 1e-9)
        said = [f"{self._done:,} of {self._steps:,}"]
        if self._done > self._before:
            said += [f"{rate:,.0f} steps/s" if rate >= 100 else f"{rate:.3g} steps/s"]
            if self._done < self._steps:
                said += [f"{self._bar.format_interval((self._steps - self._done) / rate)} left"]
        said += [f"{name} {value}" for name, value in self._values.items()]
        print(f"{self._label}: {', '.join(said)}", file=sys.stderr, flush=True)
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES


def _shown(name: str, values: np.ndarray) -> str:
    if name == "learning_rate" and values.min() < values.max():
        return f"{values.min():.4g}–{values.max():.4g}"
    return f"{np.median(values):.4g}"
