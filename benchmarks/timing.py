"""Seconds: of a call, to its result, of calls in turn, and of compilation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

PAUSE = 0.3
"""Seconds before another method is timed: threads of the one before wait for more work, busily."""


def seconds(call: Callable[[], Any]) -> float:
    """Until the arrays that `call` returns are there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def in_rounds(
    calls: Mapping[Any, Callable[[], Any]], rounds: int, at_once: int = 1
) -> dict[Any, list[float]]:
    """Seconds of each call, in interleaved rounds of `at_once` calls."""
    times: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(PAUSE)
            times[name] += [seconds(call) for _ in range(at_once)]
    return times


def compiled(
    function: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] | None = None
) -> tuple[Any, float]:
    """(program for `arguments`, seconds to trace and compile it)."""
    start = time.perf_counter()
    jitted = jax.jit(function, compiler_options=dict(options) if options else None)
    program = jitted.lower(*arguments).compile()
    return program, time.perf_counter() - start
