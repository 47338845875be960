"""`python -m experiments.NAME`: settings in; a run folder, or a sentence about a mistake, out."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from experiments.common.docstring import parts_of
from experiments.common.report import paragraph
from experiments.common.run_folder import Figures, Result, redraw
from experiments.common.run_report import Panels
from experiments.common.settings import SETTINGS, Reproduction, Settings

Config = TypeVar("Config", bound=Settings)

MISTAKE, NOT_A_NUMBER, STOPPED = 2, 3, 130
"""Exit statuses: bad settings or files; NaN in a summary; Ctrl-C, as shells have it."""
OUR_FORM = re.compile(r"[\w ,.\[\]-]+: got .*; expected .*\.", re.DOTALL)


def command_line(
    config: type[Config],
    main: Callable[[Config], Any],
    plot: Callable[[Result], Figures] | None,
    doc: str,
    panels: Panels | None = None,
) -> None:
    """Run `experiment [--field value ...]`, or redraw by `experiment plot FOLDER`.

    Mistakes in settings, files and folders end in one sentence on the standard error and exit
    status 2; a summary with NaN in it, once it is written, in 3; Ctrl-C in 130. All other errors
    are passed on.
    """
    import tyro

    def run() -> None:
        if plot is not None and sys.argv[1:2] == ["plot"]:
            what = "Redraw the figures of a run, and its report."
            name = f"{Path(sys.argv[0]).stem} plot"
            parser = argparse.ArgumentParser(prog=name, description=what)
            parser.add_argument("folder", type=Path, help="its run folder")
            redraw(plot, parser.parse_args(sys.argv[2:]).folder, panels)
            return
        more = "" if plot is None else "\n\n`plot FOLDER` redraws a run's figures and report."
        settings = tyro.cli(
            config, description=f"{doc}{more}", default=defaults(config, sys.argv[1:])
        )
        settings.check()
        print(announcement(doc), flush=True)
        main(settings)
        refuse_nan(Path(settings.out) / "summary.md")

    guarded(run)


def defaults(config: type[Config], arguments: Sequence[str]) -> Config:
    """Return the settings that options stand beside: those of `--setting`, where there is one."""
    if not issubclass(config, Reproduction):
        return config()
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--setting", default="reduced")
    asked = config(setting=parser.parse_known_args(arguments)[0].setting)
    # What is no setting is refused by what parses all options.
    return asked if asked.setting in SETTINGS else config()


def guarded(run: Callable[[], Any]) -> None:
    """Run; end with a sentence and an exit status where settings, files or a user stop it.

    A package that is missing ends so, too.
    """
    try:
        run()
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from what is in its run folder.", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # All is closed by now; programs that JAX still runs in its threads crash an orderly exit.
        os._exit(STOPPED)
    except OSError as error:
        _end(str(error), MISTAKE)
    except (ImportError, ValueError) as error:
        # An ImportError of this form is that of an optional package.
        if not OUR_FORM.match(str(error)):
            raise
        _end(str(error), MISTAKE)


def announcement(doc: str) -> str:
    """Return what an experiment's docstring says first, its claim, and how long it takes."""
    first, claim, time = parts_of(doc)
    time = time and f"{time.rstrip('.')}, with the default settings."
    return "\n\n".join(paragraph(part) for part in (first, claim, time) if part) + "\n"


def refuse_nan(summary: Path) -> None:
    """End with an error where the summary of a run has NaN in it."""
    if summary.exists() and re.search(r"\bnan\b", summary.read_text(), re.IGNORECASE):
        _end(f"{summary} has NaN in it: something overflowed, or is not defined.", NOT_A_NUMBER)


def _end(sentence: str, status: int) -> NoReturn:
    print(" ".join(sentence.split()), file=sys.stderr)
    sys.exit(status)
