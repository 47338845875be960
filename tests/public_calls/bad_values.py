"""Bad values for every kind of argument, and what each stands for."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell
from tests.public_calls.call import LSTM_PARAMS, OTHER_H, PARAMS

LEFT_OUT = {  # values that are good, or that say nothing, by kind
    "positive or None": ("None",),
    "shape": ("integers", "NaN", "float16"),
    "floats, no integers": ("integers", "NaN", "float16"),
    "complex too": ("complex", "float16"),
    "path": ("text",),
    "free text": ("text",),
    "of any length": ("empty list",),
    "pytree": ("None", "dict", "empty list", "number"),
    "two lags": ("rank + 2",),
    "of any size": ("of another H",),
}


class Bad:
    """A bad value. `instead` is what it stands for, `never` whether it can mean anything."""

    def __init__(self, label, value, *, instead=None, never=False, sized=False):
        self.label, self.value, self.instead = label, value, instead
        self.never, self.sized = never, sized


def strangers(*kept):
    values = {"None": None, "text": "no", "object": object(), "dict": {"a": 1}, "empty list": []}
    return [Bad(label, value, never=True) for label, value in values.items() if label not in kept]


def for_number(good):
    return [
        *strangers(),
        *(Bad(str(x), x, sized=True) for x in (-1.0, 0.0, -1, 1e300)),
        Bad("NaN", np.nan, never=True),
        Bad("infinity", np.inf),
        Bad("bool", True, never=True),
        Bad("complex", 1j, never=True),
        Bad("vector", jnp.ones(2), never=True),
        Bad("NumPy's", np.float64(good), instead=good),
    ]


def for_numbers(good):
    return [bad for bad in for_number(good) if bad.label not in ("NaN", "vector")] + [
        Bad("array", jnp.array([good, good])),
        Bad("integers", np.array(1), instead=1.0),
        Bad("list", [good], never=True),
        Bad("size 0", jnp.zeros(0)),
    ]


def for_integer(good):
    return [
        *strangers(),
        *(Bad(str(x), x, never=True) for x in (-1, 2.5, np.nan, True)),
        Bad("0", 0),
        Bad("vector", jnp.ones(2), never=True),
        Bad("vector of integers", np.array([1, 2]), never=True),
        Bad("NumPy's", np.int64(good), instead=good),
        Bad("array's", np.array(good), instead=good),
    ]


def for_flag(good):
    return [
        *strangers(),
        *(Bad(str(x), x, never=True) for x in (2.5, 3, np.nan)),
        Bad("NumPy's", np.bool_(good), instead=good),
    ]


def for_array(good):
    numbers = jnp.asarray(good)
    bads = [
        *strangers(),
        Bad("number", 1.5, never=numbers.ndim > 0, sized=True),
        Bad("list", np.asarray(good).tolist(), instead=good),
        Bad("rank + 2", numbers[None, None], sized=True),
        Bad("size 0", numbers[:0], sized=True),
        Bad("a number too many", jnp.concatenate([numbers, numbers[..., :1]], -1), sized=True),
    ]
    if numbers.ndim > 1:
        bads.append(Bad("rank - 1", numbers[0], sized=True))
    if jnp.issubdtype(numbers.dtype, jnp.floating):
        whole = jnp.where(jnp.isfinite(numbers), 10 * numbers, 0).astype(jnp.int32)
        bads += [
            Bad("integers", whole, instead=whole.astype(numbers.dtype)),
            Bad("complex", numbers.astype(complex), never=True, sized=True),
            Bad("float16", numbers.astype(jnp.float16)),
            Bad("NaN", jnp.full_like(numbers, jnp.nan)),
            Bad("NumPy's", np.asarray(good), instead=good),
        ]
    else:
        bads += [Bad("floats", numbers.astype(float) + 0.5, never=True)]
    return bads


def for_integers(good):
    kind = type(good) if isinstance(good, tuple | list) else tuple
    return [
        *strangers("empty list"),
        Bad("number", 2.5, never=True),
        Bad("of floats", kind([2.5] * len(good)), never=True),
        Bad("of text", kind(["no"] * len(good)), never=True),
        Bad("negative", kind([-7] * len(good))),
        Bad("empty", kind([])),
        Bad("NumPy's", kind(np.int64(x) for x in good), instead=good),
        Bad("list", list(good), instead=good),
    ]


def for_params(good):
    return [
        *strangers(),
        Bad("number", 3, never=True),
        Bad(
            "another cell's",
            LSTM_PARAMS if good is not LSTM_PARAMS else PARAMS,
            never=True,
            sized=True,
        ),
        Bad("of another H", OTHER_H, never=True, sized=True),
        Bad("NaN", jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), good)),
        Bad("with a leaf None", jax.tree.map(lambda _: None, good), never=True, sized=True),
    ]


def others(good):
    return [*strangers(), Bad("number", 3, never=True)]


def bads_for(call, argument):
    good, kind = call.good[argument], call.kinds.get(argument)
    left_out = LEFT_OUT.get(kind, ())
    if kind == "skip":
        return []
    pool = for_numbers if kind == "numbers" else kind_of(argument, good)
    if _default(call, argument) is None:
        left_out = (*left_out, "None")
    bads = [bad for bad in pool(good) if bad.label not in left_out]
    never = call.never.get(argument, ())
    return bads + [Bad(f"meaningless {n}", x, never=True, sized=True) for n, x in enumerate(never)]


def _default(call, argument):
    parameter = inspect.signature(call.function).parameters.get(argument)
    return inspect.Parameter.empty if parameter is None else parameter.default


def kind_of(argument, good):
    if isinstance(good, Cell):
        return others
    if argument == "params" and good is not None and not isinstance(good, dict):
        return for_params
    if isinstance(good, bool):
        return for_flag
    if isinstance(good, int):
        return for_integer
    if isinstance(good, float):
        return for_number
    if isinstance(good, jax.Array | np.ndarray):
        return others if jnp.issubdtype(good.dtype, jax.dtypes.prng_key) else for_array
    if isinstance(good, range) or (
        isinstance(good, tuple | list) and good and all(type(x) is int for x in good)
    ):
        return for_integers
    if good is None or isinstance(good, str):
        return lambda good: [bad for bad in others(good) if good is not None or bad.label != "None"]
    return others
