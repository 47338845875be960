"""Checkpoints of a run: its last states, the rows of its metrics, a lock.

```
checkpoint_dir/
  40/            the state after 40 steps, and what must be equal for a run to go on from it
  20/            the one before it, for when the newest turns out damaged
  metrics.rows   one row of bytes for each step, appended to; a checkpoint says how many are its own
  held_out.rows  one for each evaluation
  lock           held by the process that trains here
```
A checkpoint (`training.state_folder`) holds the state alone, so its size does not grow with the
run. It is written by a thread of its own while training goes on.
"""

from __future__ import annotations

import errno
import shutil
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import jax

from rnn_jax.errors import check_size, invalid
from rnn_jax.training.files import check_path, make_folder
from rnn_jax.training.fingerprint import differences
from rnn_jax.training.leaves import DamagedError, arrays_of, placed
from rnn_jax.training.processes import is_first, of_first
from rnn_jax.training.rows import Rows
from rnn_jax.training.state_folder import PARTIAL, read_manifest, read_tree, write_folder

State = TypeVar("State")
TABLES = ("metrics", "held_out")
"""What a run appends rows to."""
NONE = -1
"""The step of no checkpoint: one of step 0 is that of a run that was over before it began."""
START_AGAIN = "Delete that folder to start again, or choose another."


class Found(NamedTuple):
    """A checkpoint that a run goes on from.

    Attributes:
      step: number of steps taken.
      state: state after them.
      best: state at the best evaluation; None without evaluations.
      rows: what was appended up to it, by table.
      recorded: number of steps that every recorder had been handed.
    """

    step: int
    state: Any
    best: Any
    rows: dict[str, bytes]
    recorded: int


class Checkpoints:
    """The last states and the rows of a run in a folder; does nothing where it is None.

    Attributes:
      newest: step of the newest checkpoint, one that is being written included; −1 for none.
    """

    def __init__(self, directory: str | Path | None, fingerprint: Mapping[str, Any], keep: int):
        """Take the folder, the fingerprint (JSON) of the run, and how many states are kept."""
        self._fingerprint, self._keep = dict(fingerprint), check_size("keep", keep)
        self._directory = Path()
        self._on = directory is not None
        if directory is not None:
            self._directory = check_path("checkpoint_dir", directory).absolute()
        self._tables = {name: Rows(self._directory / f"{name}.rows") for name in TABLES}
        self._lock: IO[bytes] | None = None
        self._steps: list[int] = []
        self._half_written: list[int] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self.newest = NONE

    def __enter__(self):
        if not self._on:
            return self
        if self._directory.exists() and not self._directory.is_dir():
            got = f"{self._directory}, which is a file"
            remedy = "Choose another path, or remove the file."
            raise invalid("checkpoint_dir", got, "a folder", remedy, NotADirectoryError)
        if is_first():
            make_folder(self._directory)
            self._lock = _locked(self._directory / "lock")
            for partial in self._directory.glob(PARTIAL):
                name = partial.name.split(".")[1]
                self._half_written += [int(name)] if name.isdecimal() else []
                shutil.rmtree(partial, ignore_errors=True)
        return self

    def __exit__(self, *_: Any):
        self._writer.shutdown()
        if self._lock is not None:
            self._lock.close()  # and with it goes the lock

    def save(
        self, step: int, state: Any, best: Any, rows: Mapping[str, bytes], recorded: int
    ) -> None:
        """Begin to keep the state after `step` steps, the rows since the last call, `recorded`.

        What is kept is fetched from the device before this returns.

        Raises:
          OSError: it cannot be written, or the one before could not be; those before are as they
            were.
        """
        if not self._on:
            return
        trees = {"state": arrays_of(state)}
        if best is not None:
            trees["best"] = arrays_of(best)
        self.wait()
        if not is_first():
            self.newest = step
            return
        # Rows first: a kill in between leaves rows that no checkpoint counts as its own, which
        # the resumed run overwrites. The other way round, a checkpoint would lack its rows.
        for name, table in self._tables.items():
            table.append(rows[name])
        about = {
            "step": step,
            "recorded": recorded,
            "rows": {name: table.extent for name, table in self._tables.items()},
            "fingerprint": self._fingerprint,
        }
        self.newest = step
        self._writing = self._writer.submit(self._write, step, trees, about)

    def wait(self) -> None:
        """Wait until what `save` began is written. OSError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                writing.result()
            except BaseException:
                self.newest = max(self._steps, default=NONE)
                raise

    def restore(self, state: State, most: int) -> Found | None:
        """Return the newest checkpoint that can be read, its state like `state`; None if none is.

        One that cannot be read is named in a warning, and the one before it is taken. Of several
        processes, all take the one that the first does.

        Raises:
          ValueError: checkpoints, none of which can be read; one of another run, or of more steps
            than `most`; a folder that another process does not see.
        """
        if not self._on:
            return None
        found = self._newest(state, most) if is_first() else None
        step = of_first(found.step if found is not None else NONE)
        if is_first() or step == NONE:
            return found
        try:
            return self._read(step, state, most)
        except DamagedError as damage:
            got = f"{self._directory / str(step)} ({damage}) in process {jax.process_index()}"
            expected, remedy = (
                "a folder that all processes share",
                "Put it on a shared file system.",
            )
            raise invalid("checkpoint_dir", got, expected, remedy) from None

    def _newest(self, state: State, most: int) -> Found | None:
        """Return the newest checkpoint that can be read, and go on after it."""
        damages = [f"{self._directory / str(step)} (half written)" for step in self._half_written]
        for step in sorted(self._numbered(), reverse=True):
            try:
                found = self._read(step, state, most)
            except DamagedError as damage:
                damages.append(f"{self._directory / str(step)} ({damage})")
                continue
            if damages:
                self._warn(damages, f"training goes on from step {step}")
            self._steps = [s for s in sorted(self._numbered()) if s <= step]
            self.newest = step
            self._cut(found.rows)
            return found
        if any(any((self._directory / str(step)).iterdir()) for step in self._numbered()):
            got = f"no checkpoint that can be read: {'; '.join(damages)}"
            raise invalid("checkpoint_dir", got, "one of this run", START_AGAIN)
        if damages:
            self._warn(damages, "training starts from the beginning")
        self._cut(dict.fromkeys(TABLES, b""))
        return None

    def _numbered(self) -> list[int]:
        """Return the steps that folders are named after."""
        folders = [path for path in self._directory.iterdir() if path.is_dir()]
        return [int(path.name) for path in folders if path.name.isdecimal() and path.name.isascii()]

    def _read(self, step: int, state: Any, most: int) -> Found:
        """Return a checkpoint. DamagedError if it is not whole, ValueError if not of this run."""
        folder = self._directory / str(step)
        about = read_manifest(folder)
        if not {"step", "recorded", "rows", "fingerprint"} <= about.keys():
            raise DamagedError("not a checkpoint of fit")
        if about["step"] != step:
            raise DamagedError(f"the state in it is that of step {about['step']}")
        rows = {name: self._tables[name].read(extent) for name, extent in about["rows"].items()}
        self._check_same_run(step, about["fingerprint"], most)
        state_then = placed(read_tree(folder, "state"), state)
        has_best = (folder / "best").is_dir()
        best = placed(read_tree(folder, "best"), state) if has_best else None
        return Found(step, state_then, best, rows, about["recorded"])

    def _check_same_run(self, step: int, kept: Mapping[str, Any], most: int) -> None:
        """Raise ValueError for a fingerprint of another run, and for more steps than asked for."""
        differing = differences(kept, self._fingerprint)
        if differing:
            got = f"{self._directory}/{step}, a checkpoint of another run: {'; '.join(differing)}"
            raise invalid("checkpoint_dir", got, "one of this run", START_AGAIN)
        if step > most:
            got = f"{most}, where {self._directory} holds {step} steps already"
            raise invalid("steps", got, f"at least {step}", "Ask for more, or choose a new folder.")

    def _write(self, step: int, trees: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Write a checkpoint, and let the oldest go. Runs in a thread of its own."""
        write_folder(self._directory / str(step), trees, about)
        self._steps = [s for s in self._steps if s < step] + [step]
        # Last, once the new one is in place: at any moment there is one to go on from.
        for old in self._steps[: -self._keep]:
            shutil.rmtree(self._directory / str(old), ignore_errors=True)
        self._steps = self._steps[-self._keep :]

    def _warn(self, damages: list[str], consequence: str) -> None:
        text = f"checkpoint_dir: cannot read {'; '.join(damages)}; {consequence}."
        warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _cut(self, rows: Mapping[str, bytes]) -> None:
        """Go on after these rows."""
        for name, table in self._tables.items():
            table.cut(rows[name])


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
