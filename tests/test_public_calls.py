"""Every public function: compiled once for a loop of calls, and with one bad argument at a time.

A bad argument is refused clearly or answered rightly. Each function of `public_calls` is called
with one argument replaced by each of a pool of values that fit the argument's kind badly. What
comes of it is

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
import io
import os
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.unrolling import arguments
from tests.public_calls import CALLS, calls_of, public_functions
from tests.public_calls.bad_values import bads_for
from tests.public_calls.of_training import FRESH, folder

OBSCURE, SILENT = 0.01, 0.0
"""The part of the calls that may end so."""
PER_FUNCTION = 4
"""Bad values for a function that compiles, drawn by a seed of its name."""
EVERYTHING = bool(os.environ.get("RNN_JAX_FUZZ_EVERYTHING"))
"""All values for all functions: 2,700 calls, some minutes."""

FORM = re.compile(r"^([A-Za-z_][\w.]*)[^:]*: got .+; expected .+\. \S", re.DOTALL)
FITS = {  # an argument of the wrong size or kind may be seen in one that it should fit
    "low": {"high"},
    "params": {"xs", "x", "initial_state", "cell", "state", "prompt", "structure"},
    "cell": {"params", "initial_state", "encoder"},
    "encoder": {"params", "cell"},
    "steps": {"values"},
    "values": {"steps"},
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


def some(name, call):
    """(argument, bad value) of a call: all, or some of them where each takes a compilation."""
    pairs = [(argument, bad) for argument in call.good for bad in bads_for(call, argument)]
    if call.cheap or EVERYTHING:
        return pairs
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    kept = set(draw.permutation(len(pairs))[:PER_FUNCTION])
    meaningless = lambda bad: bad.label.startswith("meaningless")
    return [pair for n, pair in enumerate(pairs) if n in kept or meaningless(pair[1])]


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


@pytest.mark.parametrize("module", ["rnn_jax", "gradients", "linalg", "losses", "topologies"])
def test_calls_outside_jit_compile_once(module, compilations, monkeypatch):
    """Every public function, on the same arguments again: a loop of measurements stays flat.

    What is to be unrolled is checked once in each call.
    """
    checks, check = [], arguments._checked_xs
    monkeypatch.setattr(arguments, "_checked_xs", lambda xs: checks.append(xs) or check(xs))
    again, checked = {}, {}
    for name, call in calls_of(module).items():
        run = lambda call=call: call.then(call.function(**call.good))
        for _ in range(2):
            run()
        before, checks[:] = compilations[0], []
        run()
        again[name], checked[name] = compilations[0] - before, len(checks)
    assert not {name: count for name, count in again.items() if count}
    assert checked.pop("bidirectional", 2) == 2  # one of each of its cells
    assert not {name: count for name, count in checked.items() if count > 1}
    assert any(checked.values()) == (module in ("rnn_jax", "gradients", "topologies"))
