"""Steps whose gradient was not finite: a warning for the first, an error where they do not end."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from rnn_jax.errors import invalid


class SkippedSteps:
    """Reader of the metric `skipped` of a run, `[n, ...]` of n steps, a number for each network."""

    def __init__(self, most: int | None):
        """Take the skipped steps in a row after which the run stops; None to go on forever."""
        self._most = most
        self._since: np.ndarray | None = None
        self._told = self._told_stuck = False

    def read(self, begin: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Look at the steps from `begin` on.

        Raises:
          FloatingPointError: every network has been skipped `most` times in a row; names the step
            of the first.
        """
        flags = metrics.get("skipped")
        if flags is None or not flags.size:
            return
        if self._since is None:
            self._since = np.full(flags.shape[1:], -1)
        if not flags.any():
            self._since = np.full(flags.shape[1:], -1)
            return
        for step, flag in enumerate(flags != 0, begin):
            self._since = np.where(flag, np.where(self._since < 0, step, self._since), -1)
            if flag.any() and not self._told:
                self._told = True
                self._warn(f"the gradient of step {step}{_who(flag)} is not finite; it is skipped")
            # Step by step: a row may be long enough within a reading, and over at its end.
            if self._most is not None and flag.any():
                self._stop(step)

    def recall(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Take note of the steps before a resumption, of which everything has been said."""
        flags = metrics.get("skipped")
        if flags is None or not len(flags):
            return
        self._told = bool(flags.any())
        # Backwards from the last step: where the row of skipped steps that it stands in began.
        alike = np.ones(flags.shape[1:], bool)
        self._since = np.full(flags.shape[1:], -1)
        for step in range(len(flags) - 1, -1, -1):
            alike &= flags[step] != 0
            if not alike.any():
                break
            self._since = np.where(alike, step, self._since)

    def _stop(self, step: int) -> None:
        """Raise FloatingPointError if all networks are stuck; warn once if some are."""
        assert self._since is not None
        assert self._most is not None
        stuck = (self._since >= 0) & (step + 1 - self._since >= self._most)
        if stuck.all():
            first = int(self._since.min())
            raise invalid(
                "gradient",
                f"one that is not finite at each of {step + 1 - int(self._since.max())} steps in a "
                f"row, the first of them step {first}",
                "a finite one",
                "Lower the learning rate, clip, or look at the batch and the loss of that step.",
                FloatingPointError,
            )
        if stuck.any() and not self._told_stuck:
            self._told_stuck = True
            since = int(self._since[stuck].min())
            self._warn(f"no gradient{_who(stuck)} has been finite since step {since}")

    def _warn(self, what: str) -> None:
        text = f"fit: {what}: the parameters stay. The metric `skipped` counts such steps."
        warnings.warn(text, RuntimeWarning, stacklevel=5)


def _who(flag: np.ndarray) -> str:
    """Return which members of an ensemble are meant, as text; nothing for one network."""
    if flag.ndim == 0:
        return ""
    members = [str(tuple(map(int, at)) if len(at) > 1 else int(at[0])) for at in np.argwhere(flag)]
    more = f" and {len(members) - 5} more" if len(members) > 5 else ""
    return f" of member {', '.join(members[:5])}{more}"
