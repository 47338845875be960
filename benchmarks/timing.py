"""Seconds: of a call, to its result, and of compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax


def seconds(call: Callable[[], Any]) -> float:
    """Until the arrays that `call` returns are there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def compiled(
    function: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] | None = None
) -> tuple[Any, float]:
    """(program for `arguments`, seconds to trace and compile it)."""
    start = time.perf_counter()
    jitted = jax.jit(function, compiler_options=dict(options) if options else None)
    program = jitted.lower(*arguments).compile()
    return program, time.perf_counter() - start
