"""What an experiment leaves in a folder: config, numbers, figures, networks and a summary.

```
run/
  config.json   what was asked for, and by which command, code, versions and devices it was answered
  numbers.npz   every array that the figures and the summary need, no pickles
  report.html   all of it on one page, to look at; opens without a network
  figures/      each figure as PNG, SVG and PDF
  networks/     the parameters of the networks that were trained, for `rnn_jax.training.restore`
  summary.md    for a person
  checkpoints/  of a run that is not finished, with a config.json of its own; there it resumes
```

All but the checkpoints are of one finished run, whatever happens: the files of a run are written
aside and moved in once they are complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.common.folder_lock import locked
from experiments.common.numbers import Result, describe_arrays, flatten, nest, read_numbers
from experiments.common.provenance import experiment_of, record_of, same_run
from experiments.common.run_report import Panels, no_panels, try_report, write_report
from rnn_jax.errors import invalid
from rnn_jax.training import save

Figures = Mapping[str, Figure]

FORMATS = ("png", "svg", "pdf")
"""Of figures: to look at, to edit, and for a paper."""
FINISHED = ("config.json", "numbers.npz", "summary.md", "report.html", "figures", "networks")
"""What a finished run consists of; it is there once its config.json is."""
REMEDY = "Run the experiment first; an unfinished run goes on with the same command."


class RunFolder:
    """One run's folder. Nothing is made until a run begins in it."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @contextlib.contextmanager
    def running(self, config: Any, inputs: Mapping[str, Any]) -> Iterator[RunFolder]:
        """Begin a run, or go on with the one that these settings have left unfinished here.

        The folder is made, locked against a second run, and told what is run.

        Raises:
          BlockingIOError: another process runs in the folder.
          FileExistsError: the folder holds a finished run, and `config.overwrite` is not set; or
            files that are no run's.
          PermissionError, NotADirectoryError: nothing can be written there.
          ValueError: the folder holds an unfinished run of other settings or inputs.
        """
        with _written("out", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = contextlib.ExitStack()
            lock.enter_context(locked(self.path))
        with lock:
            self._recover()
            self._begin(record_of(config, inputs), overwrite=config.overwrite)
            self._begun = time.monotonic()
            yield self

    def finish(
        self,
        result: Result,
        summary: str,
        figures: Figures,
        networks: Mapping[str, Any] | None = None,
        panels: Panels | None = no_panels,
    ) -> None:
        """Write a finished run in place of what was here, and let the checkpoints go.

        Args:
          result: the arrays of numbers.npz, nested.
          summary: the text of summary.md.
          figures: by name.
          networks: pytrees of arrays by name, each saved for `restore`.
          panels: the report's own panels of the result; None for no report.
        """
        aside, numbers = self.path / ".finishing", flatten(result)
        with _written("out", self.path):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            if numbers:
                np.savez_compressed(aside / "numbers.npz", allow_pickle=False, **numbers)
            if summary:
                (aside / "summary.md").write_text(summary)
            for name, tree in (networks or {}).items():
                save(aside / "networks" / f"{name.replace('/', '_')}.npz", tree)
            write_figures(aside / "figures", figures)
            record = _read_json(self.checkpoints / "config.json")
            record["seconds"] = round(time.monotonic() - self._begun, 1)
            record["arrays"] = describe_arrays(numbers)
            _write_json(aside / "config.json", record)
            if panels is not None:
                try_report(aside, lambda: panels(result))
            aside.rename(self.path / ".finished")
            self._recover()

    def record(self) -> dict[str, Any] | None:
        """Return config.json of a finished run, None where there is none; ValueError if broken."""
        if (self.path / ".finished").is_dir():
            with locked(self.path):
                self._recover()
        file = self.path / "config.json"
        return _read_json(file) if file.is_file() else None

    def read(self) -> tuple[dict[str, Any], Result]:
        """Return config.json and the result of a finished run.

        Raises:
          FileNotFoundError: no folder, or no finished run there.
          ValueError: a config or numbers that are broken, or that do not fit each other.
        """
        record = self.record()
        for needed, got in (
            (self.path.is_dir(), f"{self.path}, which is no folder"),
            (record is not None, f"{self.path} without config.json"),
            ((self.path / "numbers.npz").exists(), f"{self.path} without numbers.npz"),
        ):
            if not needed:
                expected = "the folder of a finished run"
                raise invalid("run folder", got, expected, REMEDY, FileNotFoundError)
        assert record is not None
        return record, nest(read_numbers(self.path / "numbers.npz", record.get("arrays")))

    def _begin(self, record: dict[str, Any], *, overwrite: bool) -> None:
        """Refuse a folder that is another's; write down what is run."""
        names = {entry.name for entry in self.path.iterdir()} - {".lock"}
        kept = self.checkpoints / "config.json"
        if names & set(FINISHED) and not overwrite:
            raise invalid(
                "out",
                f"{self.path}, which holds a finished run",
                "a new folder",
                "Choose another --out, or replace that run with --overwrite.",
                FileExistsError,
            )
        if names and not names & {*FINISHED, "checkpoints"}:
            raise invalid(
                "out",
                f"{self.path}, which holds {', '.join(sorted(names)[:3])}",
                "a new folder or that of a run",
                "Choose another --out.",
                FileExistsError,
            )
        if kept.exists() and not same_run(_read_json(kept), record):
            if not overwrite:
                raise invalid(
                    "out",
                    f"{self.path}, an unfinished run of another configuration",
                    "a new folder, or the same configuration to resume",
                    "Choose another --out, or give that run up with --overwrite.",
                )
            shutil.rmtree(self.checkpoints)
        if kept.exists():
            record["resumed"] = _read_json(kept).get("resumed", 0) + 1
        with _written("out", self.path):
            self.checkpoints.mkdir(exist_ok=True)
            _write_json(kept, record)

    def _recover(self) -> None:
        """Carry out a `finish` whose files are complete; forget one whose files are not.

        A process may be killed at any line. What was here is removed before anything is moved in,
        and config.json comes last: files of two runs never stand together, and what is not whole
        never passes for finished.
        """
        complete, moving = self.path / ".finished", self.path / ".moving"
        shutil.rmtree(self.path / ".finishing", ignore_errors=True)
        if complete.is_dir():
            for name in FINISHED:
                _remove(self.path / name)
            complete.rename(moving)
        if moving.is_dir():
            last = "config.json"
            for entry in sorted(moving.iterdir(), key=lambda entry: entry.name == last):
                if entry.name == last:
                    _remove(self.checkpoints)
                entry.rename(self.path / entry.name)
            moving.rmdir()


def redraw(plot: Callable[[Result], Figures], folder: Path, panels: Panels | None = None) -> None:
    """Draw the figures of a finished run again, and its report, from its files alone.

    Raises:
      FileNotFoundError: no folder, or no finished run there.
      ValueError: the run of another experiment; numbers that are broken or not all there.
    """
    run = RunFolder(folder)
    record, result = run.read()
    wanted = experiment_of(plot)
    found = record.get("experiment", wanted)
    if found != wanted:
        raise invalid(
            "run folder",
            f"{folder}, a run of {found}",
            f"one of {wanted}",
            f"Use python -m experiments.{found} plot.",
        )
    try:
        figures = plot(result)
        more = panels(result) if panels is not None else []
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise invalid(
            "run folder",
            f"{folder}, whose numbers cannot be drawn ({type(error).__name__}: {error})",
            f"the numbers that {wanted} writes",
            "Run the experiment again.",
        ) from error
    with _written("run folder", run.path):
        write_figures(run.path / "figures", figures)
        if panels is not None:
            write_report(run.path, more)
    print(f"Figures are in {run.path / 'figures'}/")


def write_figures(folder: Path, figures: Figures, formats: Sequence[str] = FORMATS) -> None:
    """Write each figure in each format; the files of a `ShownFigure` are always the same bytes."""
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        for suffix in formats:
            figure.savefig(folder / f"{name}.{suffix}", dpi=150)


@contextlib.contextmanager
def _written(argument: str, path: Path) -> Iterator[None]:
    """Name the folder in which something could not be written."""
    try:
        yield
    except BlockingIOError:
        raise  # the lock's
    except OSError as error:
        raise invalid(
            argument,
            f"{path} ({error.strerror or error})",
            "a folder that can be written",
            "Choose another, or make room.",
            OSError if isinstance(error, FileExistsError) else type(error),
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    """Raise ValueError where a config.json is broken."""
    try:
        record = json.loads(file.read_text())
        if not isinstance(record, dict):
            raise ValueError("no record of a run")
        return record
    except ValueError as error:
        raise invalid(
            "run folder", f"a broken {file} ({error})", "the record of a run", "Delete the folder."
        ) from error


def _write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Write aside and rename, so that the file is never half there."""
    aside = file.with_suffix(".new")
    aside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    os.replace(aside, file)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
