"""Seconds of calls in interleaved rounds, all of which are kept; and of compilation."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PAUSE = 0.3
"""Seconds before another method is timed: threads of the one before wait for more work, busily."""
PER_SECOND = {"s": 1.0, "ms": 1e3, "µs": 1e6}


class Times(NamedTuple):
    """Seconds of every call of one method: round by round, the calls of each in a row."""

    rounds: list[list[float]]

    @property
    def calls(self) -> list[float]:
        """Return the seconds of each call."""
        return [seconds for calls in self.rounds for seconds in calls]

    @property
    def means(self) -> list[float]:
        """Return the mean of each round."""
        return [statistics.fmean(calls) for calls in self.rounds]


def seconds(call: Callable[[], Any]) -> float:
    """Return the seconds until the arrays that `call` returns are there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def in_rounds(
    calls: Mapping[Any, Callable[[], Any]],
    rounds: int,
    in_a_row: int | Mapping[Any, int] = 1,
    *,
    pause: float = PAUSE,
    limit: float = math.inf,
    min_rounds: int = 1,
) -> dict[Any, Times]:
    """Return the seconds of each method's calls, the methods in turn in every round.

    Args:
      calls: method -> call.
      rounds: largest number of rounds of all methods.
      in_a_row: calls of one method in a round, for all or each.
      pause: seconds of rest before each method.
      limit: seconds after which no further round begins.
      min_rounds: rounds that there are in any case.
    """
    times: dict[Any, Times] = {name: Times([]) for name in calls}
    began = time.perf_counter()
    for n in range(rounds):
        if n >= min_rounds and time.perf_counter() - began > limit:
            break
        for name, call in calls.items():
            time.sleep(pause)
            count = in_a_row if isinstance(in_a_row, int) else in_a_row[name]
            times[name].rounds.append([seconds(call) for _ in range(count)])
    return times


def summary(times: Sequence[float], unit: str = "ms", per: float = 1) -> dict[str, Any]:
    """Return columns of a row: median, fastest and slowest, and all times for the JSON.

    Args:
      times: seconds.
      unit: "s", "ms" or "µs"; it names the columns, with what follows a space, as "ms a step".
      per: divisor of each time, such as steps.
    """
    scaled = [PER_SECOND[unit.partition(" ")[0]] * time / per for time in times]
    return {
        unit: statistics.median(scaled),
        f"fastest {unit}": min(scaled),
        f"slowest {unit}": max(scaled),
        f"all {unit}": scaled,
    }


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(times, others, strict=True))


def large_product(n: int = 2048) -> tuple[Callable[[], Any], int]:
    """Return a float32 matrix product that shows the rate of all cores, and its FLOP.

    Single calls at small sizes wait for threads.
    """
    A = jax.random.normal(jax.random.key(0), (n, n))
    multiply = jax.jit(jnp.matmul)
    seconds(lambda: multiply(A, A))
    return lambda: multiply(A, A), 2 * n**3


def compiled(
    function: Callable[..., Any], *arguments: Any, options: Mapping[str, Any] | None = None
) -> tuple[Any, float]:
    """Return the program for `arguments`, and the seconds to trace and compile it."""
    start = time.perf_counter()
    jitted = jax.jit(function, compiler_options=dict(options) if options else None)
    program = jitted.lower(*arguments).compile()
    return program, time.perf_counter() - start
