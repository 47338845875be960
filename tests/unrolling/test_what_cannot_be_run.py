"""Drivers over time name what cannot be run."""

import jax
import jax.numpy as jnp
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses

ELMAN = cells.elman(3, dtype=jnp.float64)
FIT = ELMAN.init(jax.random.key(0), 2)
XS = jnp.ones((4, 2))


@pytest.mark.parametrize(
    ("name", "call"),
    {
        "cell": lambda: rnn_jax.unroll("elman", FIT, XS),
        "cell, trajectory": lambda: rnn_jax.trajectory(None, FIT, XS),
        "params": lambda: rnn_jax.unroll(ELMAN, None, XS),
        "params, dict": lambda: rnn_jax.unroll(ELMAN, {"W": FIT.W}, XS),
        "params, other H": lambda: rnn_jax.unroll(
            ELMAN, cells.elman(5, dtype=jnp.float64).init(jax.random.key(0), 2), XS
        ),
        "reverse": lambda: rnn_jax.unroll(ELMAN, FIT, XS, reverse="no"),
        "reverse, trajectory": lambda: rnn_jax.trajectory(ELMAN, FIT, XS, reverse=1),
        "xs": lambda: rnn_jax.unroll(ELMAN, FIT, [1.0, 2.0]),
        "lengths": lambda: rnn_jax.unroll(ELMAN, FIT, XS, lengths="4"),
        "resets": lambda: rnn_jax.unroll(ELMAN, FIT, XS, resets=[0, 1, 0, 0]),
        "cells": lambda: rnn_jax.topologies.bidirectional(ELMAN, (FIT, FIT), XS),
        "params, one": lambda: rnn_jax.topologies.bidirectional((ELMAN, ELMAN), FIT, XS),
        "lengths, prompt": lambda: rnn_jax.topologies.generate(
            ELMAN, FIT, XS, 2, jax.random.key(0), lengths=jnp.array(0)
        ),
        "ratio": lambda: rnn_jax.topologies.teacher_forcing(
            ELMAN, FIT, XS, float("nan"), jax.random.key(0)
        ),
        "k1": lambda: gradients.truncated_gradient(
            ELMAN, FIT, XS, jnp.ones((4, 3)), losses.squared_error, k1=True, k2=2
        ),
    }.items(),
)
def test_what_cannot_be_run_is_named(name, call):
    argument = name.split(",")[0]
    got = rf"^({argument}|initial_state|cell.step): got .+; expected .+\. [A-Z].+"
    with pytest.raises(ValueError, match=got):
        call()
