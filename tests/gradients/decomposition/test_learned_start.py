"""Terms of the decomposition where the initial state is made of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.helpers import normal

T, H, I = 5, 3, 2


def step(p, h, x):
    h = jnp.tanh(p["W"] @ h + p["U"] @ x + p["b"])
    return h, h


def starts():
    """W has a part in h_0 too, so that its term is no outer product at k = 0."""
    own = lambda p: jnp.tanh(p["W"] @ p["h0"])
    of_examples = lambda p: jnp.tanh(p["h0"] + jnp.arange(2.0)[:, None] * p["b"])
    given = jnp.full((2, H), 0.3)
    return {"own": (own, None), "a function": (own, of_examples), "given": (own, given)}


@pytest.mark.parametrize("name", starts())
def test_terms_sum_to_the_gradient(name):
    own, initial_state = starts()[name]
    params = {"W": normal(0, H, H), "U": normal(1, H, I), "b": normal(2, H), "h0": normal(3, H)}
    cell = cells.from_function(step, own)
    xs, targets = normal(4, T, 2, I), normal(5, T, 2, H)
    arguments = (xs, targets, losses.squared_error, initial_state)

    def E(params, weights):
        start = initial_state(params) if callable(initial_state) else initial_state
        ys = rnn_jax.unroll(cell, params, xs, start)[1]
        return (losses.per_step(losses.squared_error, ys, targets).sum(1) * weights).sum()

    @jax.jit
    def measured(params):
        terms = gradients.decompose_terms(cell, params, *arguments)
        logs = gradients.decompose(cell, params, *arguments)
        lags = gradients.decompose_windows(cell, params, *arguments, max_lag=3)
        return terms, logs.param_log_norms, lags.param_log_norms

    rows = lambda start, p: start(p) if callable(start) else start
    row = lambda a, b, axis: jax.lax.dynamic_slice_in_dim(a, b, 1, axis)

    @jax.jit
    def alone_of(params, b):
        """The terms of example b, of a batch of its own."""
        start = None
        if initial_state is not None:
            start = lambda p: row(rows(initial_state, p), b, 0)
        one = row(xs, b, 1), row(targets, b, 1)
        return gradients.decompose_terms(cell, params, *one, losses.squared_error, start)

    terms, logs, lags = measured(params)
    alone = [alone_of(params, b) for b in range(2)]
    by_t = jax.jit(jax.vmap(jax.grad(E), (None, 0)))(params, jnp.eye(T))
    for leaf in params:
        np.testing.assert_allclose(terms[leaf].sum(1), by_t[leaf], atol=1e-12)
        for b in range(2):
            of_b = np.asarray(alone[b][leaf]).reshape(T, T, -1)
            with np.errstate(divide="ignore"):
                expected = np.log(np.linalg.norm(of_b, axis=-1))
            np.testing.assert_allclose(logs[leaf][..., b], expected, atol=1e-9)
            for t in range(T):
                back = range(min(t, 3) + 1)
                in_window = [lags[leaf][t, l, b] for l in back]
                np.testing.assert_allclose(in_window, [expected[t, t - l] for l in back], atol=1e-9)
    learned = jnp.abs(terms["h0"]).max() > 0
    assert learned == (name != "given")
