"""How every study begins and concludes: settings checked, one run folder, checks, figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from experiments.common.checks import Check, checks_table
from experiments.common.command_line import command_line
from experiments.common.numbers import Result
from experiments.common.run_folder import Figures, RunFolder
from experiments.common.settings import Settings


def no_inputs(config: Any) -> tuple[Mapping[str, Any]]:
    """Return the record of a study that reads nothing and prepares nothing."""
    return ({},)


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
    """

    doc: str
    config: type[Settings]
    measure: Callable[..., Any]
    checks: Callable[[Result], Sequence[Check]]
    summarize: Callable[[Result], str]
    plot: Callable[[Result], Figures]
    prepare: Callable[[Any], tuple[Any, ...]] = no_inputs
    ensemble: bool = False

    def main(self, config: Any) -> Result:
        """Measure, and leave a run folder behind; return the result that is in it.

        Raises:
          ValueError, OSError: settings, inputs or a folder that do not serve.
        """
        config.check()
        inputs, *data = self.prepare(config)
        with RunFolder(config.out).running(config, inputs) as folder:
            measured = self.measure(config, *data)
            result, networks = measured if isinstance(measured, tuple) else (measured, {})
            summary = f"{self.summarize(result)}\n\n{checks_table(self.checks(result))}"
            folder.finish(result, summary, self.plot(result), networks)
        print(f"\n{summary}\nFigures and numbers are in {folder.path}/")
        return result

    def command_line(self) -> None:
        """Run `python -m experiments.NAME`."""
        if self.ensemble:
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
        command_line(self.config, self.main, self.plot, self.doc)
