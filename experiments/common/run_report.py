"""The report of a run folder: report.html, which shows all that the run left on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.common.numbers import Result
from rnn_jax.reporting import Panel
from rnn_jax.reporting.run_files import page_of_run
from rnn_jax.training.files import write_aside

Panels = Callable[[Result], Sequence[Panel]]
"""What of a result a report shows before what `rnn_jax.report` recognizes in any."""


def no_panels(result: Result) -> Sequence[Panel]:
    """Return no panels: the report has those that are recognized alone."""
    return ()


def write_report(folder: Path, panels: Sequence[Panel] = ()) -> None:
    """Write report.html of the files in a run folder, `panels` first.

    Raises:
      ImportError: plotly is missing; says how to install it.
      ValueError: numbers that cannot be drawn.
    """
    write_aside(folder / "report.html", page_of_run(folder, panels).encode())


def try_report(folder: Path, panels: Callable[[], Sequence[Panel]]) -> None:
    """Write report.html; where that fails, say so in one line: a run is finished without it."""
    try:
        write_report(folder, panels())
    except OSError:
        raise  # no room is left for the other files either
    except ImportError as error:
        print(f"No report.html was written: {error} Then run `plot FOLDER`.")
    except Exception as error:
        reason: Any = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"No report.html was written ({reason}). `plot FOLDER` shows where it failed.")
