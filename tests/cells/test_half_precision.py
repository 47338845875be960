"""bfloat16 and float16: sums over examples that keep growing, masks, and a memory with a scale."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, topologies
from rnn_jax.transforms.broadcasts import with_wide_sums
from tests.helpers import normal

H, I = 4, 3
BF16 = jnp.bfloat16
MASKS = cells.Masks(jnp.ones(I, BF16), (jnp.ones(H, BF16),), jnp.ones(H, BF16))


def function_cell(H, dtype):
    def step(p, h, x):
        h = jnp.tanh(p["a"] * h + p["W"] @ x + p["b"])
        return h, h

    def init(key, input_size):
        W = jax.random.normal(key, (H, input_size), dtype)
        return {"a": jnp.asarray(0.5, dtype), "W": W, "b": jnp.zeros(H, dtype), "s": W[:, 0]}

    return cells.from_function(step, lambda p: p["s"], init)


def around(wrap):
    return lambda H, dtype: wrap(functools.partial(cells.elman, H, dtype=dtype))


MADE = {
    **cells.CELLS,
    "function": function_cell,
    "readout": around(lambda cell: cells.readout(cell(), 2)),
    "readout of a stack": around(lambda cell: cells.readout(cells.stack(cell(), cell()), 2)),
    "layer_norm": around(
        lambda cell: cells.stack(cell(), cells.residual(cells.layer_norm(cell())))
    ),
    "dropout": around(lambda cell: cells.dropout(cell(), MASKS)),
    "learned_initial_state": around(
        lambda cell: cells.learned_initial_state(cells.readout(cells.stack(cell(), cell()), 2))
    ),
}


def total(ys):
    return ys.sum(dtype=jnp.float32)


def strategies_of(cell):
    names = ["scan"]
    if cell.structure is not None or cell.unroll_layers is not None:
        names.append("fused")
    if cell.structure is not None and cell.structure.linear is not None:
        names.append("parallel")
    return names


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def half_sums(function, *args):
    """The shapes of sums in half precision over more numbers than an example has."""
    closed = jax.make_jaxpr(function)(*args)
    found = []
    for eqn in equations(closed.jaxpr):
        if eqn.primitive.name in ("reduce_sum", "cumsum"):
            (summed,), (out,) = eqn.invars, eqn.outvars
            half = summed.aval.dtype.itemsize < 4 and jnp.issubdtype(summed.aval.dtype, jnp.inexact)
            if half and summed.aval.size > 2 * H * max(out.aval.size, 1):
                found.append((summed.aval, out.aval))
    return found


@pytest.mark.parametrize("name", MADE)
def test_no_sum_over_examples_is_taken_in_half_precision(name):
    cell = MADE[name](H, dtype=BF16)
    params = cell.init(jax.random.key(0), I)
    one_axis, two_axes = (35,), (5, 7)
    for strategy, batch in (
        ("scan", one_axis),
        *((strategy, two_axes) for strategy in strategies_of(cell)),
    ):
        resets = jnp.zeros((3, *batch), bool)

        def E(p, xs, strategy=strategy, resets=resets):
            return total(rnn_jax.unroll(cell, p, xs, resets=resets, strategy=strategy)[1])

        assert not half_sums(jax.grad(E), params, jnp.ones((3, *batch, I), BF16)), strategy


def test_such_a_sum_is_seen():
    """The law above is not empty."""
    assert half_sums(jax.grad(lambda b: total(b + jnp.ones((5, 7, 2), BF16))), jnp.ones(2, BF16))


@pytest.mark.parametrize(
    "name", ["elman", "jordan", "fastgrnn", "rg_lru", "function", "learned_initial_state"]
)
def test_gradients_are_those_of_float32(name):
    """Over 4,096 examples on two axes, of E = Σ y, on the same numbers."""
    cell, exact = (MADE[name](H, dtype=dtype) for dtype in (BF16, jnp.float32))
    params = cell.init(jax.random.key(0), I)
    xs = (0.3 + 0.5 * normal(1, 3, 64, 64, I)).astype(BF16)
    in_full = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (params, xs))
    how = [*strategies_of(cell), *(["checkpointed"] if name == "elman" else [])]

    @jax.jit
    def gradients():
        of = lambda cell, s: lambda p, xs: total(rnn_jax.unroll(cell, p, xs, strategy=s)[1])
        return jax.grad(of(exact, "auto"))(*in_full), [
            jax.grad(of(cell, s))(params, xs) for s in how
        ]

    expected, got = gradients()
    for strategy, gradient in zip(how, got, strict=True):
        for a, b in zip(*map(jax.tree.leaves, (gradient, expected)), strict=True):
            error = jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b)
            assert error < 0.02, (strategy, error)


def test_an_embedding_in_a_step_sums_over_the_examples_that_read_it():
    step = lambda E, h, x: (h, E[x[0]])
    cell = cells.from_function(step, jnp.zeros(1, BF16), lambda key, n: jnp.zeros((3, 2), BF16))
    xs = jnp.ones((2, 40, 50, 1), jnp.int32)
    E = lambda p: total(rnn_jax.unroll(cell, p, xs)[1])
    got = jax.jit(jax.grad(E))(cell.init(None, 1)).astype(jnp.float32)
    np.testing.assert_allclose(got, [[0, 0], [4000, 4000], [0, 0]], rtol=0.01)


def all_kinds(p, x):
    """A function with broadcasts inside of calls, loops, branches and recomputation."""
    scaled = jax.jit(lambda p, x: p["a"] * x)(p, x)
    looped = jax.lax.scan(lambda c, _: (c * 0.5 + p["b"], None), scaled, length=2)[0]
    branched = jax.lax.cond(x.sum() > 0, lambda y: y + p["b"], lambda y: y * p["a"], looped)
    again = jax.checkpoint(lambda y: jnp.where(y > 0, p["b"], y) / p["a"])(branched)
    return {"y": jnp.maximum(again, p["a"]), "none": None}


def test_wide_sums_leave_values_and_forward_mode_as_they_are():
    p = {"a": jnp.asarray(1.3, BF16), "b": normal(1, H).astype(BF16)}
    x = normal(2, 40, 50, H).astype(BF16)
    d = jax.tree.map(jnp.ones_like, (p, x))
    plain, wide = (
        jax.jit(lambda p, x, f=f: jax.jvp(f, (p, x), d))(p, x)
        for f in (all_kinds, with_wide_sums(all_kinds))
    )
    chex.assert_trees_all_equal(plain, wide)
    E = lambda p, x: total(with_wide_sums(all_kinds)(p, x)["y"])
    assert not half_sums(jax.grad(E), p, x)
    full = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (p, x))
    got = jax.jit(jax.grad(E))(p, x)
    expected = jax.jit(jax.grad(E))(*full)
    for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0.05)
    mapped = jax.vmap(with_wide_sums(all_kinds), (None, 0))
    chex.assert_trees_all_close(jax.jit(mapped)(p, x), jax.jit(all_kinds)(p, x), rtol=0.02)


def test_wide_sums_are_of_half_precision_alone():
    args = jax.tree.map(jnp.asarray, ({"a": 1.3, "b": np.ones(H)}, np.ones((5, H))))
    program = lambda f: str(jax.make_jaxpr(f)(*args))
    assert program(with_wide_sums(all_kinds)) == program(all_kinds)


def test_gradients_of_networks_that_are_fed_keep_growing():
    """∂E/∂c of a readout whose outputs nothing reads, or that are fed back by a factor of zero."""
    T, key = 1000, jax.random.key(0)
    cell = cells.readout(cells.elman(H, dtype=BF16), I)
    params = cell.init(key, I)
    xs = jnp.ones((T, 2, I), BF16)
    feed = lambda key, y: 0 * y
    runs = (
        lambda p: topologies.teacher_forcing(cell, p, xs, 1.0, key, feed=feed)[1],
        lambda p: topologies.unroll_feedback(cell, p, xs[0], T, feed=feed)[1],
        lambda p: topologies.generate(cell, p, xs[:1], T, key, feed=feed).ys,
    )
    for gradient in jax.jit(lambda p: [jax.grad(lambda p, r=r: total(r(p)))(p) for r in runs])(
        params
    ):
        np.testing.assert_allclose(gradient.c.astype(jnp.float32), 2 * T, rtol=0.01)


def test_generation_in_mixed_precision():
    cell = cells.readout(cells.gru(H), I)
    params, xs = cell.init(jax.random.key(0), I), normal(1, 2, 5, I).astype(jnp.float32)
    made = topologies.generate(cell, params, xs.astype(BF16), 3, jax.random.key(1))
    chex.assert_type(jax.tree.leaves(made), BF16)
    feed = topologies.feed_output
    runs = [
        lambda p, xs: topologies.unroll_feedback(cell, p, xs[0], 3)[1],
        lambda p, xs: topologies.teacher_forcing(cell, p, xs, 0.5, jax.random.key(2), feed=feed)[1],
    ]
    for run in runs:
        half, ys = run(params, xs.astype(BF16)), run(params, xs)
        chex.assert_type(half, BF16)
        chex.assert_trees_all_close(half.astype(jnp.float32), ys, atol=0.02)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("kind", ["input", "recurrent", "output"])
def test_masks_take_the_dtype_of_what_they_multiply(kind, batch):
    cell = cells.gru(H)
    params, xs = cell.init(jax.random.key(0), I), normal(1, 5, 2, I).astype(BF16)
    rates = {f"{kind}_rate": 0.5}
    masks = cells.draw_masks(jax.random.key(2), cell, params, I, batch, **rates)
    run = lambda masks: rnn_jax.unroll(cells.dropout(cell, masks), params, xs)
    rounded = jax.tree.map(lambda mask: mask.astype(BF16), masks)
    chex.assert_type(jax.tree.leaves(run(masks)), BF16)
    chex.assert_trees_all_equal(run(masks), run(rounded))


@pytest.mark.parametrize(
    "cell",
    [cells.elman(4), cells.lstm(4), cells.readout(cells.stack(cells.gru(4), cells.lru(4)), 2)],
    ids=repr,
)
def test_donating_a_learned_start_leaves_the_parameters(cell):
    cell = cells.learned_initial_state(cell)
    params = cell.init(jax.random.key(0), I)
    for batch in ((), (1,)):
        start = cell.initial_state(params, batch)
        jax.jit(lambda s: jax.tree.map(lambda leaf: leaf + 1, s), donate_argnums=0)(start)
        assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("dtype", [BF16, jnp.float16])
def test_slstm_forgets_at_every_scale(dtype):
    """ln n + m falls by d at each step however much smaller that is than the spacing of m."""
    T, cell = 300, cells.slstm(1, dtype=dtype)
    p = cell.init(jax.random.key(0), 2)
    U = jnp.asarray([[1, 0], [0, 0], [0, 0], [0, 1]], dtype)

    @jax.jit
    @jax.vmap
    def run(first, f):
        b = jnp.zeros(4, dtype).at[1].set(f).at[2].set(30)
        xs = jnp.zeros((T, 2), dtype).at[:, 0].set(-60000).at[0].set(1).at[0, 0].set(first)
        state, ys = rnn_jax.unroll(cell, p.replace(W=0 * p.W, U=U, b=b), xs)
        return state, ys[-1, 0]

    wide = lambda leaf: np.asarray(leaf, np.float64).ravel()
    eps = float(jnp.finfo(dtype).eps)
    first = np.array([20, 30, 60, 200, 1000, 30000, 30000])
    d = eps * first * [0.3, 0.3, 0.3, 0.3, 0.3, 0.1, 0.6]
    f = jnp.asarray(-d - np.log(-np.expm1(-d)), dtype)  # ln σ(f) = −d
    state, y = run(jnp.asarray(first, dtype), f)
    left = wide(state.m) + np.log(wide(state.n))
    decay = np.logaddexp(0, -wide(f))
    near = first < 30000  # beyond, e^spacing is out of the range of n
    np.testing.assert_allclose((first - left)[near], (T - 1) * decay[near], rtol=0.01)
    # What is remembered is a mean of one input: it stays, but for the rounding of c and n.
    np.testing.assert_allclose(wide(y)[near], np.tanh(1), rtol=40 * eps)
    assert np.isfinite(wide(y)).all()
