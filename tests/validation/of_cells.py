"""Cells, against those of other libraries."""

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import rnn_jax
from rnn_jax import cells, interop
from rnn_jax.cells import LSTMState
from tests.interop import torch_reference
from tests.validation.oracle import oracle

T, B, I, H = 9, 2, 3, 4


def energy(cell, params, xs, start=None):
    """Return Σ y² over a run, and the outputs."""
    ys = rnn_jax.unroll(cell, params, xs, start)[1]
    return (ys**2).sum(), ys


def apart(found, wanted):
    off = lambda a, b: float(jnp.abs(a - b).max() / jnp.abs(b).max())
    return max(jax.tree.leaves(jax.tree.map(off, found, wanted)))


def against(framework, kind, ours, theirs):
    """Return the largest relative difference of outputs, and of gradients of the weights."""
    xs = jax.random.normal(jax.random.key(1), (T, B, I), jnp.float64)
    weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), theirs.init(jax.random.key(0), I))
    imported = lambda weights: interop.import_weights(framework, kind, weights)
    of_theirs = lambda weights: energy(theirs, weights, xs)
    of_ours = lambda weights: energy(ours, imported(weights), xs)
    (_, wanted), gradient = jax.value_and_grad(of_theirs, has_aux=True)(weights)
    (_, found), ours_gradient = jax.value_and_grad(of_ours, has_aux=True)(weights)
    return max(apart(found, wanted), apart(ours_gradient, gradient))


@oracle("LSTM: outputs and gradients, T = 9", "flax.linen.LSTMCell", "relative", 1e-12)
def flax_lstm():
    theirs = interop.from_linen(nn.LSTMCell(H, param_dtype=jnp.float64))
    return against("linen", "lstm", cells.lstm(H, dtype=jnp.float64), theirs)


@oracle("GRU: outputs and gradients, T = 9", "flax.linen.GRUCell", "relative", 1e-12)
def flax_gru():
    theirs = interop.from_linen(nn.GRUCell(H, param_dtype=jnp.float64))
    return against("linen", "gru", cells.gru(H, dtype=jnp.float64), theirs)


@oracle("LSTM: outputs and gradients, T = 9", "haiku.LSTM", "relative", 1e-12)
def haiku_lstm():
    theirs = interop.from_haiku(lambda: hk.LSTM(H))
    return against("haiku", "lstm", cells.lstm(H, dtype=jnp.float64), theirs)


@oracle("LSTM: outputs, T = 9", "equinox.nn.LSTMCell", "relative", 1e-12)
def equinox_lstm():
    module = eqx.nn.LSTMCell(I, H, key=jax.random.key(0), dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, I), jnp.float64)
    h = c = jnp.zeros(H, jnp.float64)
    for x in xs:
        h, c = module(x, (h, c))
    params = interop.import_weights("equinox", "lstm", module)
    state, _ = rnn_jax.unroll(cells.lstm(H, dtype=jnp.float64), params, xs)
    return apart((state.h, state.c), (h, c))


def torch_run(name, kind, cell):
    """Return differences from what torch computed, in float64, and left in a file."""
    with np.load(torch_reference.PATH) as arrays:
        of = {k.removeprefix(f"{name}/"): arrays[k] for k in arrays if k.startswith(f"{name}/")}
    weights = {k: jnp.asarray(of[k]) for k in of if k.startswith(("weight", "bias"))}
    h = jnp.asarray(of["h_0"])
    start = LSTMState(c=jnp.asarray(of["c_0"])[0], h=h[0]) if kind == "lstm" else h[0]
    params = interop.import_weights("torch", kind, weights)
    ys = rnn_jax.unroll(cell, params, jnp.asarray(of["xs"]), start)[1]
    return apart(ys, jnp.asarray(of["ys"]))


@oracle("LSTM: outputs", "torch.nn.LSTM, float64, kept in a file", "relative", 1e-12)
def torch_lstm():
    return torch_run("lstm", "lstm", cells.lstm(torch_reference.H, dtype=jnp.float64))


@oracle("GRU: outputs", "torch.nn.GRU, float64, kept in a file", "relative", 1e-12)
def torch_gru():
    return torch_run("gru", "gru", cells.gru(torch_reference.H, dtype=jnp.float64))
