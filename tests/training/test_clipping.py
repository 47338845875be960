"""Gradients of any size, those that are not finite, and optimizers that ask for the loss."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.training import (
    Telemetry,
    batch_mesh,
    create_monitored_train_state,
    create_stateful_train_state,
    create_train_state,
    fit,
    make_monitored_train_step,
    make_stateful_train_step,
    make_train_step,
    over_ensemble,
)
from rnn_jax.training.clipping import global_norm, scale_down
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

pytestmark = pytest.mark.usefixtures("optax_promotes")

CELL = cells.readout(cells.elman(5, dtype=jnp.float64), 2)
SGD = optax.sgd(1.0)


def linear(params, batch):
    """A loss whose gradient is the batch."""
    return sum((p * b).sum().astype(jnp.float32) for p, b in zip(params, batch, strict=True))


def loss(params, batch, unroll=rnn_jax.unroll):
    ys = unroll(CELL, params, batch[0])[1]
    return losses.per_step(losses.squared_error, ys, batch[1]).mean()


def batch_at(step):
    return normal(2 * step, 4, 4, INPUT_SIZE), normal(2 * step + 1, 4, 4, 2)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_direction_and_the_norm_are_right_at_any_size(dtype):
    """For all normal numbers of the dtype, in leaves of different sizes, against longdouble."""
    dtype = jnp.dtype(dtype)
    limits = jnp.finfo(dtype)
    step = jax.jit(make_train_step(linear, SGD, clip_norm=0.5))
    largest, smallest = np.log2(float(limits.max)), np.log2(float(limits.tiny))
    # Numbers below the normal ones are zero on this platform: some way above them.
    smallest += 1 if dtype == jnp.float16 else 30
    for exponent in np.linspace(smallest, largest - 1, 25):
        g = [normal(int(exponent) + 2000 + n, size) for n, size in ((0, 3), (1, 40))]
        g = [np.clip(np.asarray(leaf), -1.9, 1.9) * np.exp2(exponent) for leaf in g]
        g[0] *= 2.0 ** (-5 if exponent > 0 else 0)
        g = [jnp.asarray(leaf, dtype) for leaf in g]
        wide = [np.asarray(leaf).astype(np.longdouble) for leaf in g]
        norm = np.sqrt(sum(np.square(leaf).sum() for leaf in wide))
        params = [jnp.zeros(leaf.shape, dtype) for leaf in g]
        after, metrics = step(create_train_state(params, SGD), g)

        accumulated = jnp.promote_types(dtype, jnp.float32)
        assert metrics["grad_norm"].dtype == accumulated
        rtol = 4 * float(jnp.finfo(accumulated).eps)
        if norm < float(jnp.finfo(accumulated).max):
            np.testing.assert_allclose(float(metrics["grad_norm"]), float(norm), rtol=rtol)
        else:
            assert np.isposinf(metrics["grad_norm"])
        assert (metrics["clipped"], metrics["skipped"]) == (norm > 0.5, 0)
        scale = np.minimum(1, 0.5 / norm)
        for moved, leaf in zip(after.params, wide, strict=True):
            expected = np.asarray(-scale * leaf, np.float64)
            atol = float(limits.smallest_subnormal)
            moved = np.asarray(moved).astype(np.float64)
            np.testing.assert_allclose(moved, expected, rtol=8 * float(limits.eps), atol=atol)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_leaves_of_two_precisions(size):
    grads = {"double": jnp.zeros(1), "single": jnp.full(1, size, jnp.float32)}
    norm = global_norm(grads)
    np.testing.assert_allclose(norm.value, size, rtol=1e-6)
    clipped = scale_down(grads, norm, jnp.array(1.0))
    assert clipped["single"].dtype == jnp.float32
    np.testing.assert_allclose(clipped["single"], 1, rtol=1e-6)


def test_norms_of_zeros_of_nothing_and_of_complex_numbers():
    for grads, norm in (
        ([], 0),
        ([jnp.zeros((0, 3))], 0),
        ([jnp.zeros(3)], 0),
        ([jnp.array([3e200 + 4e200j])], 5e200),
        ([jnp.float32(3e30), jnp.float64(4e200)], 4e200),
    ):
        np.testing.assert_allclose(global_norm(grads).value, norm, rtol=1e-15)
    # A gradient that the compiler knows to be constant, and forward and reverse through a norm.
    for number in (0.0, 1e-300, 1e300):
        constant = jax.jit(lambda p, n=number: global_norm(jax.tree.map(lambda q: 0 * q + n, p)))
        known = jax.jit(lambda n=number: global_norm([jnp.full(4, n), jnp.zeros(3)]).value)
        np.testing.assert_allclose([constant([jnp.ones(4)]).value, known()], 2 * number, rtol=1e-14)
    value = lambda g: global_norm([g * 1e200]).value * 1e-200
    for differentiate in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(jax.jit(differentiate(value))(jnp.array([3.0, 4.0])), [0.6, 0.8])
    assert not global_norm([jnp.ones(2), jnp.array([1.0, jnp.nan])]).is_finite
    assert not global_norm([jnp.array([1.0, -jnp.inf])]).is_finite
    assert global_norm([jnp.full(9, 1.7e308)]).is_finite


def train_steps(optimizer, **how):
    """Every kind of step, `{kind: (step, state, batch)}`, on the same loss."""
    params = CELL.init(jax.random.key(0), INPUT_SIZE)
    telemetry = Telemetry(CELL)
    xs, targets = batch_at(0)
    return {
        "plain": (
            make_train_step(loss, optimizer, **how),
            create_train_state(params, optimizer),
            (xs, targets),
        ),
        "mesh": (
            make_train_step(loss, optimizer, mesh=batch_mesh(), **how),
            create_train_state(params, optimizer),
            (xs, targets),
        ),
        "monitored": (
            make_monitored_train_step(loss, optimizer, telemetry, **how),
            create_monitored_train_state(params, optimizer, telemetry),
            (xs, targets),
        ),
        "stateful": (
            make_stateful_train_step(CELL, losses.squared_error, optimizer, **how),
            create_stateful_train_state(CELL, params, optimizer, 4),
            (xs, targets),
        ),
    }


@pytest.mark.parametrize("kind", ["plain", "mesh", "monitored", "stateful"])
def test_a_gradient_that_is_not_finite_moves_nothing(kind):
    optimizer = optax.adam(1e-2)
    step, state, (xs, targets) = train_steps(optimizer, clip_norm=0.1)[kind]
    run = jax.jit(step)
    state, sound = run(state, (xs, targets))
    assert sound["skipped"] == 0
    broken = xs.at[2, 1, 0].set(jnp.nan), targets
    after, metrics = run(state, broken)
    assert (metrics["skipped"], metrics["clipped"]) == (1, 0)
    assert not np.isfinite(metrics["grad_norm"])
    assert after.step == state.step + 1
    chex.assert_trees_all_equal((after.params, after.opt_state), (state.params, state.opt_state))
    chex.assert_tree_all_finite((after.params, after.opt_state))
    if kind == "stateful":  # the stream that broke goes on from where it was, the others go on
        np.testing.assert_array_equal(after.carried[1], state.carried[1])
        assert (after.carried[0] != state.carried[0]).all()
    again, metrics = run(after, (xs, targets))
    assert metrics["skipped"] == 0
    assert (again.params.V != state.params.V).any()


def test_a_member_of_an_ensemble_is_skipped_alone():
    step, state, _ = train_steps(SGD)["plain"]
    xs, targets = (jnp.stack([leaf] * 2) for leaf in batch_at(0))
    states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
    after, metrics = over_ensemble(step, 2)(states, (xs.at[1].set(jnp.inf), targets))
    np.testing.assert_array_equal(metrics["skipped"], [0, 1])
    moved = jax.tree.map(lambda new, old: (new != old).any(), after.params, states.params)
    assert all(jax.tree.leaves(moved))
    chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[1], after.params), state.params)


def blowing_up(at, members=()):
    """A step whose gradient is not finite from step `at` on, in the last of the members."""

    def scale(params, batch):
        return (params * jnp.where(batch >= at, jnp.nan, 1.0)).sum()

    step = make_train_step(scale, SGD)
    one = create_train_state(jnp.ones(2), SGD)
    if not members:
        return jax.jit(step), one, lambda i: jnp.asarray(float(i))
    many = jax.tree.map(lambda leaf: jnp.stack([leaf] * members), one)
    offset = jnp.where(jnp.arange(members) == members - 1, 0, -1000.0)
    return jax.jit(jax.vmap(step)), many, lambda i: i + offset


def test_fit_says_that_steps_are_skipped_and_stops_when_they_go_on(tmp_path):
    step, state, batches = blowing_up(at=7)
    go = lambda steps, **how: fit(step, state, batches, steps, progress=False, **how)
    with pytest.warns(RuntimeWarning, match="gradient of step 7 is not finite") as said:
        after, metrics = go(30)
    assert len(said) == 1
    np.testing.assert_array_equal(metrics["skipped"], np.arange(30) >= 7)
    np.testing.assert_array_equal(after.params, [-6.0, -6.0])
    stops = pytest.raises(FloatingPointError, match="12 steps in a row, the first of them step 7")
    kept = {"checkpoint_dir": tmp_path / "kept", "checkpoint_every": 4, "max_skipped": 12}
    with pytest.warns(RuntimeWarning, match="step 7"), stops:
        go(100, **kept)
    # The state is kept, and a resumed run remembers the steps before it.
    with pytest.raises(FloatingPointError, match="the first of them step 7"):
        go(100, **kept)


def test_one_network_that_blew_up_does_not_stop_the_others():
    step, states, batches = blowing_up(at=3, members=3)
    with pytest.warns(RuntimeWarning) as said:
        after, _ = fit(step, states, batches, 20, progress=False, max_skipped=5)
    first, stuck = (str(warning.message) for warning in said)
    assert "gradient of step 3 of member 2 is not finite" in first
    assert "no gradient of member 2 has been finite since step 3" in stuck
    np.testing.assert_array_equal(after.params[:, 0], [-19, -19, -2])


def greedy():
    """An optimizer that reads all that optax may hand to one."""

    def update(updates, state, params, *, value, grad, value_fn, **_):
        far = value_fn(jax.tree.map(lambda p: 2 * p, params))
        move = lambda u, g: (far - value) * u - value * g
        return jax.tree.map(move, updates, grad), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


VALUE = {
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
    "polyak_sgd": optax.polyak_sgd,
    "all of it": greedy,
}


@pytest.mark.parametrize("name", VALUE)
def test_optimizers_are_handed_the_loss(name):
    """As optax documents it, in every kind of step."""
    optimizer = VALUE[name]()
    extra = optax.with_extra_args_support(optimizer)

    @jax.jit
    def expected(params, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        value_fn = lambda params: loss(params, batch)
        handed = {"value": value, "grad": grads, "value_fn": value_fn}
        updates, _ = extra.update(grads, extra.init(params), params, **handed)
        return optax.apply_updates(params, updates)

    kinds = train_steps(optimizer)
    wanted = expected(kinds["plain"][1].params, batch_at(0))
    for kind in kinds if name == "all of it" else ("plain",):
        step, state, batch = kinds[kind]
        after, metrics = jax.jit(step)(state, batch)
        assert metrics["skipped"] == 0
        chex.assert_trees_all_close(after.params, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"loss": None}, "loss"),
        ({"optimizer": 0.1}, "optimizer"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"clip_norm": float("nan")}, "clip_norm"),
        ({"clip_norm": "1"}, "clip_norm"),
        ({"mesh": 2}, "mesh"),
    ],
)
def test_bad_arguments_of_steps_are_named(arguments, named):
    given = {"loss": loss, "optimizer": SGD, **arguments}
    with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
        make_train_step(given.pop("loss"), given.pop("optimizer"), **given)


def test_bad_states_and_losses_are_named():
    params = CELL.init(jax.random.key(0), INPUT_SIZE)
    state = create_train_state(params, SGD)
    per_example = lambda p, b: rnn_jax.unroll(CELL, p, b[0])[1].sum(0)
    for call, named in (
        (lambda: make_train_step(per_example, SGD)(state, batch_at(0)), "loss"),
        (lambda: make_train_step(loss, SGD)(params, batch_at(0)), "state"),
        (lambda: create_train_state({"W": jnp.arange(3)}, SGD), "params"),
        (lambda: create_train_state(None, SGD), "params"),
        (lambda: create_train_state(params, None), "optimizer"),
        (lambda: batch_mesh([]), "devices"),
        (lambda: create_stateful_train_state(None, params, SGD, 4), "cell"),
        (lambda: make_stateful_train_step(CELL, None, SGD), "loss"),
        (lambda: make_stateful_train_step(CELL, losses.squared_error, SGD, k1=3, k2=2), "k2"),
        (lambda: make_stateful_train_step(CELL, losses.squared_error, SGD, strategy="x"), "strat"),
    ):
        with pytest.raises(ValueError, match=rf"^{named}.*: got .*; expected"):
            call()
