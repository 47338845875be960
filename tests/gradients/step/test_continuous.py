"""Counters, keys, complex leaves and custom_vjp steps in the laboratory."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.gradients.step.continuous import continuous
from tests.helpers import normal

T = 6
P = {"W": jnp.eye(4) + 0.1, "U": normal(0, 4, 3)}
TOOLS = {
    "norms": lambda c, p, xs: gradients.jacobian_log_norms(c, p, xs),
    "exponents": lambda c, p, xs: gradients.lyapunov_spectrum(c, p, xs).exponents,
    "decompose": lambda c, p, xs: (
        gradients.decompose(
            c, p, xs, jnp.zeros((*xs.shape[:-1], 4)), losses.squared_error
        ).state_log_norms
    ),
    "omega": lambda c, p, xs: gradients.omega(c, p, xs, lambda ys: (ys**2).sum()),
}


def counting(p, s, x):
    h, n, odd = s
    h = jnp.tanh(p["W"] @ h + p["U"] @ x) / (1 + 0.1 * n.astype(h.dtype))
    return (h, n + 1, ~odd), h


def counted(p, h, x):
    h = jnp.tanh(p["W"] @ h + p["U"] @ x[:3]) / (1 + 0.1 * x[3])
    return h, h


@pytest.mark.parametrize("tool", TOOLS)
def test_a_counter_is_an_input(tool):
    xs = normal(1, T, 2, 3)
    counts = jnp.broadcast_to(jnp.arange(300.0, 300 + T)[:, None, None], (T, 2, 1))
    state = (jnp.zeros(4), jnp.asarray(300, jnp.int32), jnp.asarray(True))
    got = TOOLS[tool](cells.from_function(counting, state), P, xs)
    expected = TOOLS[tool](
        cells.from_function(counted, jnp.zeros(4)), P, jnp.concatenate([xs, counts], -1)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["raw", "typed"])
def test_the_noise_is_that_of_the_run(kind):
    """J_t = (1 − h_t²) W at the states of unroll itself, in every example."""

    def step(W, s, x):
        key, now = jax.random.split(s["key"])
        h = jnp.tanh(W @ s["h"] + jax.random.normal(now, (3,)))
        return {"h": h, "key": key}, h

    key = jax.random.key(3) if kind == "typed" else jax.random.PRNGKey(3)
    cell, W = cells.from_function(step, {"h": jnp.ones(3), "key": key}), normal(1, 3, 3)
    xs = jnp.zeros((T, 2, 0))
    hs = rnn_jax.unroll(cell, W, xs)[1]
    J = gradients.step_jacobians(cell, W, xs)
    np.testing.assert_allclose(J, (1 - hs**2)[..., None] * W, rtol=1e-12)
    if kind == "typed":
        assert (hs[:, 0] != hs[:, 1]).all()
        resets = jnp.zeros((T, 2), bool).at[3].set(True)
        again = rnn_jax.unroll(cell, W, xs, resets=resets)[1]
        assert (again[3] != again[0]).all()


def test_a_complex_leaf_is_two_real_ones():
    def ikeda(u, z, x):
        z = 1 + u.astype(complex) * z * jnp.exp(
            jax.lax.complex(0 * z.real, 0.4 - 6 / (1 + jnp.abs(z) ** 2))
        )
        return z, z.real

    def pair(u, s, x):
        z = ikeda(u, jax.lax.complex(*s), x)[0]
        return (z.real, z.imag), z.real

    one = cells.from_function(ikeda, jnp.array([0.1 + 0.1j]))
    two = cells.from_function(pair, (jnp.array([0.1]), jnp.array([0.1])))
    xs, u = jnp.zeros((T, 0)), jnp.array(0.9)
    for tool in ("norms", "omega"):
        got, expected = (TOOLS[tool](cell, u, xs) for cell in (one, two))
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_a_surrogate_gradient_in_forward_mode():
    slope = lambda v: 1 / (10 * jnp.abs(v) + 1) ** 2
    value = lambda v: (v > 0).astype(v.dtype)
    by_vjp, by_jvp = jax.custom_vjp(value), jax.custom_jvp(value)
    by_vjp.defvjp(lambda v: (value(v), v), lambda v, g: (g * slope(v),))
    by_jvp.defjvp(lambda primal, tangent: (value(*primal), slope(*primal) * tangent[0]))

    def neurons(spike):
        def step(p, v, x):
            out = spike(v - 1)
            return 0.9 * v * (1 - out) + p["W"] @ out + p["U"] @ x, out

        return cells.from_function(step, jnp.zeros(4))

    xs = 2 * normal(2, T, 3)
    for tool in ("norms", "exponents", "decompose"):
        got, expected = (TOOLS[tool](neurons(spike), P, xs) for spike in (by_vjp, by_jvp))
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_a_surrogate_that_is_not_linear_is_named():
    clipped = jax.custom_vjp(lambda v: v)
    clipped.defvjp(lambda v: (v, None), lambda _, g: (jnp.clip(g, -1, 1),))
    cell = cells.from_function(lambda p, h, x: (clipped(p * h + x),) * 2, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"^cell.step: got .+; expected .+custom_jvp"):
        gradients.step_jacobians(cell, jnp.array(0.5), jnp.ones((T, 2)))


def test_an_ordinary_cell_stays_as_it_is():
    cell = cells.from_function(lambda p, h, x: (h + x, h), jnp.zeros(3))
    xs = jnp.ones((T, 3))
    got, same, start = continuous(cell, {}, xs)
    assert got is cell
    assert same is xs
    chex.assert_trees_all_equal(start, cell.initial_state({}))
