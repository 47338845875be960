"""Zero perturbations of every state receive the gradient there."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE, structured_cell, user_cell

T = 5
of_h = lambda p, s: s @ p.V.T + p.c
CASES = {
    "elman": (cells.readout(cells.elman(4, dtype=jnp.float64), 2), of_h),
    "lstm": (
        cells.readout(cells.lstm(4, dtype=jnp.float64), 2),
        lambda p, s: s.h @ p.V.T + p.c,
    ),
    "stack": (
        cells.stack(cells.gru_reset_before(4, dtype=jnp.float64), user_cell()),
        lambda p, s: s[1]["trace"] * p[1]["scale"],
    ),
    "user's function": (user_cell(), lambda p, s: s["trace"] * p["scale"]),
    "user's structure": (structured_cell(), lambda p, s: 2 * s[..., :4] * p.leak[:4]),
}
"""By name: a cell, and what its y_t is of the state that the step hands on."""
BATCH = {
    "one example": ((), {}),
    "lengths and resets, reversed": (
        (4,),
        {
            "lengths": jnp.array([T, 3, 0, 4]),
            "resets": jnp.zeros((T, 4), bool).at[jnp.array([2, 1]), jnp.array([0, 3])].set(True),
            "reverse": True,
        },
    ),
    "two batch axes, resets": ((2, 2), {"resets": jnp.zeros((T, 2, 2), bool).at[3, 1].set(True)}),
}


def energy(final, ys):
    """Of all outputs, and of the final state."""
    return jnp.square(ys).sum() + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(final))


@functools.cache
def one_step(name):
    """`(params, state, x, ∂E/∂h' through later steps) -> h', ∂E/∂h', ∂E/∂h`, one example."""
    cell, read = CASES[name]

    @jax.jit
    def backward(params, state, x, passed):
        after, back = jax.vjp(lambda h: cell.step(params, h, x)[0], state)
        own = jax.grad(lambda h: jnp.square(read(params, h)).sum())(after)
        received = jax.tree.map(jnp.add, passed, own)
        return received, back(received)[0]

    @jax.jit
    def forward(params, state, x):
        after, y = cell.step(params, state, x)
        chex.assert_trees_all_equal_shapes(y, read(params, after))
        return after, jnp.abs(y - read(params, after)).max()

    return forward, backward


def one_example_by_hand(name, params, xs, start, fresh):
    """(∂E/∂h_start, ∂E/∂h_t, what of it comes back through the next step), one vjp at a time."""
    forward, backward = one_step(name)
    initial = CASES[name][0].initial_state(params)
    zeros = jax.tree.map(jnp.zeros_like, initial)
    before, states = [], [start]
    for x, is_fresh in zip(xs, fresh, strict=True):
        before.append(initial if is_fresh else states[-1])
        after, apart = forward(params, before[-1], x)
        assert apart < 1e-14
        states.append(after)
    passed, at, through = jax.tree.map(jnp.cos, states[-1]), [], []
    for h, x, is_fresh in reversed(list(zip(before, xs, fresh, strict=True))):
        through.append(passed)
        received, passed = backward(params, h, x, passed)
        at.append(received)
        passed = zeros if is_fresh else passed
    return passed, at[::-1], through[::-1]


def by_hand(name, params, xs, start, batch, lengths=None, resets=None, reverse=False):
    """`one_example_by_hand` for every example, on the steps that it has."""
    cotangents = jax.tree.map(np.zeros_like, gradients.zero_nudges(CASES[name][0], params, xs))
    for example in np.ndindex(*batch):
        n = T if lengths is None else int(lengths[example])
        order = slice(None, None, -1) if reverse else slice(None)
        fresh = np.zeros(n, bool) if resets is None else np.asarray(resets)[(slice(n), *example)]
        if reverse:  # going back, what is put back is the state before the first sequence's last
            fresh = np.concatenate([fresh[1:], np.zeros(min(n, 1), bool)])
        got = one_example_by_hand(
            name,
            params,
            [xs[(t, *example)] for t in range(n)][order],
            jax.tree.map(lambda leaf: leaf[example], start),
            fresh[order],
        )
        for leaf, value in zip(
            jax.tree.leaves(cotangents.start), jax.tree.leaves(got[0]), strict=True
        ):
            leaf[example] = value
        for tree, values in zip((cotangents.read, cotangents.passed), got[1:], strict=True):
            for t, value in enumerate(values[order]):
                for leaf, part in zip(jax.tree.leaves(tree), jax.tree.leaves(value), strict=True):
                    leaf[(t, *example)] = part
    return cotangents


@pytest.mark.parametrize("batched", BATCH)
@pytest.mark.parametrize("name", CASES)
def test_nudges_receive_the_gradient_at_each_state(name, batched):
    """Against one vjp a step; values and the gradient of the parameters are those of unroll."""
    cell, (batch, options) = CASES[name][0], BATCH[batched]
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, *batch, INPUT_SIZE)
    start = jax.tree.map(lambda leaf: leaf + 0.3, cell.initial_state(params, batch))
    if "lengths" in options:
        padding = jnp.arange(T)[:, None] >= options["lengths"]
        xs = jnp.where(padding[..., None], jnp.nan, xs)

    @functools.partial(jax.jit, static_argnums=0)
    def with_nudges(strategy, params, nudges):
        def function(params, nudges):
            out = gradients.unroll_nudged(
                cell, params, xs, nudges, start, strategy=strategy, **options
            )
            return energy(*out), out

        return jax.grad(function, (0, 1), has_aux=True)(params, nudges)

    zeros = gradients.zero_nudges(cell, params, xs)
    (grads, received), out = with_nudges("auto", params, zeros)
    if cell.structure is not None:
        chex.assert_trees_all_close(
            with_nudges("scan", params, zeros), ((grads, received), out), rtol=1e-12, atol=1e-13
        )
    without = lambda p: rnn_jax.unroll(cell, p, xs, start, strategy="scan", **options)
    chex.assert_trees_all_close(out, jax.jit(without)(params), rtol=1e-12, atol=1e-14)
    expected = jax.jit(jax.grad(lambda p: energy(*without(p))))(params)
    chex.assert_trees_all_close(grads, expected, rtol=1e-11, atol=1e-13)

    expected = by_hand(name, params, xs, start, batch, **options)
    chex.assert_trees_all_close(received, expected, rtol=1e-11, atol=1e-13)


def test_nudges_see_through_calls_in_a_step():
    """y_t reads the state inside `jit` and `checkpoint` as it does outside."""

    def step(W, h, x):
        h = jnp.tanh(W @ h + x)
        return h, h**2

    W, xs = normal(0, 3, 3), normal(1, T, 3)

    def received(step):
        cell = cells.from_function(step, jnp.zeros(3))
        E = lambda nudges: gradients.unroll_nudged(cell, W, xs, nudges)[1].sum()
        return jax.grad(E)(gradients.zero_nudges(cell, W, xs))

    expected = received(step)
    chex.assert_trees_all_close(received(jax.jit(step)), expected, rtol=1e-13)
    chex.assert_trees_all_close(received(jax.checkpoint(step)), expected, rtol=1e-13)
    assert float(jnp.abs(expected.read - expected.passed).min()) > 0

    cell = cells.from_function(step, jnp.zeros(3))
    zeros = gradients.zero_nudges(cell, W, xs)
    with pytest.raises(ValueError, match="strategy: got parallel; expected auto, scan or fused"):
        gradients.unroll_nudged(cell, W, xs, zeros, strategy="parallel")
