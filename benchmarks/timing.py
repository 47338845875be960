"""Seconds of calls, of calls in turn and of compilation, and of a product to hold them against."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

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


def large_product(n: int = 2048) -> tuple[Callable[[], Any], int]:
    """A float32 matrix product that shows the machine's rate on all cores, and its FLOP.

    Single calls at small sizes wait for threads.
    """
    A = jax.random.normal(jax.random.key(0), (n, n))
    multiply = jax.jit(jnp.matmul)
    seconds(lambda: multiply(A, A))
    return lambda: multiply(A, A), 2 * n**3


def compiled(
    function: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] | None = None
) -> tuple[Any, float]:
    """(program for `arguments`, seconds to trace and compile it)."""
    start = time.perf_counter()
    jitted = jax.jit(function, compiler_options=dict(options) if options else None)
    program = jitted.lower(*arguments).compile()
    return program, time.perf_counter() - start
