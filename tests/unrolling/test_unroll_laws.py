"""What holds of `unroll` for every kind of cell: direction, padding, resets. In float64."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import losses
from tests.laws import T, data

pytestmark = pytest.mark.one_of_each_kind


def test_reverse_is_the_reversed_sequence(cell, params):
    xs, _, start = data(cell, params, (3,))
    final, ys = rnn_jax.unroll(cell, params, xs, start, reverse=True)
    expected_final, expected_ys = rnn_jax.unroll(cell, params, xs[::-1], start)
    chex.assert_trees_all_equal((final, ys[::-1]), (expected_final, expected_ys))
    states = rnn_jax.trajectory(cell, params, xs, start, reverse=True)
    expected = rnn_jax.trajectory(cell, params, xs[::-1], start)
    chex.assert_trees_all_equal(states, expected)


@pytest.mark.parametrize(
    "reverse", [False, pytest.param(True, marks=pytest.mark.one_of_each_route)]
)
def test_a_padded_tail_is_the_shorter_sequence(cell, params, reverse):
    """Outputs, states and gradients, exactly, with NaN in the padding of inputs and targets."""
    lengths = np.array([T, 4, 1, 0])
    xs, targets, start = data(cell, params, (len(lengths),))
    past = ~rnn_jax.length_mask(lengths, T)
    assert past.sum() == 3 * T - 5
    xs, targets = (jnp.where(past[..., None], jnp.nan, a) for a in (xs, targets))

    def padded(params, start):
        unrolled = {"lengths": jnp.asarray(lengths), "reverse": reverse}
        final, ys = rnn_jax.unroll(cell, params, xs, start, **unrolled)
        states = rnn_jax.trajectory(cell, params, xs, start, **unrolled)
        E = losses.per_step(losses.squared_error, ys, targets, ~past).sum(0)
        return E.sum(), (E, final, ys, states)

    grads, (E, final, ys, states) = jax.jit(jax.grad(padded, (0, 1), has_aux=True))(params, start)
    chex.assert_tree_all_finite((grads, E, final, ys, states))
    assert (ys[past] == 0).all()

    @functools.partial(jax.jit, static_argnums=(2, 3))
    @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
    def shorter(params, start, n, i):
        final, ys = rnn_jax.unroll(cell, params, xs[:n, i], start, reverse=reverse)
        E = losses.per_step(losses.squared_error, ys, targets[:n, i]).sum()
        return E, (E, final, ys)

    total = jax.tree.map(jnp.zeros_like, params)
    for i, n in enumerate(lengths):
        at_i = lambda leaf: leaf[i]
        if n == 0:
            chex.assert_trees_all_equal(jax.tree.map(at_i, final), jax.tree.map(at_i, start))
            chex.assert_trees_all_equal(
                jax.tree.map(at_i, grads[1]), jax.tree.map(lambda s: jnp.zeros_like(s[0]), start)
            )
            continue
        (d_params, d_start), expected = shorter(params, jax.tree.map(at_i, start), int(n), i)
        close = lambda a, b: chex.assert_trees_all_close(a, b, rtol=1e-13, atol=1e-13)
        close((E[i], jax.tree.map(at_i, final), ys[:n, i]), expected)
        close(jax.tree.map(at_i, grads[1]), d_start)
        total = jax.tree.map(jnp.add, total, d_params)
    chex.assert_trees_all_close(grads[0], total, rtol=1e-12, atol=1e-13)


def test_padding_adds_exactly_nothing(cell, params):
    """More padding, bit for bit the same; by scan, for chunks sum in another order."""
    xs, targets, start = data(cell, params, (3,))
    lengths = jnp.array([T, 4, 2])

    @jax.jit
    def value_and_grads(xs, targets):
        def loss(params, start):
            ys = rnn_jax.unroll(cell, params, xs, start, lengths=lengths, strategy="scan")[1]
            mask = rnn_jax.length_mask(lengths, len(xs))
            return losses.per_step(losses.squared_error, ys, targets, mask).sum((0, 1))

        return jax.value_and_grad(loss, (0, 1))(params, start)

    more = lambda a: jnp.concatenate([a, jnp.full((5, *a.shape[1:]), jnp.nan)])
    chex.assert_trees_all_equal(
        value_and_grads(xs, targets), value_and_grads(more(xs), more(targets))
    )


@pytest.mark.parametrize(
    "reverse", [False, pytest.param(True, marks=pytest.mark.one_of_each_route)]
)
def test_resets_are_separate_sequences(cell, params, reverse):
    """Three sequences end to end: outputs, final state and gradients; padding after the last."""
    ends = (2, 5, 6)
    xs, targets, start = data(cell, params, ())
    resets = jnp.zeros(T, bool).at[jnp.array(ends[:2])].set(True)

    def packed(params, start, strategy):
        where = {"lengths": jnp.asarray(ends[-1]), "resets": resets, "reverse": reverse}
        final, ys = rnn_jax.unroll(cell, params, xs, start, strategy=strategy, **where)
        states = rnn_jax.trajectory(cell, params, xs, start, **where)
        return jnp.sum(ys * targets), (final, ys[: ends[-1]], states)

    def apart(params, start):
        runs = []
        for first, end in zip((0, *ends[:2]), ends, strict=True):
            given = end == ends[-1] if reverse else first == 0
            run = functools.partial(rnn_jax.unroll, cell, params, xs[first:end], reverse=reverse)
            runs.append(run(start if given else None))
        ys = jnp.concatenate([ys for _, ys in runs])
        final = runs[0 if reverse else -1][0]
        return jnp.sum(ys * targets[: ends[-1]]), (final, ys)

    gradient = lambda f, **fixed: jax.jit(
        jax.grad(functools.partial(f, **fixed), (0, 1), has_aux=True)
    )(params, start)
    expected_grads, expected = gradient(apart)
    for strategy in ("auto", "scan"):
        grads, (*got, states) = gradient(packed, strategy=strategy)
        chex.assert_trees_all_close(
            (grads, tuple(got)), (expected_grads, expected), rtol=1e-12, atol=1e-13
        )
        chex.assert_trees_all_close(
            jax.tree.map(lambda s: s[-1], states), expected[0], rtol=1e-12, atol=1e-13
        )
