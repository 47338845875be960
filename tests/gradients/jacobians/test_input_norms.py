"""Norms of ∂h_t/∂x_k, against reverse mode through the whole run, and at the ends of each dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import rnn_jax
from rnn_jax import cells
from rnn_jax.gradients import input_log_norms, jacobian_log_norms, step_jacobians
from rnn_jax.training import batch_mesh
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE, LAWFUL

T = 7


def by_differentiation(cell, params, xs, entries=slice(None)):
    """σ of ∂h_t/∂x_k at [t − 1, k − 1], by jax.jacrev of the run, `[T, T, min(S, I)]`."""

    def states(xs):
        found = rnn_jax.trajectory(cell, params, xs)
        return jax.vmap(lambda state: ravel_pytree(state)[0])(found)[1:, entries]

    J = np.asarray(jax.jacrev(states)(xs))  # [T, S, T, I]
    return np.linalg.svd(J.swapaxes(1, 2), compute_uv=False)


@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "lru", "stack", "user's function"])
def test_they_are_those_of_the_derivatives(name):
    cell = LAWFUL[name](jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, 2, INPUT_SIZE)
    found = jax.jit(lambda p, x: input_log_norms(cell, p, x))(params, xs)
    frobenius = input_log_norms(cell, params, xs, norm="frobenius")
    assert found.shape == frobenius.shape == (T, T, 2)
    for n in range(2):
        sigma = by_differentiation(cell, params, xs[:, n])
        lower = np.tril_indices(T)
        np.testing.assert_allclose(np.exp(found[..., n])[lower], sigma[..., 0][lower], rtol=1e-9)
        sizes = np.linalg.norm(sigma, axis=-1)
        np.testing.assert_allclose(np.exp(frobenius[..., n])[lower], sizes[lower], rtol=1e-9)
        assert (found[..., n][np.triu_indices(T, 1)] == -jnp.inf).all()


def test_of_a_part_of_the_state():
    cell = cells.lstm(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), INPUT_SIZE), normal(1, T, INPUT_SIZE)
    sigma = by_differentiation(cell, params, xs, slice(0, 4))[..., 0]
    lower = np.tril_indices(T)
    found = np.exp(input_log_norms(cell, params, xs, to="c"))
    np.testing.assert_allclose(found[lower], sigma[lower], rtol=1e-9)


def test_the_chain_rule():
    """∂h_t/∂x_k is the product of Jacobians times ∂h_k/∂x_k, W^(t−k) U for a linear cell."""
    W, U = 0.9 * jnp.eye(3), jnp.diag(jnp.arange(1.0, 4.0))
    cell = cells.from_function(lambda p, h, x: (W @ h + U @ x,) * 2, state=jnp.zeros(3))
    found = input_log_norms(cell, {}, normal(0, T, 3))
    t, k = np.tril_indices(T)
    np.testing.assert_allclose(found[t, k], np.log(3) + (t - k) * np.log(0.9), rtol=1e-5)
    cell = cells.elman(5, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 2), normal(1, T, 2)
    h = np.asarray(rnn_jax.trajectory(cell, params, xs))[1:]
    J = np.asarray(step_jacobians(cell, params, xs))
    B = (1 - h[2] ** 2)[:, None] * np.asarray(params.U)
    np.testing.assert_allclose(
        input_log_norms(cell, params, xs)[5, 2],
        np.log(np.linalg.norm(J[5] @ J[4] @ J[3] @ B, 2)),
        rtol=1e-9,
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_nothing_is_lost_of_any_unit(dtype, scale):
    """h = w h + u x: ln u + (t − k) ln w, far beyond what the dtype holds."""
    steps, w = 300, 0.5
    step = lambda p, h, x: (p["w"] * h + p["u"] * x,) * 2
    cell = cells.from_function(step, state=jnp.zeros(2, dtype))
    params = {"w": jnp.asarray(w, dtype), "u": jnp.asarray(scale, dtype)}
    found = input_log_norms(cell, params, jnp.ones((steps, 2), dtype) / 16)
    assert found.dtype == dtype
    lags = np.arange(steps)
    expected = np.log(float(params["u"])) + lags * np.log(w)
    np.testing.assert_allclose(found[-1, ::-1].astype(float), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize(("w", "u"), [(1e30, 1e-30), (3e38, 1.0), (1e-35, 3e38), (0.5, 3e38)])
def test_at_the_ends_of_the_dtype(w, u):
    """W and U of any float32 numbers, in lags of 1e4 nats."""
    cell = cells.from_function(
        lambda p, h, x: (p[0] * h + p[1] * x,) * 2, state=jnp.zeros(2, jnp.float32)
    )
    found = input_log_norms(cell, jnp.float32([w, u]), jnp.zeros((100, 2), jnp.float32))
    expected = np.log(u) + np.arange(100) * np.log(w)
    np.testing.assert_allclose(found[-1, ::-1], expected, rtol=1e-5, atol=1e-5)


def test_an_input_of_what_fades_is_not_lost_beside_what_lasts():
    """Two units apart, of which the inputs drive the one that forgets: 0.5^(t − k) at lag 399."""
    W, U = jnp.diag(jnp.float32([1, 0.5])), jnp.diag(jnp.float32([0, 1]))
    cell = cells.from_function(lambda p, h, x: (W @ h + U @ x,) * 2, state=jnp.zeros(2, W.dtype))
    found = input_log_norms(cell, {}, jnp.zeros((400, 2), W.dtype))
    np.testing.assert_allclose(found[-1, ::-1], np.arange(400) * np.log(0.5), rtol=1e-5, atol=1e-5)


def test_what_is_taken_in_is_seen_where_nothing_is_kept():
    """W = 0, or all but 0: the diagonal is ∂h_t/∂x_t, and the rest -inf or far down."""
    for W in (0.0, 1e-40):
        cell = cells.from_function(lambda p, h, x, W=W: (W * h + x,) * 2, state=jnp.zeros(2))
        found = np.asarray(input_log_norms(cell, {}, jnp.ones((4, 2))))
        np.testing.assert_allclose(np.diag(found), 0, atol=1e-6)
        assert (found[np.tril_indices(4, -1)] < -85).all()
    deaf = cells.from_function(lambda p, h, x: (0.5 * h + 0 * x,) * 2, state=jnp.zeros(2))
    assert (input_log_norms(deaf, {}, jnp.ones((4, 2))) == -jnp.inf).all()


def test_shapes():
    """T = 1, no and several batch axes, vmap, none in a batch, an input of no features."""
    cell = cells.gru(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (4, 2, 5, 2))
    table = input_log_norms(cell, params, xs)
    assert table.shape == (4, 4, 2, 5)
    np.testing.assert_allclose(input_log_norms(cell, params, xs[:, 1, 2]), table[..., 1, 2], 1e-4)
    np.testing.assert_allclose(input_log_norms(cell, params, xs[:1]), table[:1, :1], 1e-4)
    over = jax.vmap(lambda xs: input_log_norms(cell, params, xs), 1, 2)(xs)
    np.testing.assert_allclose(over, table, 1e-4)
    assert input_log_norms(cell, params, xs[:, :0]).shape == (4, 4, 0, 5)
    silent = cells.elman(3, dtype=jnp.float64)
    none = input_log_norms(silent, silent.init(jax.random.key(0), 0), jnp.zeros((4, 0)))
    assert (none == -jnp.inf).all()
    shared = input_log_norms(cell, params, xs, mesh=batch_mesh())
    np.testing.assert_allclose(shared, table, 1e-4)


def test_an_example_that_is_not_finite_spoils_no_other():
    cell = cells.elman(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = jax.random.normal(jax.random.key(1), (5, 2, 2))
    found = input_log_norms(cell, params, xs.at[2, 0].set(jnp.nan))
    np.testing.assert_allclose(found[..., 1], input_log_norms(cell, params, xs[:, 1]), 1e-5)
    np.testing.assert_allclose(found[:2, :2, 0], input_log_norms(cell, params, xs[:2, 0]), 1e-5)
    assert jnp.isnan(found[3:, 0, 0]).all()
    assert jnp.isnan(found[2, 2, 0])


def test_a_counter_in_the_state_is_no_input():
    """The state's counter travels with the inputs, and is not among those asked for."""
    step = lambda p, s, x: ({"h": 0.5 * s["h"] + x, "n": s["n"] + 1}, s["h"])
    cell = cells.from_function(step, state={"h": jnp.zeros(2), "n": jnp.zeros((), jnp.int32)})
    found = input_log_norms(cell, {}, jnp.ones((4, 2)))
    np.testing.assert_allclose(found[-1], np.log(0.5) * np.arange(3, -1, -1), atol=1e-5)


def test_what_does_not_fit_is_named():
    cell = cells.elman(3)
    params = cell.init(jax.random.key(0), 2)
    for xs, kwargs, match in (
        (jnp.ones((4, 2), jnp.int32), {}, r"^xs: got int32\[4, 2\]; expected one array of floats"),
        (jnp.ones((4, 2)), {"to": "c"}, "^block: got c; expected None"),
        (jnp.ones((4, 2)), {"norm": "nuclear"}, "^norm: got"),
        (jnp.ones((4, 7)), {}, "^xs: got"),
    ):
        with pytest.raises(ValueError, match=match):
            input_log_norms(cell, params, xs, **kwargs)


def test_no_input_is_left_where_no_gradient_is():
    """The rate at which inputs fade is that of the states' own Jacobians."""
    cell = cells.elman(16, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 60, 3)
    inputs = np.asarray(input_log_norms(cell, params, xs))
    states = np.asarray(jacobian_log_norms(cell, params, xs))
    taken_in = np.diag(inputs)
    assert (inputs <= states[1:, 1:] + taken_in[None] + 1e-9).all()
