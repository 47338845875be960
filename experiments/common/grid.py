"""The runs of a sweep: every combination of the values of some settings, and groups of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from experiments.common.provenance import NOT_COMPARED
from experiments.common.settings import Settings
from rnn_jax.errors import invalid

LONGEST = 150
"""Letters in the name of a folder."""


class Run(NamedTuple):
    """One run of a sweep.

    Attributes:
      name: of its folder: the settings that are not the experiment's defaults,
        `learning_rate=0.01,seed=3`, so that it is the same in whatever sweep.
      config: all of its settings.
    """

    name: str
    config: Settings


def runs_of(base: Settings, values: Mapping[str, Sequence[Any]], out: Path) -> list[Run]:
    """Return every combination of values, in order, in a folder each below `out`.

    Args:
      base: all other settings.
      values: name of a setting -> its values.
      out: folder of the sweep.

    Raises:
      ValueError: a value that comes twice, or values whose names are the same.
    """
    for name, several in values.items():
        if len(set(several)) < len(several):
            raise invalid(name, several, "each value once", "Leave out the one that repeats.")
    runs = {}
    for combination in itertools.product(*values.values()):
        config = replace(base, **dict(zip(values, combination, strict=True)))
        name = name_of(config)
        if name in runs:
            expected, remedy = "a name for each", "Name their values otherwise."
            raise invalid("settings", f"two runs {name}", expected, remedy)
        runs[name] = Run(name, replace(config, out=out / "runs" / name))
    return list(runs.values())


def name_of(config: Settings) -> str:
    """Return the settings that are not the defaults as the name of a folder; "defaults" if none."""
    default, settings = asdict(type(config)()), asdict(config)
    differs = {n: v for n, v in settings.items() if n not in NOT_COMPARED and v != default[n]}
    shown = lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    said = ",".join(f"{name}={shown(value)}" for name, value in differs.items()) or "defaults"
    name = re.sub(r"[^\w.,=+-]", "_", said, flags=re.ASCII)
    if len(name) > LONGEST:  # file systems take no more than 255
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        name = f"{name[: LONGEST - 17]}-{digest}"
    return name


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
