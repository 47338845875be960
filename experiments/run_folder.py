"""What an experiment leaves behind: config, numbers, figures and a summary, in one folder.

```
run/
  config.json   what was asked for, and the versions and inputs it was run with
  numbers.npz   every array that the figures and the summary need, no pickles
  figures/      each figure as PNG and SVG
  summary.md    for a person
  checkpoints/  where a killed run resumes; gone once the run is complete
```
"""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.figure import Figure

from rnn_jax.errors import invalid

Result = Mapping[str, np.ndarray]
Config = TypeVar("Config")
PACKAGES = ("jax", "flax", "optax", "numpy")


class RunFolder:
    """One run's folder, made if it is not there."""

    def __init__(self, path: str | Path):
        """Raises PermissionError or NotADirectoryError where nothing can be written."""
        self.path = Path(path)
        try:
            (self.path / "figures").mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise invalid(
                "out",
                f"{self.path} ({error.strerror})",
                "a folder that can be written",
                "Choose another with --out.",
                type(error) if isinstance(error, PermissionError) else NotADirectoryError,
            ) from error

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def begin(self, config: Any, inputs: Mapping[str, Any]) -> None:
        """Write down what is run; refuse to go on with another run's checkpoints.

        Raises:
          ValueError: the folder holds the checkpoints of a different config or input.
        """
        record = {
            "config": _as_json(config),
            "inputs": dict(inputs),
            "versions": {"python": platform.python_version()}
            | {package: version(package) for package in PACKAGES},
        }
        file = self.path / "config.json"
        if self.checkpoints.exists() and file.exists():
            kept = json.loads(file.read_text())
            if any(kept.get(part) != record[part] for part in ("config", "inputs")):
                raise invalid(
                    "out",
                    f"{self.path}, an unfinished run of another configuration",
                    "a new folder, or the same configuration to resume",
                    f"Choose another --out, or delete {self.checkpoints}.",
                )
        file.write_text(json.dumps(record, indent=2) + "\n")

    def finish(self, result: Result, summary: str, figures: Mapping[str, Figure]) -> None:
        """Write numbers, figures and summary, and let the checkpoints go."""
        np.savez_compressed(self.path / "numbers.npz", allow_pickle=False, **result)
        self.write_figures(figures)
        (self.path / "summary.md").write_text(summary)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def conclude(
        self,
        result: Result,
        summarize: Callable[[Result], str],
        plot: Callable[[Result], Mapping[str, Figure]],
    ) -> None:
        """`finish`, and say on the terminal what was found and where it is."""
        summary = summarize(result)
        self.finish(result, summary, plot(result))
        print(f"\n{summary}\nFigures and numbers are in {self.path}/")

    def write_figures(self, figures: Mapping[str, Figure]) -> None:
        for name, figure in figures.items():
            for suffix in ("png", "svg"):
                figure.savefig(self.path / "figures" / f"{name}.{suffix}", dpi=150)

    def read(self) -> dict[str, np.ndarray]:
        """The numbers of a finished run.

        Raises:
          FileNotFoundError: no finished run there.
          ValueError: numbers that are broken.
        """
        file = self.path / "numbers.npz"
        if not file.exists():
            raise invalid(
                "run folder",
                f"{self.path} without numbers.npz",
                "the folder of a finished run",
                "Run the experiment first; an unfinished one resumes with the same arguments.",
                FileNotFoundError,
            )
        try:
            with np.load(file, allow_pickle=False) as numbers:
                return dict(numbers)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise invalid(
                "run folder", f"a broken {file} ({error})", "an .npz archive", "Run it again."
            ) from error


def redraw(plot: Callable[[Result], Mapping[str, Figure]], folder: Path) -> None:
    """The figures of a finished run, from its numbers alone."""
    run = RunFolder(folder)
    run.write_figures(plot(run.read()))
    print(f"Figures are in {run.path / 'figures'}/")


def command_line(
    config: type[Config], main: Callable[[Config], Any], replot: Callable[[Path], Any], doc: str
) -> None:
    """`experiment [--field value ...]` runs it; `experiment plot FOLDER` redraws from a run."""
    import tyro

    if sys.argv[1:2] == ["plot"]:
        what = "Redraw the figures of a run."
        replot(tyro.cli(tyro.conf.Positional[Path], args=sys.argv[2:], description=what))
    else:
        main(tyro.cli(config, description=f"{doc}\n\n`plot FOLDER` redraws a run's figures."))


def _as_json(config: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
