"""What interop refuses, and what importing it costs."""

import subprocess
import sys

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from rnn_jax import cells, interop

I, H = 3, 4
DOUBLE = {"dtype": jnp.float64}
ELMAN, RELU, LSTM, GRU = (
    cells.elman(H, **DOUBLE),
    cells.elman(H, "relu", **DOUBLE),
    cells.lstm(H, **DOUBLE),
    cells.gru(H, **DOUBLE),
)
CONVOLUTIONS = interop.from_linen(
    nn.ConvLSTMCell(2, (2,), param_dtype=jnp.float64), input_shape=(I, 1)
)


class Counts(nn.Module):
    """A linen cell with a variable of its own."""

    @nn.compact
    def __call__(self, carry, x):
        self.variable("counts", "steps", lambda: jnp.zeros(()))
        return carry, carry

    def initialize_carry(self, rng, shape):
        return jnp.zeros(H)


class Drops(nnx.Module):
    """An nnx cell that draws numbers."""

    def __init__(self, rngs):
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


class Buffered(eqx.Module):
    order: jax.Array


def torch_weights(kind, **changes):
    return {**interop.export_weights("torch", kind, OF_KIND[kind].init(KEY, I)), **changes}


KEY = jax.random.key(0)
OF_KIND = {"lstm": LSTM, "gru": GRU}
BAD = {
    "framework: got str 'keras'; expected one of": lambda: interop.import_weights(
        "keras", "lstm", {}
    ),
    "kind: got str 'elman'; expected one of lstm, gru": lambda: interop.import_weights(
        "equinox", "elman", {}
    ),
    "weights: got no 'weight_hh_l0'": lambda: interop.import_weights(
        "torch", "lstm", {"weight_ih_l0": jnp.ones((4 * H, I))}
    ),
    "weights: got also 'weight_hr_l0'.*proj_size": lambda: interop.import_weights(
        "torch", "lstm", torch_weights("lstm", weight_hr_l0=jnp.ones((2, H))), at="_l0"
    ),
    "weights: got also 'weight_ih_l1'.*`at`": lambda: interop.import_weights(
        "torch", "gru", torch_weights("gru", weight_ih_l1=jnp.ones((3 * H, H)))
    ),
    r"weights\['weight_hh_l0'\]: got float64\[16, 3\]; expected \[16, 4\]": lambda: (
        interop.import_weights(
            "torch", "lstm", torch_weights("lstm", weight_hh_l0=jnp.ones((16, 3)))
        )
    ),
    "params: got GRUParams; expected AffineParams": lambda: interop.export_weights(
        "linen", "lstm", GRU.init(KEY, I)
    ),
    r"params\['W'\]: got float64\[16, 4\]": lambda: interop.export_weights(
        "linen", "elman", LSTM.init(KEY, I)
    ),
    "module: got variables counts": lambda: interop.from_linen(Counts()).init(KEY, I),
    "module: got variables dropout.rngs.count": lambda: interop.from_nnx(
        lambda n, rngs: Drops(rngs)
    ).init(KEY, I),
    r"module: got a leaf int\d+\[4\]": lambda: interop.from_equinox(
        Buffered(jnp.arange(4)), jnp.zeros(H)
    ).init(KEY, I),
    "state: got None for Buffered": lambda: interop.from_equinox(
        Buffered(jnp.ones(4))
    ).initial_state(Buffered(jnp.ones(4))),
    "input_size: got int 4; expected 3, the product": lambda: CONVOLUTIONS.init(KEY, 4),
}
ARGUMENTS = {
    "at": lambda: interop.import_weights("torch", "lstm", torch_weights("lstm"), at=1),
    r"weights\['bias_hh_l0'\]": lambda: interop.import_weights(
        "torch", "lstm", torch_weights("lstm", bias_hh_l0=jnp.ones(16, jnp.int32))
    ),
    r"weights\['bias_ih_l0'\]": lambda: interop.import_weights(
        "torch", "lstm", torch_weights("lstm", bias_ih_l0="b")
    ),
    "weights": lambda: interop.import_weights("torch", "lstm", None),
    "params.b": lambda: interop.export_weights("torch", "lstm", LSTM.init(KEY, I).replace(b=None)),
    "params": lambda: interop.export_weights("torch", "lstm", None),
    "module": lambda: interop.from_linen(nn.LSTMCell),
    "input_shape": lambda: interop.from_linen(nn.LSTMCell(H), input_shape=3),
    r"input_shape\[1\]": lambda: interop.from_haiku(lambda: hk.LSTM(H), input_shape=(3, 0)),
    "make_core": lambda: interop.from_haiku(None),
    "dtype": lambda: interop.from_haiku(lambda: hk.LSTM(H), dtype=jnp.int32),
    "step": lambda: interop.from_equinox(lambda n, key: eqx.nn.GRUCell(n, H, key=key), step=1),
    "cell": lambda: interop.LinenCell(cells.lstm),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_of_the_wrong_kind_are_refused(argument):
    with pytest.raises(ValueError, match=rf"(?s)^{argument}: got .+; expected .+\. [A-Z].+"):
        ARGUMENTS[argument]()
    for make in (interop.from_nnx, interop.from_equinox):
        with pytest.raises(ValueError, match=r"module: got int 1; expected .+\. [A-Z].+"):
            make(1)
    with pytest.raises(ValueError, match="cell: got int 1; expected a Cell"):
        interop.NNXCell(1, 3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("message", BAD)
def test_what_is_refused(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def test_importing_costs_no_framework():
    lines = (
        "import sys, rnn_jax, rnn_jax.interop as interop",
        "heavy = {'haiku', 'equinox', 'torch', 'flax.nnx'}",
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)",
        "assert interop.NNXCell.__name__ == 'NNXCell' and 'flax.nnx' in sys.modules",
    )
    subprocess.run([sys.executable, "-c", "; ".join(lines)], check=True)
