"""One bad argument at a time, to every public function: refused clearly, or answered rightly.

Each function of `public_calls` is called with one argument replaced by each of a pool of values
that fit the argument's kind badly. What comes of it is

- clear: a ValueError or TypeError "argument: got ..; expected ... Remedy." that names it (or, for
  a value of the wrong size, an argument that it does not fit), or an OSError with the path;
- right: accepted, with the result of the value that it stands for (a list for an array, NumPy's
  integer for Python's), or one without NaN where there is nothing to compare with;
- obscure: any other error;
- silent: accepted though it can mean nothing, or with another result than the value that it
  stands for has, or NaN from numbers.
"""

import collections
import contextlib
import inspect
import io
import os
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.cell import Cell
from tests.public_calls import CALLS, calls_of, public_functions
from tests.public_calls.call import LSTM_PARAMS, OTHER_H, PARAMS
from tests.public_calls.of_training import FRESH, folder

OBSCURE, SILENT = 0.01, 0.0
"""The part of the calls that may end so."""
PER_FUNCTION = 4
"""Bad values for a function that compiles, drawn by a seed of its name."""
EVERYTHING = bool(os.environ.get("RNN_JAX_FUZZ_EVERYTHING"))
"""All values for all functions: 2,700 calls, some minutes."""
LEFT_OUT = {  # values that are good, or that say nothing, by kind
    "positive or None": ("None",),
    "shape": ("integers", "NaN", "float16"),
    "floats, no integers": ("integers", "NaN", "float16"),
    "complex too": ("complex", "float16"),
    "path": ("text",),
    "pytree": ("None", "dict", "empty list", "number"),
    "two lags": ("rank + 2",),
    "of any size": ("of another H",),
}

FORM = re.compile(r"^([A-Za-z_][\w.]*)[^:]*: got .+; expected .+\. \S", re.DOTALL)
FITS = {  # an argument of the wrong size or kind may be seen in one that it should fit
    "low": {"high"},
    "params": {"xs", "x", "initial_state", "cell", "state", "prompt", "structure"},
    "cell": {"params", "initial_state", "encoder"},
    "encoder": {"params", "cell"},
    "xs": {"x", "params", "targets", "initial_state", "resets", "nudges", "lengths"},
    "x": {"xs", "params", "W", "state"},
    "prompt": {"xs", "params", "lengths"},
    "ys": {"target", "targets", "mask", "lengths", "loss", "logits", "y"},
    "y": {"target"},
    "logits": {"target"},
    "targets": {"target", "xs", "loss"},
    "target": {"loss", "y", "logits"},
    "objective": {"loss"},
    "state": {"initial_state", "params", "batch"},
    "loss": {"objective"},
    "W": {"x", "start"},
    "transposed": {"x"},
    "log_bound": {"log_norms"},
    "log_norms": {"log_bound"},
    "structure": {"cell", "params"},
    "nudges": {"xs"},
    "q": {"c", "v"},
    "p": {"v"},
    "kappa": {"v"},
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


def some(name, call):
    """(argument, bad value) of a call: all, or some of them where each takes a compilation."""
    pairs = [(argument, bad) for argument in call.good for bad in bads_for(call, argument)]
    if call.cheap or EVERYTHING:
        return pairs
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    kept = set(draw.permutation(len(pairs))[:PER_FUNCTION])
    meaningless = lambda bad: bad.label.startswith("meaningless")
    return [pair for n, pair in enumerate(pairs) if n in kept or meaningless(pair[1])]


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


def outcome(call, argument, bad, expected):
    """One of the four words, and what was said or returned."""
    try:
        result = result_of(call, {argument: bad.value})
    except Exception as error:
        named = FORM.match(str(error))
        said = f"{type(error).__name__}: {error}".splitlines()[0][:150]
        if isinstance(error, OSError) and str(bad.value) in str(error):
            return "clear", said
        if not isinstance(error, ValueError | TypeError) or not named:
            return "obscure", said
        name = named[1].split(".")[0]
        fits = {argument, *(FITS.get(argument, ()) if bad.sized else ())}
        names_it = name in fits or re.search(rf"\b{argument}\b", named[0].split("expected")[0])
        return ("clear" if names_it else "obscure"), said
    shown = " ".join(repr(result).split())[:120]
    if bad.never:
        return "silent", shown
    if bad.instead is not None:
        return ("right" if same(result, expected(bad.instead)) else "silent"), shown
    nan = [np.isnan(leaf).any() for leaf in floats(result)]
    flagged = [leaf for leaf in leaves(result) if leaf.dtype == bool and not leaf.all()]
    if bad.label in ("NaN", "1e+300"):  # what overflows may be NaN as well
        says_so = any(nan) or flagged or not nan or bad.label != "NaN"
        return ("right" if says_so else "silent"), shown
    if not any(nan) or flagged:
        return "right", shown
    usual = any(np.isnan(leaf).any() for leaf in floats(expected(call.good[argument])))
    return ("right" if usual else "silent"), shown


def result_of(call, changed):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        arguments = {
            name: folder() if value is FRESH else value
            for name, value in (call.good | changed).items()
        }
        result = call.then(call.function(**arguments))
        return jax.block_until_ready(result)


def leaves(result):
    is_array = lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic)
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
    return [
        np.asarray(leaf) for leaf in jax.tree.leaves(result) if is_array(leaf) and not is_key(leaf)
    ]


def floats(result):
    return [x.astype(float) for x in leaves(result) if jnp.issubdtype(x.dtype, jnp.floating)]


def same(result, expected):
    a, b = leaves(result), leaves(expected)
    return [x.shape for x in a] == [x.shape for x in b] and all(
        np.allclose(x.astype(float), y.astype(float), rtol=1e-4, atol=1e-6, equal_nan=True)
        for x, y in zip(a, b, strict=True)
        if not jnp.iscomplexobj(x)
    )


def outcomes(name, call):
    """(argument, label, word, said) for every bad value of every argument."""
    known = {}

    def expected(argument, value):
        key = (argument, id(value)) if value is not call.good[argument] else None
        if key not in known:
            known[key] = result_of(call, {argument: value})
        return known[key]

    for argument, bad in some(name, call):
        word, said = outcome(call, argument, bad, lambda value, a=argument: expected(a, value))
        yield argument, bad.label, word, said


def test_every_public_function_has_its_row():
    missing = [
        f"{module}.{name}" for module, name in public_functions() if name not in calls_of(module)
    ]
    assert not missing, f"add to public_calls, or to RECORDS what does no work: {missing}"
    known = set(public_functions())
    assert not [row for module in CALLS for row in calls_of(module) if (module, row) not in known]


@pytest.mark.parametrize("module", CALLS)
@pytest.mark.filterwarnings("default")
def test_bad_arguments(module):
    counts, worst = collections.Counter(), []
    for name, call in calls_of(module).items():
        if call.cheap or EVERYTHING:
            result_of(call, {})  # the row itself is right
        for argument, label, word, said in outcomes(name, call):
            counts[word] += 1
            if word in ("obscure", "silent"):
                worst.append(f"{word}: {name}({argument} = {label}): {said}")
    total = sum(counts.values())
    listing = f"{module}: {dict(counts)} of {total}\n" + "\n".join(worst)
    print(listing)
    assert counts["silent"] <= SILENT * total, listing
    assert counts["obscure"] <= OBSCURE * total, listing
