"""Time: what unroll promises beyond the laws."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.training import create_train_state, make_train_step
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE


class UnrollVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_same_with_and_without_jit(self):
        cell = cells.lstm(5, dtype=jnp.float64)
        params = cell.init(jax.random.key(0), INPUT_SIZE)
        xs = normal(1, 6, 2, INPUT_SIZE)
        got = self.variant(lambda p, x: rnn_jax.unroll(cell, p, x))(params, xs)
        state, ys = cell.initial_state(params, (2,)), []
        for x in xs:
            state, y = cell.step(params, state, x)
            ys.append(y)
        chex.assert_trees_all_close(got, (state, jnp.stack(ys)), rtol=1e-12)


def test_compiled_once_for_one_shape():
    cell = cells.elman(5)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    traced = chex.assert_max_traces(lambda p, x: rnn_jax.unroll(cell, p, x)[1], n=1)
    run = jax.jit(traced)
    for seed in range(5):
        run(params, normal(seed, 6, 2, INPUT_SIZE, dtype=jnp.float32))


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_programs_do_not_grow_with_T(name):
    """The lowered text of a train step and of decompose differs in sizes alone."""
    import optax

    cell = cells.readout(cells.CELLS[name](8), 4)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    optimizer = optax.adam(1e-3)

    def loss(params, batch):
        xs, targets = batch
        ys = rnn_jax.unroll(cell, params, xs)[1]
        return losses.per_step(losses.squared_error, ys, targets).mean()

    train_step = jax.jit(make_train_step(loss, optimizer, clip_norm=1.0))
    table = jax.jit(lambda p, x, y: gradients.decompose(cell, p, x, y, losses.squared_error))

    def lines(T):
        xs = jax.ShapeDtypeStruct((T, 2, INPUT_SIZE), jnp.float32)
        targets = jax.ShapeDtypeStruct((T, 2, 4), jnp.float32)
        state = jax.eval_shape(lambda p: create_train_state(p, optimizer), params)
        programs = train_step.lower(state, (xs, targets)), table.lower(params, xs, targets)
        return [len(program.as_text().splitlines()) for program in programs]

    assert lines(64) == lines(4096)


def test_gradients_reach_the_initial_state():
    cell = cells.lstm(4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    start = cells.LSTMState(c=normal(2, 3, 4), h=normal(3, 3, 4))
    grads = jax.grad(
        lambda s: rnn_jax.unroll(cell, params, normal(1, 5, 3, INPUT_SIZE), s)[1].sum()
    )(start)
    assert all((jnp.abs(leaf) > 0).all() for leaf in jax.tree.leaves(grads))


def test_from_function_serves_pytrees_and_batches():
    def step(p, state, x):
        total = state["total"] + p @ x
        return {"total": total, "count": state["count"] + 1}, total / state["count"]

    start = {"total": jnp.zeros(2), "count": jnp.ones(())}
    cell = cells.from_function(step, start)
    params, xs = normal(0, 2, 3), normal(1, 5, 4, 2, 3)
    state, ys = rnn_jax.unroll(cell, params, xs)
    assert ys.shape == (5, 4, 2, 2)
    np.testing.assert_allclose(state["total"], jnp.einsum("oi,tbci->bco", params, xs), rtol=1e-12)
    np.testing.assert_array_equal(state["count"], np.full((4, 2), 6.0))


def test_learned_initial_state():
    cell = cells.from_function(lambda p, h, x: (jnp.tanh(h + x), h), state=lambda p: p["h0"])
    grads = jax.grad(lambda p: rnn_jax.unroll(cell, p, normal(1, 3, 2, 4))[1].sum())(
        {"h0": jnp.ones(4)}
    )
    assert (grads["h0"] != 0).all()


def test_last_step_reads_each_examples_own_end():
    ys, target = normal(1, 6, 3, 2), normal(2, 3, 2)
    lengths = jnp.array([6, 1, 4])
    got = losses.last_step(losses.squared_error, ys, target, lengths)
    expected = [losses.squared_error(ys[n - 1, i], target[i]) for i, n in enumerate(lengths)]
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    np.testing.assert_array_equal(
        losses.last_step(losses.squared_error, ys, target),
        losses.squared_error(ys[-1], target),
    )


def test_losses_are_their_equations():
    y, target = normal(1, 5, 4), jax.nn.softmax(normal(2, 5, 4))
    np.testing.assert_allclose(
        losses.squared_error(y, target), 0.5 * ((y - target) ** 2).sum(-1), rtol=1e-13
    )
    p = jax.nn.sigmoid(y)
    np.testing.assert_allclose(
        losses.bernoulli_cross_entropy(y, target),
        -(target * jnp.log(p) + (1 - target) * jnp.log(1 - p)).sum(-1),
        rtol=1e-11,
    )
    log_p = jnp.log(jax.nn.softmax(y))
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(y, target), -(target * log_p).sum(-1), rtol=1e-11
    )
    classes = jnp.array([0, 3, 1, 2, 2])
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(y, classes), -log_p[jnp.arange(5), classes], rtol=1e-11
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_cross_entropies_are_stable(dtype):
    logits = jnp.array([1e4, -1e4], dtype)
    wrong = jnp.array([0, 1], dtype)
    for loss in (losses.bernoulli_cross_entropy, losses.softmax_cross_entropy):
        value, grad = jax.value_and_grad(loss)(logits, wrong)
        assert value == pytest.approx(2e4)
        assert jnp.isfinite(grad).all()
