"""Padding, and pytrees: no step is taken that an example does not take."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

SINGULAR = {
    "norm": lambda x: x / jnp.linalg.norm(x),
    "log": lambda x: jnp.log(jnp.abs(x)),
    "std": lambda x: (x - x.mean()) / jnp.std(x),
}


def singular_cell(drive):
    def step(p, h, x):
        h = jnp.tanh(p["W"] @ h + p["U"] @ drive(x))
        return h, h

    return cells.from_function(step, state=jnp.zeros(4))


PLAIN = {"W": 0.5 * jnp.eye(4), "U": normal(2, 4, INPUT_SIZE)}


@pytest.mark.parametrize("strategy", ["scan", "checkpointed"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", SINGULAR)
def test_a_cell_that_is_singular_at_zero_can_be_padded(name, reverse, strategy):
    """Also with NaN in the padding, an example of length 0, and a state that only a start has."""
    cell, lengths = singular_cell(SINGULAR[name]), (2, 7, 0)
    xs = normal(1, 7, 3, INPUT_SIZE)
    past = ~rnn_jax.length_mask(jnp.array(lengths), 7)
    padded = jnp.where(past[..., None], jnp.nan, xs)
    how = {"reverse": reverse, "strategy": strategy}

    @functools.partial(jax.grad, argnums=(0, 1))
    def together(p, xs):
        return (rnn_jax.unroll(cell, p, xs, lengths=lengths, **how)[1] ** 2).sum()

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def alone(p, xs):
        runs = (rnn_jax.unroll(cell, p, xs[:n, i], reverse=reverse)[1] for i, n in ((0, 2), (1, 7)))
        return sum((ys**2).sum() for ys in runs)

    expected, d_xs = alone(PLAIN, xs)
    for given in (padded, jnp.where(past[..., None], 0, xs)):
        got, d_given = together(PLAIN, given)
        chex.assert_trees_all_close((got, d_given), (expected, d_xs), rtol=1e-10, atol=1e-13)


def test_a_stack_of_singular_cells_can_be_padded():
    cell = cells.stack(*[singular_cell(lambda x: x / jnp.linalg.norm(x))] * 2)
    params = (PLAIN, {"W": PLAIN["W"], "U": normal(3, 4, 4)})
    xs = normal(1, 5, 2, INPUT_SIZE)

    def E(p, xs, **how):
        return (rnn_jax.unroll(cell, p, xs, **how)[1] ** 2).sum()

    alone = lambda p: E(p, xs[:2, 0]) + E(p, xs[:, 1])
    for strategy in ("auto", "checkpointed"):
        got = jax.grad(E)(params, xs, lengths=jnp.array([2, 5]), strategy=strategy)
        chex.assert_trees_all_close(got, jax.grad(alone)(params), rtol=1e-10, atol=1e-13)


def test_a_state_in_the_padding_is_one_that_a_step_starts_from():
    """log(1 − h) has no derivative at the final state, which no step is taken from."""

    def step(p, h, x):
        y = jnp.log(1 - h)
        return h + p * x, y

    cell, xs, p = cells.from_function(step, jnp.zeros(1)), jnp.full((4, 1), 0.5), jnp.array(1.0)
    E = lambda p, xs, **how: rnn_jax.unroll(cell, p, xs, **how)[1].sum()
    for strategy, reverse in itertools.product(("auto", "scan", "checkpointed"), (False, True)):
        how = {"strategy": strategy, "reverse": reverse}
        got = jax.grad(E)(p, xs, lengths=jnp.array(2), **how)
        np.testing.assert_allclose(got, jax.grad(E)(p, xs[:2], **how), rtol=1e-12)


def test_a_segment_of_padding_takes_a_step_of_the_examples_own():
    """√(x − h) is defined at the steps that are taken, not at the final state and the first x."""

    def step(p, h, x):
        h = h + p * jnp.sqrt(x - h)
        return h, h

    cell, p = cells.from_function(step, jnp.zeros(1)), jnp.array(1.0)
    xs = jnp.array([1.0, 3.0, 5.0, 7.0] + 12 * [0.0]).reshape(16, 1, 1)
    E = lambda p, xs, **how: rnn_jax.unroll(cell, p, xs, **how)[1].sum()
    expected = jax.grad(E)(p, xs[:4])
    for strategy in ("auto", "scan", "checkpointed", rnn_jax.Checkpointed(levels=3)):
        got = jax.grad(E)(p, xs, lengths=jnp.array([4]), strategy=strategy)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_truncation_pads_with_steps_that_exist():
    cell, xs, targets = singular_cell(SINGULAR["norm"]), normal(1, 5, 2, INPUT_SIZE), 0.0
    targets = jnp.zeros((5, 2, 4))
    args = (cell, PLAIN, xs, targets, losses.squared_error)
    E = lambda p: losses.per_step(args[-1], rnn_jax.unroll(cell, p, xs)[1], targets).sum()
    got = gradients.truncated_gradient(*args, k1=np.int64(1), k2=5)[1]
    chex.assert_trees_all_close(got, jax.grad(E)(PLAIN), rtol=1e-12)


@pytest.mark.parametrize(("k1", "k2"), [(1, 2), (2, 3), (7, 7)])
def test_truncation_with_lengths_is_each_example_alone(k1, k2):
    cell, xs, targets = singular_cell(jnp.tanh), normal(1, 7, 3, INPUT_SIZE), normal(2, 7, 3, 4)
    how = {"k1": k1, "k2": k2}
    expected = jax.tree.map(jnp.zeros_like, PLAIN)
    for i, n in ((0, 4), (1, 7)):
        at = (xs[:n, i], targets[:n, i], losses.squared_error)
        got = gradients.truncated_gradient(cell, PLAIN, *at, **how)[1]
        expected = jax.tree.map(jnp.add, expected, got)
    args = (cell, PLAIN, xs, targets, losses.squared_error)
    got = gradients.truncated_gradient(*args, **how, lengths=[4, 7, 0])[1]
    chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-13)
    error = gradients.truncation_error(*args, k1=k1, k2s=(7,), lengths=jnp.array([4, 7, 0]))
    np.testing.assert_allclose(error.relative_error, 0, atol=1e-10)


def test_truncation_does_not_pass_a_reset():
    cell, xs, targets = singular_cell(jnp.tanh), normal(1, 6, INPUT_SIZE), normal(2, 6, 4)
    parts = [
        gradients.truncated_gradient(
            cell, PLAIN, xs[s], targets[s], losses.squared_error, k1=1, k2=3
        )[1]
        for s in (slice(0, 2), slice(2, 6))
    ]
    resets = jnp.zeros(6, bool).at[2].set(True)
    args = (cell, PLAIN, xs, targets, losses.squared_error)
    got = gradients.truncated_gradient(*args, k1=1, k2=3, resets=resets)[1]
    chex.assert_trees_all_close(got, jax.tree.map(jnp.add, *parts), rtol=1e-10, atol=1e-13)


def test_pytrees_in_and_out():
    def step(p, h, x):
        h = jnp.tanh(p["W"] @ h + p["U"] @ (x["a"] + x["b"]))
        return h, (h, h.sum())

    cell, one = cells.from_function(step, jnp.zeros(4)), singular_cell(lambda x: x)
    xs, lengths = normal(1, 6, 2, INPUT_SIZE), [2, 6]
    for how in ({}, {"lengths": lengths}, {"lengths": lengths, "reverse": True}):
        expected = rnn_jax.unroll(one, PLAIN, 3 * xs, **how)[1]
        for strategy in ("auto", "checkpointed"):
            both = {"a": xs, "b": 2 * xs}
            ys, sums = rnn_jax.unroll(cell, PLAIN, both, strategy=strategy, **how)[1]
            np.testing.assert_allclose(ys, expected, rtol=1e-12)
            np.testing.assert_allclose(sums, expected.sum(-1), rtol=1e-12, atol=1e-14)
