"""Run every study of a collection, one after another, and write the page that tells of them.

The collection is that of published results, or by `--studies theory` that of the studies of theory.

Finished runs in the folder are left as they are, and unfinished ones go on where they were: after
an interruption, the same command. A study that fails is named, and the others are run. The page
shows, for each claim, what was published or what theory says, what was found here, and whether the
one bears the other out; it is written from the run folders alone.

    python -m experiments.reproduce [--out FOLDER] [--setting paper] [--seeds 0 100] [--only ...]
    python -m experiments.reproduce --page REPRODUCTIONS.md --keep docs/reproductions
    python -m experiments.reproduce --studies theory
    python -m experiments.reproduce --redraw [--keep docs/reproductions] [--only ...]

`--redraw` runs nothing: it draws the figures that are kept anew, from the kept numbers, and writes
the page.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.common.collection_page import keep, options_of, page_of, redraw
from experiments.common.collections import COLLECTIONS, PUBLISHED, Collection
from experiments.common.command_line import guarded
from experiments.common.grid import Run
from experiments.common.provenance import settings_of
from experiments.common.settings import Checked, Seed, Settings
from experiments.common.study import Study
from experiments.common.sweep_folder import is_finished
from rnn_jax.errors import choose
from rnn_jax.training.files import write_aside


@dataclass(frozen=True)
class Reproduce(Checked):
    """What is run, and where."""

    studies: Literal["published", "theory"] = "published"
    """The collection: it has other studies, folders and another page."""
    out: Path = PUBLISHED.out
    """Folder of the runs, one folder each."""
    setting: Literal["reduced", "paper"] = "reduced"
    """Sizes: "reduced" for minutes on two cores, "paper" for those of the publications."""
    seeds: tuple[Seed, ...] = (0,)
    """Base seeds: the page tells of the first, and has the medians of the others beside it."""
    only: tuple[str, ...] = tuple(PUBLISHED.studies)
    """The studies that are run."""
    page: Path = PUBLISHED.page
    """The page."""
    keep: Path = PUBLISHED.keep
    """Where the numbers and figures behind the page are kept."""
    redraw: bool = False
    """Draw the kept figures anew from the kept numbers, and write the page; nothing is run."""

    def check_together(self) -> None:
        for name in self.only:
            choose("only", name, COLLECTIONS[self.studies].studies)


def study_of(name: str) -> Study:
    """Return a study by the name of its module."""
    return importlib.import_module(f"experiments.{name}").STUDY


def main(settings: Reproduce) -> int:
    """Run what is not finished, write the page, and return the number of studies that failed.

    With `redraw`, draw what is kept in place of running anything.
    """
    settings.page.parent.mkdir(parents=True, exist_ok=True)
    if settings.redraw:
        redraw({name: study_of(name) for name in settings.only}, settings.keep)
        _write_page(settings)
        return 0
    of_each = {name: configs_of(settings, name) for name in settings.only}
    failed: dict[str, None] = {}
    # What the page tells of before what stands beside it.
    for turn in itertools.zip_longest(*of_each.values()):
        for name, config in zip(of_each, turn, strict=True):
            if config is not None and not _run(settings, name, config):
                failed[name] = None
    collection = COLLECTIONS[settings.studies]
    keep({name: study_of(name) for name in collection.studies}, settings.out, settings.keep)
    _write_page(settings)
    if failed:
        print(f"Failed: {', '.join(failed)}. The same command runs them again.", file=sys.stderr)
    return len(failed)


def page_kept(collection: Collection, kept: Path, folder: Path) -> str:
    """Return the page, to stand in `folder`, of those studies of a collection that are kept."""
    studies = {name: study_of(name) for name in collection.studies if (kept / name).is_dir()}
    return page_of(studies, kept, folder, collection.head, collection.beside)


def _write_page(settings: Reproduce) -> None:
    """Write the page of all studies that are kept."""
    page = page_kept(COLLECTIONS[settings.studies], settings.keep, settings.page.parent)
    write_aside(settings.page, page.encode())
    print(f"The page is {settings.page}.")


def configs_of(settings: Reproduce, name: str) -> list[Settings]:
    """Return the settings of a study, one for each base seed where it has seeds."""
    config: Any = study_of(name).config
    has = {field.name for field in dataclasses.fields(config)}
    common: dict[str, Any] = {"setting": settings.setting} if "setting" in has else {}
    if settings.setting == "reduced":
        common |= COLLECTIONS[settings.studies].studies[name]
    if "seed" not in has:
        return [config(out=settings.out / name, **common)]
    folders = [settings.out, *(settings.out / f"seed {seed}" for seed in settings.seeds[1:])]
    return [
        config(out=folder / name, seed=seed, **common)
        for seed, folder in zip(settings.seeds, folders, strict=True)
    ]


def _run(settings: Reproduce, name: str, config: Settings) -> bool:
    """Run a study in a process of its own, unless it is finished; return whether it is now."""
    if is_finished(Run(name, config)):
        print(f"{name}: finished, in {config.out}/", flush=True)
        return True
    print(f"\n== {name}\n", flush=True)
    # Compiled once for all studies, and for a run of other seeds.
    programs = settings.out / "programs" / platform.node()
    kept = {
        "JAX_COMPILATION_CACHE_DIR": str(programs.absolute()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        # Half of the time that goes into compiling, and none that programs run, as measured.
        "XLA_FLAGS": "--xla_backend_optimization_level=1",
    }
    command = [sys.executable, "-m", f"experiments.{name}", "--out", str(config.out)]
    command += options_of(study_of(name), settings_of(config))
    return subprocess.run(command, env={**kept, **os.environ}, check=False).returncode == 0


def defaults(arguments: Sequence[str]) -> Reproduce:
    """Return what options stand beside: studies, folders and page of `--studies`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--studies", default="published")
    asked = parser.parse_known_args(arguments)[0].studies
    if asked not in COLLECTIONS:  # refused by what parses all options
        return Reproduce()
    of = COLLECTIONS[asked]
    return Reproduce(asked, of.out, page=of.page, keep=of.keep, only=tuple(of.studies))


def command_line() -> None:
    """Run `python -m experiments.reproduce`."""
    import tyro

    def run() -> None:
        settings = tyro.cli(Reproduce, description=__doc__, default=defaults(sys.argv[1:]))
        settings.check()
        if main(settings):
            sys.exit(1)

    guarded(run)


if __name__ == "__main__":
    command_line()
