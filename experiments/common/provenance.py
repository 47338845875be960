"""Record where a run comes from, so that it can be told from others and run again."""

from __future__ import annotations

import dataclasses
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import rnn_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
NOT_COMPARED = ("out", "overwrite")
"""Fields that may differ between a run and its resumption."""


def record_of(config: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.json holds of a run that begins now.

    `seconds` are added at its end: since it was last `resumed`, which is how often it was.
    """
    versions = {"rnn_jax": rnn_jax.__version__, "python": platform.python_version()}
    devices = jax.local_devices()
    return {
        "experiment": experiment_of(type(config)),
        "config": settings_of(config),
        "inputs": dict(inputs),
        "command": shlex.join(sys.orig_argv),
        "commit": commit(),
        "versions": versions | {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "devices": f"{len(devices)} of {devices[0].device_kind} ({devices[0].platform})",
        "begun": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "resumed": 0,
    }


def settings_of(config: Any) -> dict[str, Any]:
    """Return the settings as config.json holds them."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def experiment_of(defined: Any) -> str:
    """Return the name of the experiment in whose module a class or function is defined."""
    module = sys.modules[defined.__module__]
    spec = getattr(module, "__spec__", None)
    # Run by `python -m`, a module is called __main__, and its spec by its own name.
    name = spec.name if spec is not None else Path(module.__file__ or "").stem
    return name.rpartition(".")[2]


def same_run(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two records are of the same experiment, settings and inputs."""

    def compared(record: Mapping[str, Any]) -> Any:
        settings = {k: v for k, v in record.get("config", {}).items() if k not in NOT_COMPARED}
        return record.get("experiment"), settings, record.get("inputs")

    return compared(record) == compared(other)


def commit(folder: Path = Path(__file__).parent) -> str | None:
    """Return git's commit of a folder, "-dirty" where it was changed since.

    None without git, and where git has nothing of that folder: an installed package may lie within
    another repository.
    """
    if not _said_by_git(folder, "ls-files"):
        return None
    return _said_by_git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _said_by_git(folder: Path, *arguments: str) -> str | None:
    command = ("git", *arguments)
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
