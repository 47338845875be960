"""Every strategy gives the numbers of the plain scan, whatever is differentiated and how."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import Checkpointed, Fused, Parallel, Scan, cells
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE, cell_named, params_named

T = 7
LENGTHS = np.array([T, 3, 0])
STRATEGIES = {
    "fused": Fused(chunk=3),
    "fused, kept": Fused(chunk=4, recompute=False),
    "fused, whole": Fused(chunk=7, recompute=True),
    "parallel": Parallel(),
    "checkpointed": Checkpointed(),
    "checkpointed, 3 levels of scan": Checkpointed(levels=3, inside="scan"),
}


def energy(cell, strategy, params, start, xs):
    """A loss of every output and state, there and, at different lengths, back again."""
    total = jnp.zeros((), xs.dtype)
    resets = jnp.zeros(xs.shape[:-1], bool).at[2, 0].set(True).at[4].set(True)
    for way in (
        {"resets": resets},
        {"lengths": jnp.asarray(LENGTHS), "resets": resets, "reverse": True},
    ):
        final, ys = rnn_jax.unroll(cell, params, xs, start, strategy=strategy, **way)
        total += sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(final))
        total += jnp.sum(ys * jnp.cos(jnp.arange(ys.size, dtype=ys.dtype)).reshape(ys.shape))
    return total


def arguments(cell, params, dtype=jnp.float64):
    start = random_state(cell, params, (len(LENGTHS),))
    return params, start, normal(1, T, len(LENGTHS), INPUT_SIZE, dtype=dtype)


def allowed(cell, strategy):
    if isinstance(strategy, Fused):
        return cell.structure is not None
    if isinstance(strategy, Parallel):
        return cell.structure is not None and cell.structure.linear is not None
    return True


@functools.cache
def gradient_by_scan(cell):
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    by_scan = functools.partial(energy, cell, Scan())
    return jax.jit(jax.value_and_grad(by_scan, (0, 1, 2)))(*arguments(cell, params))


@pytest.mark.one_of_each_kind
@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param(
            name,
            marks=pytest.mark.one_of_each_route if isinstance(strategy, Checkpointed) else (),
        )
        for name, strategy in STRATEGIES.items()
    ],
)
def test_values_and_gradients_are_those_of_scan(cell, params, strategy):
    if not allowed(cell, STRATEGIES[strategy]):
        with pytest.raises(ValueError, match=r"^strategy: got .+; expected .+\. [A-Z].+"):
            energy(cell, STRATEGIES[strategy], *arguments(cell, params))
        return
    function = functools.partial(energy, cell, STRATEGIES[strategy])
    got = jax.jit(jax.value_and_grad(function, (0, 1, 2)))(*arguments(cell, params))
    chex.assert_trees_all_close(got, gradient_by_scan(cell), rtol=1e-10, atol=1e-12)


MODES = [
    *((name, "fused") for name in cells.CELLS),
    *(
        (name, "fused, whole")
        for name in ("jordan", "lstm", "lru", "lstm_peephole", "gru_reset_before", "slstm")
    ),
    *((name, "parallel") for name in ("diagonal", "lru", "selective")),
    *((name, "checkpointed") for name in ("elman", "lstm", "jordan", "gru_reset_before", "lru")),
]


@functools.cache
def derivatives(name, strategy):
    """Forward mode, and both second derivatives along a direction."""
    cell = cell_named(name)
    at = arguments(cell, params_named(name))
    along = jax.tree.map(lambda leaf: normal(leaf.size, *leaf.shape), at)

    def function(params, start, xs):
        final, ys = rnn_jax.unroll(cell, params, xs, start, strategy=strategy)
        return sum(jnp.sum(leaf**3) for leaf in [*jax.tree.leaves(final), ys])

    gradient = lambda *at: jax.grad(function, (0, 1, 2))(*at)

    def slope(*at):
        products = jax.tree.map(jnp.vdot, gradient(*at), along)
        return jax.tree.reduce(jnp.add, products)

    @jax.jit
    def all_of_them(at):
        return (
            jax.jvp(function, at, along)[1],
            jax.jvp(gradient, at, along)[1],
            jax.grad(slope, (0, 1, 2))(*at),
        )

    return all_of_them(at)


@pytest.mark.one_of_each_kind
@pytest.mark.parametrize(("name", "strategy"), MODES)
def test_every_mode_of_differentiation(name, strategy):
    got, expected = derivatives(name, STRATEGIES[strategy]), derivatives(name, Scan())
    chex.assert_trees_all_close(got, expected, rtol=1e-9, atol=1e-10)
    chex.assert_trees_all_close(got[1], got[2], rtol=1e-9, atol=1e-10)


@pytest.mark.one_of_each_kind
@pytest.mark.parametrize("name", cells.CELLS)
def test_float32_agrees_to_its_rounding(name):
    cell = cells.CELLS[name](64)
    params = cell.init(jax.random.key(0), 8)
    xs = normal(1, 100, 4, 8, dtype=jnp.float32)

    @functools.partial(jax.jit, static_argnums=1)
    def gradient(params, strategy):
        return jax.grad(
            lambda p: jnp.square(rnn_jax.unroll(cell, p, xs, strategy=strategy)[1]).mean()
        )(params)

    expected = gradient(params, Scan())
    for strategy in (Fused(), Fused(16, recompute=False), Parallel()):
        if not allowed(cell, strategy):
            continue
        got = gradient(params, strategy)
        for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
            chex.assert_type(a, jnp.float32)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * jnp.abs(b).max())


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("cell_name", ["elman_preactivation", "gru_reset_before", "lru"])
def test_bfloat16_stays_bfloat16(name, cell_name):
    cell = cells.readout(cells.CELLS[cell_name](8, dtype=jnp.bfloat16), 2)
    if not allowed(cell, STRATEGIES[name]):
        pytest.skip("only linear cells run in parallel")
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    at = arguments(cell, params, jnp.bfloat16)
    run = lambda p, s, x: rnn_jax.unroll(cell, p, x, s, strategy=STRATEGIES[name])
    gradient = jax.grad(functools.partial(energy, cell, STRATEGIES[name]), (0, 1, 2))
    for function in (run, gradient):
        chex.assert_type(jax.tree.leaves(jax.eval_shape(function, *at)), jnp.bfloat16)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_vmapped_ensemble_is_its_members(name):
    make = cells.rg_lru if name == "parallel" else cells.gru
    cell = cells.readout(make(4, dtype=jnp.float64), 2)
    keys = jax.random.split(jax.random.key(0), 3)
    ensemble = jax.vmap(lambda key: cell.init(key, INPUT_SIZE))(keys)
    _, start, xs = arguments(cell, jax.tree.map(lambda leaf: leaf[0], ensemble))
    gradient = jax.grad(lambda p: energy(cell, STRATEGIES[name], p, start, xs))
    together = jax.jit(jax.vmap(gradient))(ensemble)
    one_by_one = jax.jit(lambda p: jax.lax.map(gradient, p))(ensemble)
    chex.assert_trees_all_close(together, one_by_one, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 5, 13])
def test_any_number_of_steps_and_chunks(steps):
    cell = cells.lstm(4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, steps, INPUT_SIZE)

    def gradient(strategy):
        loss = lambda p, x: jnp.square(rnn_jax.unroll(cell, p, x, strategy=strategy)[1]).sum()
        return jax.jit(jax.grad(loss, (0, 1)))(params, xs)

    expected = gradient("scan")
    for strategy in ("auto", Fused(1), Fused(4), Checkpointed(), Checkpointed(levels=4)):
        chex.assert_trees_all_close(gradient(strategy), expected, rtol=1e-11, atol=1e-13)


def temporary_bytes(strategy, steps):
    cell = cells.lstm(16)
    params = cell.init(jax.random.key(0), 2)
    loss = lambda p, x: jnp.square(rnn_jax.unroll(cell, p, x, strategy=strategy)[0].h).sum()
    xs = jax.ShapeDtypeStruct((steps, 4, 2), jnp.float32)
    program = jax.jit(jax.grad(loss)).lower(params, xs).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_memory_grows_as_it_says():
    """Over 64 times the steps: T for scan and fused, √T checkpointed, T^(1/4) at four levels."""
    growth = {
        name: temporary_bytes(strategy, 1 << 14) / temporary_bytes(strategy, 1 << 8)
        for name, strategy in {
            "scan": Scan(),
            "checkpointed": Checkpointed(inside="scan"),
            "four levels": Checkpointed(levels=4, inside="scan"),
        }.items()
    }
    assert growth["scan"] > 50
    assert 4 < growth["checkpointed"] < 10
    assert growth["four levels"] < 5
    assert temporary_bytes(Fused(), 1 << 14) < 0.3 * temporary_bytes(Scan(), 1 << 14)
    assert temporary_bytes(Checkpointed(), 1 << 14) < temporary_bytes(Scan(), 1 << 14) / 20


def test_a_strategy_that_cannot_be_is_refused():
    plain = cells.from_function(lambda p, h, x: (h + x, h), jnp.zeros(2))
    xs = jnp.zeros((3, 2))
    with pytest.raises(ValueError, match=r"strategy: got fused, for a cell that is a plain.*scan"):
        rnn_jax.unroll(plain, {}, xs, strategy="fused")
    with pytest.raises(ValueError, match=r"strategy: got parallel, for a cell .*linear"):
        rnn_jax.unroll(plain, {}, xs, strategy="parallel")
    with pytest.raises(ValueError, match=r"strategy: got fast; expected auto, scan, fused, par"):
        rnn_jax.unroll(plain, {}, xs, strategy="fast")
    with pytest.raises(ValueError, match="chunk: got int 0"):
        Fused(chunk=0)
    with pytest.raises(ValueError, match="levels: got int 1"):
        Checkpointed(levels=1)
