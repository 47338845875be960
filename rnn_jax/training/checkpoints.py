"""Checkpoints of a run: its state at the last steps, the metrics of all steps, a lock.

```
checkpoint_dir/
  40/state.npz  the state after 40 steps, and what must be equal for a run to go on from it
  20/state.npz  the one before it, for when the newest turns out damaged
  metrics.rows  one row of bytes for each step, appended to; a checkpoint says how many are its own
  lock          held by the process that trains here
```
Each checkpoint is written aside and renamed, so that a kill leaves it complete or not there. It
holds the state alone, so its size does not grow with the run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from rnn_jax.errors import invalid
from rnn_jax.training.files import check_path, make_folder, naming
from rnn_jax.training.fingerprint import differences
from rnn_jax.training.save_restore import (
    STATE_FILE,
    DamagedError,
    packed,
    placed,
    unpacked,
)

State = TypeVar("State")
METRICS_FILE = "metrics.rows"
KEPT = 2
"""Number of checkpoints in the folder, the newest ones."""
START_AGAIN = "Delete that folder to start again, or choose another."


class Found(NamedTuple):
    """A checkpoint that a run goes on from.

    Attributes:
      step: number of steps taken.
      state: state after them.
      rows: metrics of those steps, as `History.take_rows` returns them.
      recorded: number of steps that every recorder had been handed.
    """

    step: int
    state: Any
    rows: bytes
    recorded: int


class Checkpoints:
    """The last states and the metrics of a run in a folder; does nothing where it is None."""

    def __init__(self, directory: str | Path | None, fingerprint: Mapping[str, Any]):
        """Take the folder, and the fingerprint (JSON) that its checkpoints must have."""
        self._fingerprint = dict(fingerprint)
        self._directory = None
        if directory is not None:
            self._directory = check_path("checkpoint_dir", directory).absolute()
        self._lock: IO[bytes] | None = None
        self._steps: list[int] = []
        self._digest = hashlib.sha256()
        self._size = 0
        self._unwritten = b""

    def __enter__(self):
        if self._directory is None:
            return self
        if self._directory.exists() and not self._directory.is_dir():
            got = f"{self._directory}, which is a file"
            remedy = "Choose another path, or remove the file."
            raise invalid("checkpoint_dir", got, "a folder", remedy, NotADirectoryError)
        make_folder(self._directory)
        self._lock = _locked(self._directory / "lock")
        for partial in self._directory.glob(".*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        return self

    def __exit__(self, *_: Any):
        if self._lock is not None:
            self._lock.close()  # and with it goes the lock

    def save(self, step: int, state: Any, rows: bytes, recorded: int) -> None:
        """Keep the state after `step` steps, the metrics since the last call, and `recorded`.

        Raises:
          OSError: it cannot be written; the checkpoints before are as they were.
        """
        if self._directory is None:
            return
        self._unwritten += rows  # and what a save before could not write
        # Metrics first: a kill in between leaves rows that no checkpoint counts as its own, which
        # the resumed run overwrites. The other way round, a checkpoint would lack its rows.
        self._append()
        metrics = {"bytes": self._size, "sha256": self._digest.hexdigest()}
        about = {
            "step": step,
            "recorded": recorded,
            "metrics": metrics,
            "fingerprint": self._fingerprint,
        }
        aside, folder = self._directory / f".{step}.partial", self._directory / str(step)
        with naming(folder):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            (aside / STATE_FILE).write_bytes(packed(state, about))
            if folder.exists():  # Damaged, or it would have been gone on from.
                shutil.rmtree(folder)
            aside.rename(folder)
        self._steps = [s for s in self._steps if s < step] + [step]
        # Last, once the new one is in place: at any moment there is one to go on from.
        for old in self._steps[:-KEPT]:
            shutil.rmtree(self._directory / str(old), ignore_errors=True)
        del self._steps[:-KEPT]

    def restore(self, state: State, most: int) -> Found | None:
        """Return the newest checkpoint that can be read, its state like `state`; None if none is.

        One that cannot be read is named in a warning, and the one before it is taken.

        Raises:
          ValueError: checkpoints, none of which can be read; one of another run, or of more steps
            than `most`.
        """
        if self._directory is None:
            return None
        damages = []
        for step in sorted(self._numbered(), reverse=True):
            try:
                arrays, manifest = self._read(step)
                rows = self._rows(manifest["metrics"])
            except DamagedError as damage:
                damages.append(f"{self._directory / str(step)} ({damage})")
                continue
            self._check_same_run(step, manifest["fingerprint"], most)
            if damages:
                self._warn(damages, f"training goes on from step {step}")
            self._steps = [s for s in sorted(self._numbered()) if s <= step]
            self._cut(rows)
            return Found(step, placed(arrays, state), rows, manifest["recorded"])
        if any(any((self._directory / str(step)).iterdir()) for step in self._numbered()):
            got = f"no checkpoint that can be read: {'; '.join(damages)}"
            raise invalid("checkpoint_dir", got, "one of this run", START_AGAIN)
        if damages:
            self._warn(damages, "training starts from the beginning")
        self._cut(b"")
        return None

    def _numbered(self) -> list[int]:
        """Return the steps that folders are named after."""
        assert self._directory is not None
        folders = [path for path in self._directory.iterdir() if path.is_dir()]
        return [int(path.name) for path in folders if path.name.isdecimal() and path.name.isascii()]

    def _read(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arrays and the manifest of a checkpoint. DamagedError if they are not its."""
        assert self._directory is not None
        folder = self._directory / str(step)
        if not (folder / STATE_FILE).exists():
            raise DamagedError(f"no {STATE_FILE} in it")
        arrays, manifest = unpacked(folder / STATE_FILE)
        if not {"step", "recorded", "metrics", "fingerprint"} <= manifest.keys():
            raise DamagedError("not a checkpoint of fit")
        if manifest["step"] != step:
            raise DamagedError(f"the state in it is that of step {manifest['step']}")
        return arrays, manifest

    def _rows(self, metrics: Mapping[str, Any]) -> bytes:
        """Return the metrics of the steps up to a checkpoint."""
        assert self._directory is not None
        rows = b""
        if metrics["bytes"]:
            try:
                with open(self._directory / METRICS_FILE, "rb") as file:
                    rows = file.read(metrics["bytes"])
            except OSError as error:
                raise DamagedError(f"{error.strerror}: {self._directory / METRICS_FILE}") from None
        if hashlib.sha256(rows).hexdigest() != metrics["sha256"]:
            raise DamagedError(f"its metrics in {self._directory / METRICS_FILE} are damaged")
        return rows

    def _check_same_run(self, step: int, kept: Mapping[str, Any], most: int) -> None:
        """Raise ValueError for a fingerprint of another run, and for more steps than asked for."""
        differing = differences(kept, self._fingerprint)
        if differing:
            got = f"{self._directory}/{step}, a checkpoint of another run: {'; '.join(differing)}"
            raise invalid("checkpoint_dir", got, "one of this run", START_AGAIN)
        if step > most:
            got = f"{most}, where {self._directory} holds {step} steps already"
            raise invalid("steps", got, f"at least {step}", "Ask for more, or choose a new folder.")

    def _warn(self, damages: list[str], consequence: str) -> None:
        text = f"checkpoint_dir: cannot read {'; '.join(damages)}; {consequence}."
        warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _append(self) -> None:
        """Write the rows that are not on the disk yet, behind those that are."""
        assert self._directory is not None
        rows, file = self._unwritten, self._directory / METRICS_FILE
        if not rows:
            return
        # To a place, not in mode "a": a write that a full disk cut short is written over.
        with naming(file), open(file, "r+b" if file.exists() else "w+b") as opened:
            opened.seek(self._size)
            opened.write(rows)
        self._digest.update(rows)
        self._size += len(rows)
        self._unwritten = b""

    def _cut(self, rows: bytes) -> None:
        """Go on after these rows; what a killed run wrote beyond them is overwritten."""
        assert self._directory is not None
        self._digest, self._size = hashlib.sha256(rows), len(rows)
        file = self._directory / METRICS_FILE
        if file.exists():
            os.truncate(file, len(rows))


def _locked(path: Path) -> IO[bytes]:
    """Return the file, locked until it is closed, or the process ends in whatever way.

    Raises:
      BlockingIOError: another run holds it.
    """
    file = open(path, "ab")  # noqa: SIM115 - it stays open as long as the lock is held
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no such locks on this system
        pass
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            file.close()
            got = f"{path.parent}, where another run is training"
            remedy = "Wait until it has ended, or choose another folder."
            raise invalid(
                "checkpoint_dir", got, "a folder of one run at a time", remedy, BlockingIOError
            ) from None
        # A file system without locks: nothing to hold on to.
    return file
