"""What unroll promises at the edges: padding, precision, overflow, buffers, compilation, sizes."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.transforms.serialization import register_classes
from rnn_jax.unrolling import arguments
from tests import public_calls
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

LINEAR = ["diagonal", "lru", "rg_lru", "min_gru", "min_lstm", "selective"]
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


# Padding.


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

    def together(p, xs):
        return (rnn_jax.unroll(cell, p, xs, lengths=lengths, **how)[1] ** 2).sum()

    def alone(p, xs):
        runs = (rnn_jax.unroll(cell, p, xs[:n, i], reverse=reverse)[1] for i, n in ((0, 2), (1, 7)))
        return sum((ys**2).sum() for ys in runs)

    expected, d_xs = jax.grad(alone, (0, 1))(PLAIN, xs)
    for given in (padded, jnp.where(past[..., None], 0, xs)):
        got, d_given = jax.grad(together, (0, 1))(PLAIN, given)
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


# Precision.


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


# Overflow in parallel.


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


# Buffers, closures, compilation, sizes.


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_leaf_of_a_state_has_a_buffer_of_its_own(name):
    cell = cells.CELLS[name](4)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    leaves = jax.tree.leaves((cell.initial_state(params, (5,)), params))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == len(leaves)


def test_a_given_state_is_not_donated_away():
    h = jnp.zeros(3)
    cell = cells.from_function(lambda p, s, x: ((s[1] + x, s[0]), x), (h, h))
    for _ in range(2):
        jax.jit(cell.step, donate_argnums=1)({}, cell.initial_state({}), jnp.ones(3))


@pytest.mark.parametrize("strategy", ["scan", "auto", "fused", "checkpointed"])
def test_a_value_that_is_closed_over_is_differentiated(strategy):
    def E(leak, xs):
        def pointwise(h, a):
            h = (1 - leak) * h + leak * jnp.tanh(a)
            return h, h

        cell = cells.gated(4, 1, pointwise, dtype=jnp.float64)
        params = cell.init(jax.random.key(0), INPUT_SIZE)
        return (rnn_jax.unroll(cell, params, xs, strategy=strategy)[1] ** 2).sum()

    xs = normal(1, 6, 2, INPUT_SIZE)
    slope = (E(0.3 + 1e-6, xs) - E(0.3 - 1e-6, xs)) / 2e-6
    np.testing.assert_allclose(jax.grad(E)(0.3, xs), slope, rtol=1e-7)
    np.testing.assert_allclose(jax.jit(jax.grad(E))(0.3, xs), slope, rtol=1e-7)


@pytest.fixture
def compilations():
    count = [0]

    def listen(name, seconds, **_):
        count[0] += "backend_compile" in name

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    count.append(None)


def test_gradients_outside_jit_compile_once(compilations):
    cell = cells.gru(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 8, 3)
    batch = normal(2, 2, 8, 3)
    E = lambda params, xs, strategy: rnn_jax.unroll(cell, params, xs, strategy=strategy)[1].sum()
    calls = [
        lambda: jax.vmap(lambda xs: E(params, xs, "auto"))(batch),
        *(lambda s=s: jax.grad(E)(params, xs, s) for s in ("auto", "scan", "checkpointed")),
    ]
    for call in calls:
        for _ in range(2):
            call()
        before = compilations[0]
        call()
        assert compilations[0] == before


@pytest.mark.parametrize("module", ["rnn_jax", "gradients", "linalg", "losses", "topologies"])
def test_calls_outside_jit_compile_once(module, compilations, monkeypatch):
    """Every public function, on the same arguments again: a loop of measurements stays flat.

    What is to be unrolled is checked once in each call.
    """
    checks, check = [], arguments._checked_xs
    monkeypatch.setattr(arguments, "_checked_xs", lambda xs: checks.append(xs) or check(xs))
    again, checked = {}, {}
    for name, call in public_calls.calls()[module].items():
        run = lambda call=call: call.then(call.function(**call.good))
        for _ in range(2):
            run()
        before, checks[:] = compilations[0], []
        run()
        again[name], checked[name] = compilations[0] - before, len(checks)
    assert not {name: count for name, count in again.items() if count}
    assert checked.pop("bidirectional", 2) == 2  # one of each of its cells
    assert not {name: count for name, count in checked.items() if count > 1}
    assert any(checked.values()) == (module in ("rnn_jax", "gradients", "topologies"))


def test_programs_go_with_their_cell():
    import gc
    import weakref

    def alive():
        cell = cells.elman(2, dtype=jnp.float64)
        rnn_jax.unroll(cell, cell.init(jax.random.key(0), 1), jnp.ones((3, 1)))
        return weakref.ref(cell)

    refs = [alive() for _ in range(3)]
    gc.collect()
    assert sum(ref() is not None for ref in refs) <= 1  # JAX may keep the last one


@pytest.mark.parametrize("shape", ["20, b, 3", "t, 2, 3", "t, b, 3"])
@pytest.mark.parametrize("strategy", ["scan", "auto", "fused", "parallel", "checkpointed"])
def test_exports_with_any_batch_and_length(shape, strategy):
    cell = cells.min_gru(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 20, 2, 3)
    run = lambda p, xs: rnn_jax.unroll(cell, p, xs, strategy=strategy)[1]
    spec = export.symbolic_args_specs((xs,), (shape,))
    exported = export.export(jax.jit(run))(params, *spec)
    np.testing.assert_allclose(exported.call(params, xs), run(params, xs), rtol=1e-12)


def test_classes_are_registered_for_export():
    kinds = {type(make(4).init(jax.random.key(0), 3)) for make in cells.CELLS.values()}
    for kind in kinds:
        with pytest.raises(ValueError, match="uplicate"):
            export.register_pytree_node_serialization(
                kind,
                serialized_name=f"test.{kind.__name__}",
                serialize_auxdata=lambda _: b"",
                deserialize_auxdata=lambda _: (),
            )
    register_classes()  # once more does no harm


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("lstm", "auto"), ("lstm", "scan"), ("lstm", "checkpointed"), ("min_gru", "parallel")],
)
def test_explicit_axes(name, strategy):
    if jax.device_count() < 2:
        pytest.skip("one device")
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,))
    spec = jax.sharding.PartitionSpec(None, "batch")
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 3), normal(1, 8, 4, 3)
    shared = jax.device_put(xs, jax.sharding.NamedSharding(mesh, spec))
    lengths = jnp.array([8, 3, 5, 0])
    E = lambda p, xs: (
        rnn_jax.unroll(cell, p, xs, lengths=lengths, strategy=strategy)[1] ** 2
    ).sum()
    expected = jax.jit(jax.value_and_grad(E))(params, xs)
    got = jax.jit(jax.value_and_grad(E))(params, shared)
    chex.assert_trees_all_close(jax.device_get(got), jax.device_get(expected), rtol=1e-11)
    ys = rnn_jax.unroll(cell, params, shared, strategy=strategy)[1]
    assert jax.typeof(ys).sharding.spec[1] == "batch"


# Inputs and outputs.


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


def test_a_cell_without_state():
    cell = cells.from_function(lambda p, s, x: (s, 2 * x), ())
    xs = normal(1, 5, 2, 3, 4)
    np.testing.assert_array_equal(rnn_jax.unroll(cell, {}, xs)[1], 2 * xs)


ELMAN = cells.elman(3, dtype=jnp.float64)
FIT = ELMAN.init(jax.random.key(0), 2)
XS = jnp.ones((4, 2))


@pytest.mark.parametrize(
    ("name", "call"),
    {
        "cell": lambda: rnn_jax.unroll("elman", FIT, XS),
        "cell, trajectory": lambda: rnn_jax.trajectory(None, FIT, XS),
        "params": lambda: rnn_jax.unroll(ELMAN, None, XS),
        "params, dict": lambda: rnn_jax.unroll(ELMAN, {"W": FIT.W}, XS),
        "params, other H": lambda: rnn_jax.unroll(
            ELMAN, cells.elman(5, dtype=jnp.float64).init(jax.random.key(0), 2), XS
        ),
        "reverse": lambda: rnn_jax.unroll(ELMAN, FIT, XS, reverse="no"),
        "reverse, trajectory": lambda: rnn_jax.trajectory(ELMAN, FIT, XS, reverse=1),
        "xs": lambda: rnn_jax.unroll(ELMAN, FIT, [1.0, 2.0]),
        "lengths": lambda: rnn_jax.unroll(ELMAN, FIT, XS, lengths="4"),
        "resets": lambda: rnn_jax.unroll(ELMAN, FIT, XS, resets=[0, 1, 0, 0]),
        "cells": lambda: rnn_jax.topologies.bidirectional(ELMAN, (FIT, FIT), XS),
        "params, one": lambda: rnn_jax.topologies.bidirectional((ELMAN, ELMAN), FIT, XS),
        "lengths, prompt": lambda: rnn_jax.topologies.generate(
            ELMAN, FIT, XS, 2, jax.random.key(0), lengths=jnp.array(0)
        ),
        "ratio": lambda: rnn_jax.topologies.teacher_forcing(
            ELMAN, FIT, XS, float("nan"), jax.random.key(0)
        ),
        "k1": lambda: gradients.truncated_gradient(
            ELMAN, FIT, XS, jnp.ones((4, 3)), losses.squared_error, k1=True, k2=2
        ),
    }.items(),
)
def test_what_cannot_be_run_is_named(name, call):
    argument = name.split(",")[0]
    got = rf"^({argument}|initial_state|cell.step): got .+; expected .+\. [A-Z].+"
    with pytest.raises(ValueError, match=got):
        call()
