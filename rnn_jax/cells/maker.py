"""Decorators of cell constructors: checked arguments, and a Cell that prints as its call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import (
    check_dtype,
    check_key,
    check_number,
    check_size,
    check_sizes,
    describe,
    invalid,
    is_traced,
)
from rnn_jax.types import Array, Initializer, Key, Params, State

Arguments = ParamSpec("Arguments")


def maker(make: Callable[Arguments, Cell]) -> Callable[Arguments, Cell]:
    """Decorate the constructor of a Cell with checks.

    Each argument is checked by its annotation: `int` is a size, `float` a finite number,
    `DTypeLike` a floating dtype, `Initializer` a function that draws arrays of the shape that it
    is asked for, `Cell` a Cell; a constructor checks what it needs beyond that by itself. The Cell
    raises ValueError for a key, an input size, batch axes, parameters or a state that do not fit
    it, and prints as the call that made it, without the arguments that have their defaults.
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Cell:
        call = signature.bind(*args, **kwargs)
        name = f"{make.__name__}({', '.join(_spoken(signature, call.arguments))})"
        for argument, value in call.arguments.items():
            parameter = signature.parameters[argument]
            check = CHECKS.get(str(parameter.annotation).removesuffix(" | None"))
            if check is None or value is parameter.default:
                continue
            several = parameter.kind is inspect.Parameter.VAR_POSITIONAL
            checked = (
                tuple(check(f"{argument}[{n}]", each) for n, each in enumerate(value))
                if several
                else check(argument, value)
            )
            call.arguments[argument] = checked
        cell = make(*call.args, **call.kwargs)
        return _guarded(cell, name, _model_of(make, call.args, tuple(call.kwargs.items())))

    return made


def named(make: Callable[Arguments, Cell]) -> Callable[Arguments, Cell]:
    """Decorate the constructor of a user's Cell, which then prints as the call that made it."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Cell:
        spoken = _spoken(signature, signature.bind(*args, **kwargs).arguments)
        return replace(make(*args, **kwargs), name=f"{make.__name__}({', '.join(spoken)})")

    return made


def check_initializer(argument: str, init: Any) -> Initializer:
    """Return `init` with a check of the shape that it draws, in the dtype that it is asked for.

    Raises:
      ValueError: no function, or, when it is called, an array of another shape.
    """
    if not callable(init):
        remedy = "Pass cells.initializers.gaussian(0.1), or lambda key, shape, dtype: array."
        raise invalid(argument, init, "a function (key, shape, dtype) -> array", remedy)

    def drawn(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        array = jnp.asarray(init(key, shape, dtype))
        if array.shape != tuple(shape):
            got, expected = f"a function that drew {describe(array)}", f"an array {list(shape)}"
            raise invalid(argument, got, expected, "Draw the shape that it is called with.")
        return array.astype(dtype)

    return drawn


def check_finite(argument: str, value: Any) -> Any:
    """Return `value`, a finite number, as a Python one."""
    # A NumPy float64 would promote a float32 state; a Python number takes the dtype of the array
    # that it meets.
    number = check_number(argument, value, remedy="Pass a finite number.")
    return number.item() if hasattr(number, "item") and not is_traced(number) else number


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "int": check_size,
    "float": check_finite,
    "DTypeLike": check_dtype,
    "Initializer": check_initializer,
    "Cell": check_cell,
}


def _guarded(cell: Cell, name: str, expected: Callable[[], Params | None]) -> Cell:
    """Return `cell` with checks around its functions; `expected()` is a model of its parameters."""

    def init(key: Key, input_size: int) -> Params:
        check_key("key", key)
        return cell.init(key, check_size("input_size", input_size, least=0))

    def check_params(params: Params) -> None:
        model = expected()
        if model is not None and not _fits(params, model):
            those = f"those of {name}, {_layout(model)}"
            raise invalid("params", _layout(params), those, "Pass cell.init(key, I) of this cell.")

    def initial_state(params: Params, batch: Any = ()) -> State:
        batch = check_sizes("batch", batch)
        check_params(params)
        return cell.initial_state(params, batch)

    def step(params: Params, state: State, x: Array) -> tuple[State, Array]:
        # The check of parameters walks a pytree, which a step of a loop in Python cannot afford: it
        # is made only once the step has failed, to say why.
        try:
            return cell.step(params, state, x)
        except Exception:
            check_params(params)
            raise

    return replace(cell, init=init, initial_state=initial_state, step=step, name=name)


ANY_SIZE = 99_991
"""A placeholder for the input size I, a prime that no other size is mistaken for."""


def _model(make: Callable[..., Cell], args: tuple, kwargs: tuple) -> Params | None:
    """Return the shapes of the parameters, with ANY_SIZE for I; None where any I will not do."""
    cell = make(*args, **dict(kwargs))
    try:
        return jax.eval_shape(lambda: cell.init(jax.random.key(0), ANY_SIZE))
    except Exception:  # of the user's own initializers, or of the cells inside
        return None


_models_of_equal_calls = functools.lru_cache(maxsize=256)(_model)


def _model_of(make: Callable[..., Cell], args: tuple, kwargs: tuple) -> Callable[[], Params | None]:
    """Return a function that finds `_model` once."""
    # Once for each Cell, and once for all equal calls where the arguments are numbers and names:
    # functions may be equal and draw other shapes.
    values = (*args, *(value for _, value in kwargs))
    plain = all(isinstance(value, int | float | str | type | None) for value in values)
    compute = _models_of_equal_calls if plain else _model
    return functools.cache(lambda: compute(make, args, kwargs))


def _fits(params: Params, model: Params) -> bool:
    """Return whether `params` have the structure and shapes of `model`."""
    trees: list[Any] = [jax.tree.structure(tree) for tree in (params, model)]
    return trees[0] == trees[1] and all(
        len(jnp.shape(leaf)) == len(one.shape)
        and all(n in (size, ANY_SIZE) for size, n in zip(jnp.shape(leaf), one.shape, strict=True))
        for leaf, one in zip(*map(jax.tree.leaves, (params, model)), strict=True)
    )


def _layout(params: Params) -> str:
    try:
        text = " ".join(str(jax.tree.map(describe, params)).replace("'", "").split())
        text = text.replace(str(ANY_SIZE), "I")
    except Exception:
        text = describe(params)
    return text if len(text) <= 160 else text[:157] + "..."


def _spoken(signature: inspect.Signature, arguments: dict[str, Any]) -> list[str]:
    """Return the arguments of a call that are not their defaults, as a user writes them."""
    words: list[str] = []
    for name, value in arguments.items():
        parameter = signature.parameters[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            words += map(_word, value)
        elif parameter.default is inspect.Parameter.empty:
            words.append(_word(value))
        elif not _same(value, parameter.default):
            words.append(f"{name}={_word(value)}")
    return words


def _same(value: Any, default: Any) -> bool:
    plain = isinstance(value, str | int | float | bool | type(None))
    return value is default or (plain and type(value) is type(default) and value == default)


def _word(value: Any) -> str:
    if isinstance(value, Cell):
        return repr(value)
    if isinstance(value, type) or type(value).__name__ == "_ScalarMeta":
        return value.__name__
    if callable(value):
        own = getattr(value, "__name__", type(value).__name__)
        made, inside, _ = getattr(value, "__qualname__", own).partition(".<locals>")
        return f"{made}(...)" if inside and own in ("init", "drawn") else own
    if isinstance(value, int | float | str):
        text = repr(value)
    else:  # a NumPy integer too is written as a number
        text = str(value) if getattr(value, "shape", None) == () else describe(value)
    return text if len(text) <= 40 else f"{type(value).__name__}(...)"
