"""The console command `rnn-jax-study`: run a study by its name, from any folder.

    rnn-jax-study
    rnn-jax-study gradient_decay --out runs/decay

The first lists the studies; the second is `python -m experiments.gradient_decay` of a clone.

The studies are the package `experiments`: in a clone beside `rnn_jax`, in an installed `rnn_jax` in
its folder `_studies`, which is on no path, so that it is in nobody's way. This command puts it on
the path of its own process and of those that a study starts. The folder in which it is called comes
next, for `--cell my_module:my_cell`.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from rnn_jax.errors import describe

MISTAKE = 2
"""Exit status of a name that is no study's."""


def studies_folder() -> Path:
    """Return the folder that the package `experiments` is in."""
    installed = Path(__file__).parent / "_studies"
    return installed if installed.is_dir() else Path(__file__).parents[1]


def study_command() -> None:
    """Run `rnn-jax-study [NAME ...]`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    folder = studies_folder()
    files = (folder / "experiments").glob("*.py")
    names = sorted(file.stem for file in files if not file.stem.startswith("_"))
    if name in ("-h", "--help"):
        name = "__main__"
    elif name not in names:
        known = f"expected one of {', '.join(names)}"
        print(f"study: got {describe(name)}; {known}. rnn-jax-study lists them.", file=sys.stderr)
        sys.exit(MISTAKE)
    here = os.getcwd()
    sys.path[:0] = [str(folder), here]
    others = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), here, *others])
    # Else `python -m` would look for `experiments` in the folder of the caller first.
    os.environ["PYTHONSAFEPATH"] = "1"
    # As `python -m` has it while it imports the package, which may say that an extra is missing.
    sys.argv = ["-m", *arguments]
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
