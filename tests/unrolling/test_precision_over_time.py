"""Sums over time in half precision, and products over time that overflow."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

LINEAR = ["diagonal", "lru", "rg_lru", "min_gru", "min_lstm", "selective"]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("strategy", ["scan", "auto", "checkpointed"])
@pytest.mark.parametrize("resets", [False, True])
def test_sums_over_time_keep_growing(dtype, strategy, resets):
    T = 1500
    cell = cells.gated(1, 1, lambda h, a: (0 * h, a), dtype=dtype)
    params = cell.init(jax.random.key(0), 1)
    how = {"resets": jnp.ones(T, bool)} if resets else {}

    def E(p):
        ys = rnn_jax.unroll(cell, p, jnp.ones((T, 1), dtype), strategy=strategy, **how)[1]
        return ys.astype(jnp.float32).sum()

    np.testing.assert_allclose(np.float32(jax.grad(E)(params).b), T, rtol=0.01)


def test_a_learned_initial_state_is_summed_over_resets():
    T, dtype = 1500, jnp.bfloat16
    cell = cells.from_function(lambda p, h, x: (h, h), state=lambda p: p)
    resets = jnp.ones(T, bool)

    def E(p):
        ys = rnn_jax.unroll(cell, p, jnp.ones((T, 1), dtype), resets=resets)[1]
        return ys.astype(jnp.float32).sum()

    got = jax.grad(E)(jnp.zeros(1, dtype))
    np.testing.assert_allclose(np.float32(got), T, rtol=0.01)


@pytest.mark.parametrize("name", ["elman", "lstm", "min_gru", "stack"])
def test_mixed_precision(name):
    """float32 parameters, bfloat16 steps: gradients in float32, near those of float32."""
    make = {"stack": lambda H: cells.readout(cells.stack(cells.gru(H), cells.lru(H)), 3)}
    cell = make.get(name, cells.CELLS.get(name))(8)
    to = lambda tree, dtype: jax.tree.map(lambda a: a.astype(dtype), tree)
    params = to(to(cell.init(jax.random.key(0), 4), jnp.bfloat16), jnp.float32)
    xs = normal(1, 300, 4, 4).astype(jnp.bfloat16)

    def E(params, xs, strategy):
        final, ys = rnn_jax.unroll(cell, params, xs, strategy=strategy)
        chex.assert_type([*jax.tree.leaves(final), ys], xs.dtype)
        return jnp.mean((ys.astype(jnp.float32) - 0.5) ** 2)

    flat = lambda g: jax.flatten_util.ravel_pytree(g)[0]
    expected = flat(
        jax.jit(jax.grad(functools.partial(E, strategy="auto")))(params, to(xs, jnp.float32))
    )
    for strategy in ("auto", "scan", *(["parallel"] if name == "min_gru" else [])):
        got = jax.jit(jax.grad(functools.partial(E, strategy=strategy)))(params, xs)
        chex.assert_type(jax.tree.leaves(got), jnp.float32)
        error = jnp.linalg.norm(flat(got) - expected) / jnp.linalg.norm(expected)
        assert error < 0.02, error


def test_float64_params_are_not_mixed_with_less():
    cell = cells.elman(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    for dtype in (jnp.float32, jnp.bfloat16):
        with pytest.raises(ValueError, match=r"^xs: got .+; expected the precision of params"):
            rnn_jax.unroll(cell, params, jnp.ones((4, 2), dtype))


@pytest.mark.parametrize("name", LINEAR)
def test_nothing_passes_a_reset(name):
    """NaN before a reset, and in a start that a reset does away with: values and both modes."""
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, 6, 2, INPUT_SIZE)
    wild = xs.at[:3].set(jnp.nan)
    start = jax.tree.map(lambda a: a + jnp.nan, cell.initial_state(params, (2,)))
    middle = jnp.zeros((6, 2), bool).at[3].set(True)
    later = lambda xs, **how: rnn_jax.unroll(cell, params, xs, **how)[1]
    tangent = lambda f, at: jax.jvp(f, (at,), (jnp.ones_like(at),))[1]
    expected = later(xs[3:], strategy="scan")
    d_expected = tangent(lambda xs: later(xs, strategy="scan"), xs[3:])
    second = lambda xs: later(xs, resets=middle, strategy="parallel")[3:]
    first = lambda xs: later(xs, initial_state=start, resets=middle[3:], strategy="parallel")
    cotangent = lambda f, at: jax.grad(lambda xs: jnp.sum(f(xs) ** 2))(at)
    d_xs = cotangent(lambda xs: later(xs, strategy="scan"), xs[3:])
    for f, at in ((second, wild), (first, xs[3:])):
        np.testing.assert_allclose(f(at), expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(tangent(f, at)[-3:], d_expected, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(cotangent(f, at)[-3:], d_xs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("x", [0.0, 1e-250])
@pytest.mark.parametrize("reverse", [False, True])
def test_products_that_overflow_where_states_do_not(x, reverse):
    T, cell = 1500, cells.diagonal(2, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1).replace(a=jnp.array([2.0, 0.5]), U=jnp.ones((2, 1)))
    xs = jnp.zeros((T, 1)).at[T - 800 if not reverse else 800].set(x)

    def run(xs, strategy):
        return rnn_jax.unroll(cell, params, xs, strategy=strategy, reverse=reverse)[1]

    by_scan, parallel = (functools.partial(run, strategy=s) for s in ("scan", "parallel"))
    np.testing.assert_allclose(parallel(xs), by_scan(xs), rtol=1e-12)
    early = slice(0, 5) if not reverse else slice(T - 5, T)
    slope = lambda f: jax.grad(lambda xs: f(xs)[early].sum())(xs)
    np.testing.assert_allclose(slope(parallel), slope(by_scan), rtol=1e-12)
    mapped = jax.vmap(parallel)(jnp.stack([xs, xs]))
    np.testing.assert_allclose(mapped[1], by_scan(xs), rtol=1e-12)
