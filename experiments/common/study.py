"""How every study begins and concludes: settings checked, one run folder, checks, figures."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.common.checks import Check, checks_table
from experiments.common.command_line import command_line
from experiments.common.numbers import Result
from experiments.common.programs import programs_kept
from experiments.common.run_folder import Figures, RunFolder
from experiments.common.run_report import Panels, no_panels
from experiments.common.settings import Settings


def no_inputs(config: Any) -> tuple[Mapping[str, Any]]:
    """Return the record of a study that reads nothing and prepares nothing."""
    return ({},)


class Together(NamedTuple):
    """How runs that differ in some settings alone are measured in one program.

    Attributes:
      fields: names of those settings.
      measure: `(configs, *data, checkpoints) -> [(result, networks), ..]`, one for each config; it
        goes on from what is in the folder `checkpoints`.
    """

    fields: tuple[str, ...]
    measure: Callable[..., Sequence[Any]]


def rows_of_checks(checks: Sequence[Check]) -> list[tuple[str, float, float]]:
    """Return what was measured, claim by claim, as rows `(metric, step, value)` without a step."""
    return [(check.claim, math.nan, float(check.measured)) for check in checks]


@dataclass(frozen=True)
class Study:
    """One claim: how it is measured, judged, told and drawn.

    Attributes:
      doc: the docstring of its module; the claim and how long it takes are announced from it.
      config: its settings.
      measure: `(config, *data) -> result`, a nested mapping of arrays, or `(result, networks)` with
        the trained networks by name.
      checks: the claim, number by number.
      summarize: tables of the result in Markdown; the checks follow them.
      plot: figures by name, from the result alone.
      prepare: `config -> (inputs, *data)`: what config.json records of the input, and what is
        handed to `measure`. What does not fit raises here, before any folder is made.
      ensemble: give JAX one CPU device a core on the command line: networks of an ensemble are then
        trained side by side.
      together: how runs of a sweep are measured in one program; None if each is by itself.
      rows: the result as rows `(metric, step, value)` of a sweep's table, step NaN for what has
        none; by default, what was measured for the checks.
      panels: panels of the report that come before those which are recognized in any result.
    """

    doc: str
    config: type[Settings]
    measure: Callable[..., Any]
    checks: Callable[[Result], Sequence[Check]]
    summarize: Callable[[Result], str]
    plot: Callable[[Result], Figures]
    prepare: Callable[[Any], tuple[Any, ...]] = no_inputs
    ensemble: bool = False
    together: Together | None = None
    rows: Callable[[Result], Iterable[tuple[str, float, float]]] | None = None
    panels: Panels = no_panels

    def main(self, config: Any) -> Result:
        """Measure, and leave a run folder behind; return the result that is in it.

        Raises:
          ValueError, OSError: settings, inputs or a folder that do not serve.
        """
        config.check()
        inputs, *data = self.prepare(config)
        with RunFolder(config.out).running(config, inputs) as folder, self._programs(folder):
            result, summary = self._finish(folder, self.measure(config, *data))
        print(f"\n{summary}\nFigures and numbers are in {folder.path}/")
        return result

    def main_together(self, configs: Sequence[Any], checkpoints: Path) -> None:
        """Measure runs that differ in `together.fields` in one program; leave a folder for each.

        Their figures and reports are left to `plot FOLDER`. The checkpoints go once all folders are
        written.
        """
        assert self.together is not None
        for config in configs:
            config.check()
        inputs, *data = self.prepare(configs[0])
        measured = self.together.measure(configs, *data, checkpoints)
        for config, of_one in zip(configs, measured, strict=True):
            with RunFolder(config.out).running(config, inputs) as folder:
                self._finish(folder, of_one, figures=False)
        shutil.rmtree(checkpoints, ignore_errors=True)

    def rows_of(self, result: Result) -> list[tuple[str, float, float]]:
        """Return a result as rows of a sweep's table."""
        if self.rows is None:
            return rows_of_checks(self.checks(result))
        return list(self.rows(result))

    def _programs(self, folder: RunFolder) -> AbstractContextManager[None]:
        """Return what keeps compiled programs while the ensembles of a study are trained."""
        return programs_kept(folder.checkpoints / "programs") if self.ensemble else nullcontext()

    def _finish(self, folder: RunFolder, measured: Any, figures: bool = True) -> tuple[Result, str]:
        """Write what a run leaves; return its result and summary."""
        result, networks = measured if isinstance(measured, tuple) else (measured, {})
        summary = f"{self.summarize(result)}\n\n{checks_table(self.checks(result))}"
        drawn, panels = (self.plot(result), self.panels) if figures else ({}, None)
        folder.finish(result, summary, drawn, networks, panels)
        return result, summary

    def command_line(self) -> None:
        """Run `python -m experiments.NAME`."""
        if self.ensemble:
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
        command_line(self.config, self.main, self.plot, self.doc, self.panels)
