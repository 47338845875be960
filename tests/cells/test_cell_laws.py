"""What holds for every cell: ours, wrapped, and a user's plain function. In float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnn_jax
from rnn_jax import gradients
from tests.lawful_cells import INPUT_SIZE, LAWFUL, cell_named, kinds, one_of_each_kind, params_named
from tests.laws import T, data, product_bound, product_log_norms, sequence_loss


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_dtype_in_is_dtype_out(lawful, dtype):
    cell = LAWFUL[lawful](dtype)

    def made(key, xs):
        params = cell.init(key, INPUT_SIZE)
        return params, rnn_jax.unroll(cell, params, xs)

    xs = jnp.ones((4, 2, INPUT_SIZE), dtype)
    chex.assert_type(jax.tree.leaves(jax.eval_shape(made, jax.random.key(0), xs)), dtype)


def test_batch_axes_are_vmap(cell, params):
    """One axis and two; that an example is its own step is the next law."""
    xs, _, start = data(cell, params, (2, 3))
    row = xs[:, 1], jax.tree.map(lambda leaf: leaf[1], start)
    unroll = lambda xs, start: rnn_jax.unroll(cell, params, xs, start)
    over = lambda f: jax.vmap(f, in_axes=(1, 0), out_axes=(0, 1))
    programs = jax.jit(lambda at, row: (unroll(*at), over(over(unroll))(*at), unroll(*row)))
    (final, ys), expected, got_row = programs((xs, start), row)
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-14)
    close((final, ys), expected)
    close(got_row, (jax.tree.map(lambda leaf: leaf[1], expected[0]), expected[1][:, 1]))


def test_unroll_is_a_loop_of_steps(cell, params):
    xs, _, state = data(cell, params, (3,))
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-12, atol=1e-14)
    final, ys = rnn_jax.unroll(cell, params, xs, state)
    states = rnn_jax.trajectory(cell, params, xs, state)
    for t in range(T):
        close(jax.tree.map(lambda s: s[t], states), state)
        state, y = cell.step(params, state, xs[t])
        close(ys[t], y)
    close(final, state)
    close(jax.tree.map(lambda s: s[-1], states), final)


def test_gradient_agrees_with_finite_differences(cell, params):
    xs, targets, start = data(cell, params, (2,), steps=4)
    loss = jax.jit(lambda p, s, x: sequence_loss(cell, p, x, targets, s))
    # A step of 1e-6: few kinks of a relu lie within it.
    check_grads(loss, (params, start, xs), order=1, modes=["fwd", "rev"], rtol=1e-6, eps=1e-6)


@functools.cache
def jacobians_of(name):
    """The step Jacobians along 30 steps of 4 examples, and what `jax.jacfwd` makes of each step."""
    cell, params = cell_named(name), params_named(name)
    xs, _, start = data(cell, params, (4,), steps=30)

    def exact(state, x):
        flat, unravel = jax.flatten_util.ravel_pytree(state)
        step = lambda h: jax.flatten_util.ravel_pytree(cell.step(params, unravel(h), x)[0])[0]
        return jax.jacfwd(step)(flat)

    @jax.jit
    def both(xs, start):
        before = jax.tree.map(lambda s: s[:-1], rnn_jax.trajectory(cell, params, xs, start))
        jacobians = gradients.step_jacobians(cell, params, xs, start)
        return jacobians, jax.vmap(jax.vmap(exact))(before, xs)

    return both(xs, start)


def test_step_jacobians_are_those_of_the_step(lawful):
    jacobians, exact = jacobians_of(lawful)
    np.testing.assert_allclose(jacobians, exact, rtol=1e-11, atol=1e-13)


def test_measured_norms_keep_their_bounds(lawful, cell, params):
    jacobians, _ = jacobians_of(lawful)
    log_norms, bounds = product_log_norms(jacobians), [product_bound(jacobians)]
    # Outside of jit: see `linalg.spectral_norm` on two batches in one jit.
    if cell.norm_bound_terms is not None:
        table = gradients.power_bound(*gradients.norm_bound(cell, params), T=30)
        bounds.append(table[..., None])
        assert (bounds[0] <= bounds[1] + 1e-12).all()  # Π‖J_i‖ is the tighter
    for bound in bounds:
        check = gradients.check_bound(log_norms, bound, state_size=jacobians.shape[-1])
        np.testing.assert_array_equal(check.violations, 0)
        assert jnp.nanmin(check.slack) > -1e-12


def test_every_kind_of_structure_is_represented():
    """Drivers are held against one cell of each kind, and no cell is of none."""
    assert sorted(name for names in kinds().values() for name in names) == sorted(LAWFUL)
    kept = one_of_each_kind()
    assert all(set(names) & set(kept) for names in kinds().values())
    # What drivers and the laboratory branch on is there, with and without.
    for field in ("several_leaves", "y_is_state", "coupled", "more_drives", "unitwise"):
        assert {getattr(kind, field) for kind in kinds()} >= {True, False}, field
    assert {kind.made_of for kind in kinds()} == {"structure", "layers", "function"}
    assert {kind.products for kind in kinds()} >= {0, 1, 2}
    assert {kind.linear for kind in kinds()} == {None, "real", "complex"}
