"""What the laboratory says of every kind of cell: terms, norms, products. In float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.lawful_cells import INPUT_SIZE
from tests.laws import T, data, product_log_norms, sequence_loss

pytestmark = pytest.mark.one_of_each_kind


@functools.cache
def programs(cell):
    """The terms of a loss and the norms of them, jitted once for all laws."""
    of = lambda tool: jax.jit(
        lambda p, xs, targets, start: tool(cell, p, xs, targets, losses.squared_error, start)
    )
    return of(gradients.decompose_terms), of(gradients.decompose)


@pytest.mark.parametrize("batch", [pytest.param((), marks=pytest.mark.one_of_each_route), (2, 2)])
def test_the_terms_sum_to_the_gradient(cell, params, batch):
    xs, targets, start = data(cell, params, batch)
    terms = programs(cell)[0](params, xs, targets, start)

    def E_t(p):
        ys = rnn_jax.unroll(cell, p, xs, start)[1]
        return losses.per_step(losses.squared_error, ys, targets).sum(range(1, 1 + len(batch)))

    derivatives = jax.jit(lambda p: (jax.grad(lambda p: E_t(p).sum())(p), jax.jacrev(E_t)(p)))
    gradient, by_loss = derivatives(params)
    for term, expected, of_loss in zip(
        *map(jax.tree.leaves, (terms, gradient, by_loss)), strict=True
    ):
        assert term.shape == (T, T, *expected.shape)
        scale = jnp.abs(expected).max()
        np.testing.assert_allclose(term.sum((0, 1)), expected, atol=1e-12 * scale, rtol=0)
        np.testing.assert_allclose(term.sum(1), of_loss, rtol=1e-10, atol=1e-12)
        assert (term[np.triu_indices(T, 1)] == 0).all()


def test_norms_of_the_terms(cell, params):
    """decompose's norms, which form no matrix, against the terms themselves."""
    xs, targets, start = data(cell, params, (3,))
    terms_of, norms_of = programs(cell)
    table = norms_of(params, xs, targets, start)
    for i in range(3):
        terms = terms_of(params, xs[:, i], targets[:, i], jax.tree.map(lambda leaf: leaf[i], start))
        for logs, term in zip(*map(jax.tree.leaves, (table.param_log_norms, terms)), strict=True):
            norms = jnp.sqrt(jnp.square(term).sum(range(2, term.ndim)))
            np.testing.assert_allclose(jnp.exp(logs[..., i]), norms, rtol=1e-12)
            assert jnp.isneginf(logs[np.triu_indices(T, 1)]).all()


def test_state_norms_of_the_decomposition(cell, params):
    """∂E_t/∂h_k against the Jacobian of all E_t with respect to a perturbation of every state."""
    xs, targets, start = data(cell, params, (3,))
    tables = programs(cell)[1](params, xs, targets, start).state_log_norms

    def losses_of(perturbations, xs, targets, start):
        """E_t for all t, with perturbation k added to the state that step k starts from."""

        def step(state, at_t):
            x, target, perturbation = at_t
            state, y = cell.step(params, jax.tree.map(jnp.add, state, perturbation), x)
            return state, losses.squared_error(y, target)

        return jax.lax.scan(step, start, (xs, targets, perturbations))[1]

    none = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape[1:])), start)
    of_one = jax.vmap(jax.jacrev(losses_of), (None, 1, 1, 0), out_axes=2)
    jacobians = jax.tree.leaves(jax.jit(of_one)(none, xs, targets, start))
    norms = jnp.sqrt(sum(jnp.square(leaf).sum(range(3, leaf.ndim)) for leaf in jacobians))
    below = np.tril_indices(T)
    np.testing.assert_allclose(jnp.exp(tables[below]), norms[below], rtol=1e-10, atol=1e-13)
    assert jnp.isneginf(tables[np.triu_indices(T, 2, T + 1)]).all()
    assert jnp.isfinite(tables[np.arange(T), np.arange(T) + 1]).all()


@pytest.mark.parametrize("form", ["elman", "elman_preactivation", "lstm"])
def test_the_state_that_a_loss_reads(form):
    """∂E_t/∂h_t, counted as the lecture does: what y_t has of the state its own step hands on."""
    H, O = 6, 5
    cell = cells.readout(cells.CELLS[form](H, dtype=jnp.float64), O)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs, targets, _ = data(cell, params, ())
    table = gradients.decompose(cell, params, xs, targets, losses.squared_error).state_log_norms
    states = rnn_jax.trajectory(cell, params, xs)
    ys = rnn_jax.unroll(cell, params, xs)[1]
    for t in range(T):
        at_y = params.V.T @ (ys[t] - targets[t])
        if form == "elman_preactivation":
            at_y = (1 - jnp.tanh(states[t + 1]) ** 2) * at_y
        np.testing.assert_allclose(jnp.exp(table[t, t + 1]), jnp.linalg.norm(at_y), rtol=1e-12)


def test_step_jacobians_and_their_products(cell, params):
    xs, _, start = data(cell, params, (2,))

    def end_to_end(start, xs):
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        final = lambda h: rnn_jax.unroll(cell, params, xs, unravel(h))[0]
        return jax.jacrev(lambda h: jax.flatten_util.ravel_pytree(final(h))[0])(flat)

    @jax.jit
    def all_of_them(params, xs, start):
        at = (cell, params, xs, start)
        frobenius = gradients.jacobian_log_norms(*at, norm="frobenius")
        return gradients.step_jacobians(*at), jax.vmap(end_to_end, (0, 1))(start, xs), frobenius

    jacobians, from_end_to_end, frobenius = all_of_them(params, xs, start)
    tables = {"frobenius": frobenius, "spectral": product_log_norms(jacobians)}
    for i in range(2):
        J = np.asarray(jacobians[:, i])
        product = np.linalg.multi_dot(list(J[::-1]))
        np.testing.assert_allclose(from_end_to_end[i], product, rtol=1e-9, atol=1e-12)
        for norm, order in (("spectral", 2), ("frobenius", "fro")):
            for k in range(T + 1):
                product = np.eye(J.shape[-1])
                for t in range(k, T + 1):
                    if t > k:
                        product = J[t - 1] @ product
                    with np.errstate(divide="ignore"):  # dead units: ln 0 = -inf
                        expected = np.log(np.linalg.norm(product, order))
                    np.testing.assert_allclose(tables[norm][t, k, i], expected, atol=1e-12)
    for table in tables.values():
        assert jnp.isneginf(table[np.triu_indices(T + 1, 1)]).all()


def test_compiles_for_every_platform(cell, params):
    xs, targets, start = data(cell, params, (2,))

    def gradient(p, xs, targets, start):
        return jax.grad(lambda p: sequence_loss(cell, p, xs, targets, start))(p)

    def table(p, xs, targets, start):
        return gradients.decompose(cell, p, xs, targets, losses.squared_error, start)

    platforms = ["cpu", "cuda", "tpu"]
    for function in (gradient, table):
        exported = jax.export.export(jax.jit(function), platforms=platforms)(
            params, xs, targets, start
        )
        assert exported.platforms == tuple(platforms)
