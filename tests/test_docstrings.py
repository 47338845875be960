"""Examples in docstrings run as they stand, given what they say they are given."""

import importlib
import tempfile
import traceback
import types
from pathlib import Path

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import rnn_jax
from rnn_jax import cells, interop, topologies
from tests.examples import Example, docstring_examples

ROOT = Path(rnn_jax.__file__).parent
NO_PYTHON = {"checkpoints.py", "state_folder.py"}
"""Files whose fenced blocks show something else: a tree of files."""

EXAMPLES = [
    example
    for path in sorted(ROOT.rglob("*.py"))
    for example in docstring_examples(path)
    if path.name not in NO_PYTHON
]
KEY = jax.random.key(0)
LSTM, GRU = cells.lstm(3), cells.gru(3)


def an_encoder():
    cell = cells.elman(3)
    decoder = cells.readout(cell, 2)
    return {
        **{"encoder": cell, "encoder_params": cell.init(KEY, 2)},
        **{"decoder": decoder, "decoder_params": decoder.init(KEY, 2)},
        **{"xs": jnp.ones((4, 2), jnp.float32), "targets_in": jnp.ones((5, 2), jnp.float32)},
        **{"lengths": jnp.array(3), "teacher_forcing": topologies.teacher_forcing},
    }


def torch_weights():
    layers = [cells.gru(3).init(KEY, 3) for _ in range(2)]
    of = lambda k: interop.export_weights("torch", "gru", layers[k], at=f"_l{k}")
    return {
        "torch_lstm": interop.export_weights("torch", "lstm", LSTM.init(KEY, 2)),
        "torch_gru": {**of(0), **of(1)},
    }


def modules_of_torch_and_nnx():
    return {
        "params": LSTM.init(KEY, 2),
        "torch": types.SimpleNamespace(from_numpy=jnp.asarray),
        "torch_lstm": types.SimpleNamespace(load_state_dict=dict),
        "nnx_cell": nnx.LSTMCell(2, 3, rngs=nnx.Rngs(0)),
    }


def a_network():
    library = {"unroll": rnn_jax.unroll, "draw_masks": cells.draw_masks}
    return {"cell": LSTM, "I": 2, "B": 3, **library}


def a_trajectory():
    folder = Path(tempfile.mkdtemp())
    of = {"cell": LSTM, "params": LSTM.init(KEY, 2), "xs": jnp.ones((5, 2), jnp.float32)}
    return {**of, "folder": folder, "rnn_jax": rnn_jax, "gradients": rnn_jax.gradients}


GIVEN = {
    "encode_decode": an_encoder,
    "import_weights": torch_weights,
    "export_weights": modules_of_torch_and_nnx,
    "dropout": a_network,
    "report": a_trajectory,
}
"""By the function whose docstring it is: what an example takes for granted."""

THEN = {
    "encode_decode": lambda made: made["ys"].shape == (5, 2),
    "report": lambda made: (made["folder"] / "report.html").stat().st_size > 1e6,
    "LinenCell": lambda made: made["y"].shape == (3, 4, 64),
    "NNXCell": lambda made: made["y"].shape == (3, 4, 64),
    "import_weights": lambda made: len(made["layers"]) == 2,
    "from_function": lambda made: made["cell"].initial_state({}).shape == (64,),
    "gated": lambda made: made["pointwise"](jnp.ones(2), jnp.ones(4))[0].shape == (2,),
    "dropout": lambda made: not made["loss"](LSTM.init(KEY, 2), KEY, jnp.ones((5, 3, 2)), None),
}
"""What holds once it has run."""


def namespace_of(example: Example) -> dict:
    """The globals of the file, what every example knows, and what this one takes for granted."""
    parts = example.path.relative_to(ROOT.parent).with_suffix("").parts
    known = {"cells": cells, "nn": nn, "nnx": nnx, "hk": hk, "eqx": eqx, "jax": jax, "jnp": jnp}
    known |= {"key": KEY, "x": jnp.ones((3, 4, 8), jnp.float32)}
    given = GIVEN.get(example.of, dict)()
    return {**vars(importlib.import_module(".".join(parts))), **known, **given}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.path.relative_to(ROOT)}:{e.line}")
def test_an_example_runs(example):
    namespace = namespace_of(example)
    with jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        example.run(namespace)
        assert THEN.get(example.of, lambda made: True)(namespace)


def test_the_examples_are_found():
    assert len(EXAMPLES) >= 13
    assert {*GIVEN, *THEN} <= {example.of for example in EXAMPLES}


def test_a_broken_example_fails_on_its_line(tmp_path):
    path = tmp_path / "module.py"
    docstring = ["Return.", "", "```", "a = 1", "f(b)", "```", "", ">>> 1 / 0", ""]
    path.write_text("\n    ".join(["def f():", '"""' + docstring[0], *docstring[1:], '"""']))
    fenced, typed = docstring_examples(path)
    for example, line, error in ((fenced, 6, NameError), (typed, 9, ZeroDivisionError)):
        assert example.of == "f"
        with pytest.raises(error) as caught:
            example.run({"f": abs})
        at = traceback.extract_tb(caught.tb)[-1]
        assert (at.filename, at.lineno) == (str(path), line)
