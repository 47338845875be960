"""Our cells as linen and nnx modules, inside their RNN, against `unroll`. In float64."""

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import rnn_jax
from rnn_jax import cells, interop
from tests.helpers import drawn, normal

T, B, I, H = 5, 2, 3, 4


def learned_start():
    """A cell whose initial state is a parameter, and not zero."""

    def init(key, input_size):
        return {"h0": jnp.linspace(0.2, 0.8, H), "U": jax.random.normal(key, (H, input_size))}

    def step(p, h, x):
        h = jnp.tanh(h + p["U"] @ x)
        return h, h

    return cells.from_function(step, lambda p: p["h0"], init)


OURS = {
    "lstm": cells.lstm(H, dtype=jnp.float64),
    "readout(gru)": cells.readout(cells.gru(H, dtype=jnp.float64), 2),
    "a learned initial state": learned_start(),
}


@pytest.mark.parametrize("name", OURS)
def test_ours_as_a_linen_module(name):
    cell, x = OURS[name], normal(1, B, T, I)
    layer = nn.RNN(interop.LinenCell(cell), return_carry=True)
    variables = layer.init(jax.random.key(0), x)
    params = variables["params"]["cell"]["weights"]
    assert type(params) is type(cell.init(jax.random.key(0), I))
    assert len(jax.tree.leaves(variables)) == len(jax.tree.leaves(params))
    variables = drawn(variables)

    def theirs(variables):
        final, ys = layer.apply(variables, x)
        return jnp.square(ys).sum(), (final, ys)

    _assert_like_unroll(cell, x, theirs, variables, lambda v: v["params"]["cell"]["weights"])
    carry = interop.LinenCell(cell).initialize_carry(jax.random.key(0), (B, I))
    assert jax.tree.map(jnp.shape, carry) == jax.tree.map(
        jnp.shape, cell.initial_state(params, (B,))
    )


@pytest.mark.parametrize("name", OURS)
def test_ours_as_an_nnx_module(name):
    cell, x = OURS[name], normal(1, B, T, I)
    layer = nnx.RNN(interop.NNXCell(cell, I, rngs=nnx.Rngs(0)), return_carry=True)
    graphdef, params, other = nnx.split(layer, nnx.Param, ...)
    params = drawn(params)

    def theirs(params):
        final, ys = nnx.merge(graphdef, params, other)(x)
        return jnp.square(ys).sum(), (final, ys)

    ours = lambda state: nnx.merge(graphdef, state, other).cell.params
    chex.assert_trees_all_equal_shapes(ours(params), cell.init(jax.random.key(0), I))
    _assert_like_unroll(cell, x, theirs, params, ours)


def _assert_like_unroll(cell, x, theirs, weights, ours):
    def unrolled(weights):
        final, ys = rnn_jax.unroll(cell, ours(weights), jnp.swapaxes(x, 0, 1))
        ys = jnp.swapaxes(ys, 0, 1)
        return jnp.square(ys).sum(), (final, ys)

    grad = lambda f: jax.jit(jax.value_and_grad(f, has_aux=True))(weights)
    (_, expected), expected_gradient = grad(unrolled)
    (_, got), gradient = grad(theirs)
    chex.assert_trees_all_close(got, expected, rtol=1e-12, atol=1e-14)
    chex.assert_trees_all_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)
    assert all(abs(leaf).max() > 1e-4 for leaf in jax.tree.leaves(gradient))
