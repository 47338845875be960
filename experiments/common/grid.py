"""The runs of a sweep: every combination of the values of some settings, and groups of them."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.settings import Settings
from rnn_jax.errors import invalid


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: what it differs in from others, `learning_rate=0.01,seed=3`; the name of its folder.
      varied: those settings.
      config: all of its settings.
    """

    name: str
    varied: dict[str, Any]
    config: Settings


def runs_of(base: Settings, values: Mapping[str, Sequence[Any]], out: Path) -> list[Run]:
    """Return every combination of values, in order, in a folder each below `out`.

    Args:
      base: all other settings.
      values: name of a setting -> its values; one value is no part of a name.
      out: folder of the sweep.

    Raises:
      ValueError: a value that comes twice, or values whose names are the same.
    """
    for name, several in values.items():
        if len(set(several)) < len(several):
            raise invalid(name, several, "each value once", "Leave out the one that repeats.")
    varied = [name for name, several in values.items() if len(several) > 1]
    runs = {}
    for combination in itertools.product(*values.values()):
        settings = dict(zip(values, combination, strict=True))
        differs = {name: settings[name] for name in varied}
        said = ",".join(f"{name}={value}" for name, value in differs.items()) or "run"
        name = re.sub(r"[^\w.,=+-]", "_", said)
        if name in runs:
            remedy = "Name them otherwise."
            raise invalid(varied[0], f"two runs {name}", "a name for each", remedy)
        config = replace(base, **settings, out=out / "runs" / name)
        runs[name] = Run(name, differs, config)
    return list(runs.values())


def groups_of(runs: Sequence[Run], together: Sequence[str], most: int) -> list[list[Run]]:
    """Return the runs in groups that differ in the settings `together` alone, `most` in each."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        apart = {k: v for k, v in asdict(run.config).items() if k not in (*together, "out")}
        # Without such settings every run is by itself.
        key = json.dumps(apart, default=str) if together else run.name
        groups.setdefault(key, []).append(run)
    return [
        group[begin : begin + most]
        for group in groups.values()
        for begin in range(0, len(group), most)
    ]
