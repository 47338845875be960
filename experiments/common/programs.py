"""Programs that a run has compiled, kept for its other arms and for when it is resumed."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def keep_programs(folder: Path) -> None:
    """Keep what this process compiles from now on; a folder that a user has set stays."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        # A program for one machine's processor may not run on another's.
        _use(str(folder / platform.node()), 0.0)


@contextlib.contextmanager
def programs_kept(folder: Path) -> Iterator[None]:
    """Keep what is compiled meanwhile, unless it is kept somewhere already."""
    before = [getattr(jax.config, name) for name in SETTINGS]
    if before[0] is not None:
        yield
        return
    keep_programs(folder)
    try:
        yield
    finally:
        _use(*before)


def _use(*values: Any) -> None:
    """Keep programs in a folder that take so many seconds to compile; none without a folder."""
    for name, value in zip(SETTINGS, values, strict=True):
        jax.config.update(name, value)
    # What was compiled before has settled where they are.
    compilation_cache.reset_cache()
