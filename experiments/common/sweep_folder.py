"""The folder of a sweep: its runs, one table and one figure of them.

```
sweep/
  sweep.json        the experiment, and the settings that were asked for last
  runs/NAME/        a run's folder, as the experiment itself leaves it
  table.csv         a row for each run, metric and step, with what the run varies
  table.npz         the same, an array for each column
  figures/          one figure of all runs
  summary.md        the last value of each metric, over seeds
  checkpoints/      of what is not finished
  jobs/             what jobs in other processes have written
  programs/         what each machine has compiled, for runs of the same shapes
```
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.folder_lock import locked
from experiments.common.grid import Run
from experiments.common.provenance import NOT_COMPARED, settings_of
from experiments.common.report import paragraph, spread, table
from experiments.common.run_folder import RunFolder, write_figures
from experiments.common.settings import Settings
from experiments.common.study import Study
from experiments.figures.sweep import figure_of
from rnn_jax.errors import invalid
from rnn_jax.training.files import write_aside

Table = dict[str, list[Any]]
"""Columns by name: `run`, what varies, `metric`, `step` (NaN for none) and `value`."""


def is_finished(run: Run) -> bool:
    """Return whether a run has left all of its files.

    Raises:
      ValueError: a finished run of that name has other settings.
    """
    folder = RunFolder(run.config.out)
    record = folder.record()
    if record is None:
        return False
    before, now = record["config"], settings_of(run.config)
    apart = [name for name in now if name not in NOT_COMPARED and before.get(name) != now[name]]
    if apart:
        had = ", ".join(f"{name} = {before.get(name)}" for name in apart)
        got, expected = f"{folder.path}, a run with {had}", "runs of these settings in the folder"
        raise invalid("out", got, expected, "Choose another --out.")
    return True


class SweepFolder:
    """One sweep's folder."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def programs(self) -> Path:
        return self.path / "programs"

    @contextlib.contextmanager
    def running(
        self, experiment: str, base: Settings, values: Mapping[str, Sequence[Any]]
    ) -> Iterator[None]:
        """Begin a sweep, or go on with the one here, which may have had other values.

        Raises:
          BlockingIOError: another process sweeps into the folder.
          FileExistsError: the folder holds something else.
          ValueError: the sweep here is of another experiment.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file, names = self.path / "sweep.json", {entry.name for entry in self.path.iterdir()}
        with locked(self.path):
            if names - {".lock"} and not file.exists():
                got = f"{self.path}, which holds {', '.join(sorted(names)[:3])}"
                remedy = "Choose another --out."
                raise invalid(
                    "out", got, "a new folder or that of a sweep", remedy, FileExistsError
                )
            if file.exists():
                before = json.loads(file.read_text())["experiment"]
                if before != experiment:
                    got = f"{self.path}, a sweep of {before}"
                    remedy = "Choose another --out."
                    raise invalid("out", got, f"a new folder or one of {experiment}", remedy)
            common = {
                k: v for k, v in settings_of(base).items() if k not in (*NOT_COMPARED, *values)
            }
            record = {"experiment": experiment, "settings": {**common, **values}}
            content = json.dumps(record, indent=2, default=str)
            write_aside(file, f"{content}\n".encode())
            yield

    def conclude(self, study: Study, asked: Sequence[Run]) -> Table:
        """Write table, figure and summary of all finished runs, `asked` first; return the table.

        What varies is every setting that is not the same in all of them.
        """
        folders = {run.name: None for run in asked}
        folders |= {path.name: None for path in sorted((self.path / "runs").glob("*"))}
        found: dict[str, tuple[dict[str, Any], Any]] = {}
        for name in folders:
            folder = RunFolder(self.path / "runs" / name)
            if folder.record() is not None:
                record, result = folder.read()
                found[name] = (record["config"], result)
        varied = varied_in([settings for settings, _ in found.values()])
        rows: list[tuple[Any, ...]] = []
        for name, (settings, result) in found.items():
            values = [_cell(settings.get(each)) for each in varied]
            rows += [(name, *values, *row) for row in study.rows_of(result)]
        names = ["run", *varied, "metric", "step", "value"]
        columns: Table = {name: [row[n] for row in rows] for n, name in enumerate(names)}
        with open(self.path / "table.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            writer.writerows(rows)
        arrays: dict[str, Any] = {name: _array(column) for name, column in columns.items()}
        np.savez_compressed(self.path / "table.npz", allow_pickle=False, **arrays)
        if rows:
            write_figures(self.path / "figures", {"sweep": figure_of(columns, varied)})
        summary = summary_of(columns, varied)
        (self.path / "summary.md").write_text(summary)
        print(f"\n{summary}\nThe table, the figure and the runs are in {self.path}/")
        return columns


def varied_in(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the settings that are not the same in all runs."""
    names = dict.fromkeys(name for settings in runs for name in settings)
    apart = lambda name: any(s.get(name) != runs[0].get(name) for s in runs)
    return [name for name in names if name not in NOT_COMPARED and apart(name)]


def _cell(value: Any) -> Any:
    """Return a setting of config.json as it stands in a table."""
    return " ".join(map(str, value)) if isinstance(value, list) else value


def summary_of(columns: Table, varied: Sequence[str]) -> str:
    """Return the last value of each metric, over the seeds of each combination, in Markdown."""
    settings = [name for name in varied if name != "seed"]
    last: dict[tuple[Any, ...], dict[str, dict[str, float]]] = {}
    metrics = dict.fromkeys(columns["metric"])
    for n, metric in enumerate(columns["metric"]):
        key = tuple(columns[name][n] for name in settings)
        of_run = last.setdefault(key, {}).setdefault(columns["run"][n], {})
        of_run[metric] = columns["value"][n]
    rows = []
    for key, runs in last.items():
        values = ([run[m] for run in runs.values() if m in run] for m in metrics)
        said = ", ".join(f"{n} = {v}" for n, v in zip(settings, key, strict=True)) or "all"
        rows.append([said, len(runs), *(spread(np.array(v), ".4g") for v in values)])
    headers = ["settings", "runs", *metrics]
    body = table(rows, headers) if rows else "No run has finished."
    told = paragraph(
        "Values at the last step of each run, median (10 %–90 %) over runs. What is measured in "
        "training is a mean since the evaluation before the last one."
    )
    return f"# Sweep\n\n{told}\n\n{body}\n"


def _array(column: Sequence[Any]) -> np.ndarray:
    """Return a column as an array of numbers, or of text."""
    is_number = all(isinstance(value, int | float) for value in column)
    return np.array(column if is_number else [str(value) for value in column])
