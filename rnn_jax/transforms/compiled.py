"""Functions that compile only once when they are called outside `jit`.

Eager JAX compiles a loop again whenever its body is a new Python function, and a body that is
written inside a function is new at every call. `compiled` keeps one jitted function for each set of
static arguments: a loop of measurements compiles at its first turn, and memory does not grow.
"""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_PROGRAMS = 64
"""Sets of static arguments that are remembered for each cell, and for all calls without a cell."""

_without_cell: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()


def compiled(*static: str) -> Callable[[Function], Function]:
    """Return a decorator that jits a function, with the arguments named `static` held constant.

    ```
    @compiled("cell", "loss")
    def measure(cell, params, xs, loss): ...
    ```

    Gradients and `vmap` of it outside `jit` compile once too. Inside `jit`, or where a static
    argument cannot be hashed, the function is called unchanged. All other arguments must be pytrees
    of arrays; what has to be checked by value is checked before the call. As under `jit`, globals
    and closures are read when the function is compiled, and later changes are not seen.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        name = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if under_jit():
                return function(*args, **kwargs)
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            arguments = bound.arguments
            fixed = {key: arguments.pop(key) for key in static}
            cell = next((v for v in fixed.values() if hasattr(v, "initial_state")), None)
            # A type beside each value, since 1, 1.0 and True are equal and hash alike. The cell is
            # no part of the key: programs close over it and are kept in its own __dict__, so that
            # they are collected with it; a global cache would keep every cell alive.
            key = (name, *(None if v is cell else (type(v), v) for v in fixed.values()))
            try:
                program = _program(_programs_of(cell), key, function, fixed)
            except TypeError:  # not hashable
                return function(**fixed, **arguments)
            return program(arguments)

        return call  # type: ignore[return-value]

    return decorate


def under_jit() -> bool:
    """Return whether this is traced by `jit`, not called outside of it nor by `grad` alone."""
    # Under `jit` even a constant is staged out as a tracer; `grad` and `vmap` trace inputs alone.
    return isinstance(jnp.zeros(()), jax.core.Tracer)


def _programs_of(cell: Any) -> OrderedDict[Hashable, Callable[..., Any]]:
    """Return the jitted functions of a cell, the oldest used first."""
    return _without_cell if cell is None else cell.__dict__.setdefault("_programs", OrderedDict())


def _program(programs: Any, key: Hashable, function: Callable[..., Any], fixed: Any):
    hash(key)
    if key not in programs:
        programs[key] = jax.jit(lambda arguments: function(**fixed, **arguments))
        while len(programs) > MAX_PROGRAMS:
            programs.popitem(last=False)
    programs.move_to_end(key)
    return programs[key]
