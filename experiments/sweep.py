"""Sweep an experiment over its settings and seeds: one table, one figure.

    python -m experiments.sweep EXPERIMENT [--field VALUE VALUE ...] [--seeds 5] [--out FOLDER]
    python -m experiments.sweep train --learning-rate 0.001 0.003 0.01 --T 50 100 --seeds 5

Every combination of the values is a run in a folder of its own, as the experiment itself would
leave it. Runs that one program can hold are trained together (of `train`, those that differ in
seed, learning rate and clip level), the others one after another, or at the same time in several
processes: `--workers 2`, or `--cluster slurm`. A sweep that was killed goes on where it was, and
one that is finished takes more values and seeds.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax

import experiments
from experiments.common.command_line import MISTAKE, defaults, guarded
from experiments.common.grid import Run, groups_of, runs_of
from experiments.common.jobs import Where, run_jobs
from experiments.common.programs import keep_programs
from experiments.common.provenance import settings_of
from experiments.common.settings import Checked, Limits, Settings, Size
from experiments.common.study import Study
from experiments.common.sweep_folder import SweepFolder, Table, is_finished
from rnn_jax.errors import invalid


@dataclass(frozen=True)
class Sweep(Checked):
    """Where the runs of a sweep go, and how they run."""

    out: Path = Path("runs/sweep")
    """The folder of the sweep."""
    seeds: Size = 1
    """Runs of each combination: `seed`, `seed` + 1 and so on."""
    together: Size = 64
    """Most runs in one program."""
    workers: Size = 1
    """Most processes at a time; 1 is this one, unless there is a cluster."""
    cluster: Literal["local", "slurm"] = "local"
    """Where the processes run."""
    minutes: Size = 24 * 60
    """Minutes after which a process is stopped."""
    partition: str | None = None
    """Slurm's partition."""
    cpus: Size = 1
    """CPU cores of each process."""
    gpus: Annotated[int, Limits(least=0)] = 0
    """GPUs of each process."""


def names() -> list[str]:
    """Return the names of all studies."""
    files = (Path(folder).glob("*.py") for folder in experiments.__path__)
    # Read and not imported, which would take a second for each.
    return sorted(file.stem for each in files for file in each if "\nSTUDY = " in file.read_text())


def study_named(name: str) -> Study:
    """Return the study of `experiments.NAME`. ValueError if there is none."""
    study = None
    if name in names():
        study = getattr(importlib.import_module(f"experiments.{name}"), "STUDY", None)
    if not isinstance(study, Study):
        raise invalid("experiment", name, f"one of {', '.join(names())}", "Check its name.")
    return study


def sweepable(config: type[Settings]) -> dict[str, Any]:
    """Return the settings of an experiment that may take several values, with their types."""
    own = {field.name for field in dataclasses.fields(Sweep)} | {"overwrite"}
    hints = typing.get_type_hints(config, include_extras=True)
    return {name: hint for name, hint in hints.items() if name not in own}


def has_one_value(name: str, hint: Any) -> bool:
    """Return whether a setting takes one value: a tuple, or one or None, and sizes by setting."""
    # Other settings stand at the values of `--setting`, which do not change from run to run.
    kinds = (hint, *typing.get_args(hint))
    return name == "setting" or any(typing.get_origin(kind) is tuple for kind in kinds)


def parsed(study: Study, args: Sequence[str]) -> tuple[Sweep, Settings, dict[str, Any]]:
    """Return the sweep, the settings that stay, and the values of those that vary.

    A setting that is a tuple itself, and `--setting` of a published result, has one value.
    """
    import tyro

    base, fields = defaults(study.config, args), []
    for name, hint in sweepable(study.config).items():
        value, one = getattr(base, name), has_one_value(name, hint)
        several: Any = hint if one else tuple.__class_getitem__((hint, ...))
        default = value if one else (value,)
        fields.append((name, several, dataclasses.field(default=default)))
    name = study.config.__module__
    arguments = dataclasses.make_dataclass("Arguments", fields, bases=(Sweep,), frozen=True)
    chosen: Any = tyro.cli(arguments, args=list(args), description=__doc__, prog=f"sweep {name}")
    sweep = Sweep(**{f.name: getattr(chosen, f.name) for f in dataclasses.fields(Sweep)})
    values = {}
    for name, hint in sweepable(study.config).items():
        value = getattr(chosen, name)
        if has_one_value(name, hint):
            base = dataclasses.replace(base, **{name: value})
        else:
            values[name] = value
    return sweep, base, values


def with_seeds(values: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Return the values with `seeds` of them for the seed."""
    if seeds == 1:
        return values
    if "seed" not in values:
        raise invalid("seeds", seeds, "1 for an experiment without a seed", "Leave it out.")
    if len(values["seed"]) > 1:
        raise invalid("seeds", seeds, "1 beside several values of seed", "Give one of the two.")
    (first,) = values["seed"]
    return values | {"seed": tuple(range(first, first + seeds))}


def run_group(experiment: str, group: Sequence[Run], checkpoints: Path) -> None:
    """Measure the runs of a group: one by itself, several in one program.

    Args:
      experiment: name of the study.
      group: the runs; those that have finished meanwhile, as in a process that outlived a sweep
        that was killed, are left out.
      checkpoints: folder for what is kept of all groups.
    """
    study = study_named(experiment)
    left = [run for run in group if not is_finished(run)]
    if len(left) == 1:
        study.main(left[0].config)
    elif left:
        settings = json.dumps([settings_of(run.config) for run in left]).encode()
        kept = checkpoints / hashlib.sha256(settings).hexdigest()[:16]
        study.main_together([run.config for run in left], kept)


def run_job(devices: int, programs: Path, *call: Any) -> None:
    """Measure a group in a process of its own, on so many CPU devices."""
    jax.config.update("jax_num_cpu_devices", devices)
    keep_programs(programs)
    run_group(*call)


def main(experiment: str, args: Sequence[str], own_process: bool = False) -> Table:
    """Sweep, and return the table of all runs that have finished.

    Args:
      experiment: name of the study.
      args: what the command line says after it.
      own_process: whether the process is the sweep's own, so that what it compiles may be kept.

    Raises:
      ValueError, OSError: an experiment, settings or a folder that do not serve.
    """
    study = study_named(experiment)
    sweep, base, values = parsed(study, args)
    sweep.check()
    if study.together is not None and "seeds" in {f.name for f in dataclasses.fields(base)}:
        one: dict[str, Any] = {"seeds": 1}
        base = dataclasses.replace(base, **one)
    for name, several in values.items():
        if not several:
            raise invalid(name, "no value", "one at least", "Pass values, separated by spaces.")
    runs = runs_of(base, with_seeds(values, sweep.seeds), sweep.out)
    together = study.together.fields if study.together is not None else ()
    for run in runs:
        run.config.check()
    # What does not fit in any of them is said before the first one is trained.
    for group in groups_of(runs, together or ("seed",), len(runs)):
        study.prepare(group[0].config)
    folder = SweepFolder(sweep.out)
    with folder.running(experiment, base, values):
        if own_process:
            keep_programs(folder.programs)
        left = [run for run in runs if not is_finished(run)]
        groups = groups_of(left, together, sweep.together)
        print(f"{len(runs):,} runs: {len(runs) - len(left):,} finished, {len(left):,} left")
        failed = _run(experiment, groups, sweep, folder)
        table = folder.conclude(study, runs)
    for run, error in failed:
        print(f"{run.name}: {error}", file=sys.stderr)
    if failed:
        sys.exit(MISTAKE)
    return table


def _run(
    experiment: str, groups: Sequence[Sequence[Run]], sweep: Sweep, folder: SweepFolder
) -> list[tuple[Run, str]]:
    """Measure all groups; return the runs that failed, with what was raised."""
    here = sweep.workers == 1 and sweep.cluster == "local"
    calls = [(experiment, group, folder.checkpoints) for group in groups]
    failed, begun, done = [], time.monotonic(), 0
    ended: Iterator[tuple[int, Exception | None]]
    if here:
        ended = ((n, _error_of(run_group, call)) for n, call in enumerate(calls))
    else:
        where = Where(
            sweep.workers, sweep.cluster, sweep.minutes, sweep.partition, sweep.cpus, sweep.gpus
        )
        logs = folder.path / "jobs"
        jobs = [(sweep.cpus, folder.programs.absolute(), *call) for call in calls]
        ended = run_jobs(run_job, jobs, where, logs)
        print(f"what each process says is in {logs}/*_log.*", flush=True)
    total = sum(map(len, groups))
    for number, error in ended:
        group = groups[number]
        done += len(group)
        seconds = time.monotonic() - begun
        said = "failed" if error is not None else f"{seconds / done:.3g} s a run"
        print(f"{done:,} of {total:,} runs in {seconds:,.0f} s, {said}", flush=True)
        if error is not None:
            failed += [(run, str(error).strip() or repr(error)) for run in group]
    return failed


def _error_of(function: Any, call: tuple[Any, ...]) -> Exception | None:
    """Call a function; return what it raises, which is not to end the other runs."""
    try:
        function(*call)
    except Exception as error:
        return error
    return None


def command_line(argv: Sequence[str]) -> None:
    """Run `python -m experiments.sweep`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(__doc__)
        return

    def run() -> None:
        if study_named(argv[0]).ensemble:
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
        main(argv[0], argv[1:], own_process=True)

    guarded(run)


if __name__ == "__main__":
    # By its own name: jobs import what they run, and __main__ is another program there.
    importlib.import_module("experiments.sweep").command_line(sys.argv[1:])
