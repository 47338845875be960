"""Batches that are gone through in parts, and gradients limited by value."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.training import (
    Telemetry,
    batch_mesh,
    create_monitored_train_state,
    create_train_state,
    make_monitored_train_step,
    make_train_step,
)
from tests.helpers import normal

pytestmark = pytest.mark.usefixtures("optax_promotes")

CELL = cells.readout(cells.lstm(5, dtype=jnp.float64), 2)
PARAMS = CELL.init(jax.random.key(0), 3)
ADAM = optax.adam(1e-2)
XS, TARGETS = normal(1, 6, 8, 3), normal(2, 8, 2)
SPEC = (PartitionSpec(None, "batch"), PartitionSpec("batch"), PartitionSpec())


def loss(params, batch, unroll=rnn_jax.unroll):
    xs, targets, scale = batch
    ys = unroll(CELL, params, xs)[1]
    return (scale * losses.squared_error(ys[-1], targets)).mean()


def after(steps, make, state, batch, **how):
    step = jax.jit(make(**how))
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_a_level_beyond_the_dtype_limits_nothing(dtype):
    largest = float(jnp.finfo(dtype).max)
    grads = jnp.array([largest, -1.0], dtype)
    for level in (largest, 1e300, np.inf):
        (same,), metrics = step_of([grads], clip_value=level)
        np.testing.assert_array_equal(same, np.asarray(grads))
        assert metrics["clipped"] == 0


@pytest.mark.parametrize("mesh", [None, batch_mesh()], ids=["one device", "two"])
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_parts_train_as_the_whole(mesh, clip_norm):
    """Arrays cut along their own axes, one not at all; the optimizer's `value_fn` too."""
    optimizer = optax.chain(ADAM, optax.contrib.reduce_on_plateau())
    make = lambda **how: make_train_step(loss, optimizer, clip_norm=clip_norm, **how)
    batch = (XS, TARGETS, jnp.asarray(2.0))
    state = create_train_state(PARAMS, optimizer)
    whole = after(3, make, state, batch)
    for parts in (2, 4):
        got = after(3, make, state, batch, accumulate=parts, mesh=mesh, batch_spec=SPEC)
        chex.assert_trees_all_close(got, whole, rtol=1e-11, atol=1e-14)


def test_telemetry_of_parts_is_that_of_the_whole():
    telemetry = Telemetry(CELL)
    state = create_monitored_train_state(PARAMS, ADAM, telemetry)
    make = lambda **how: make_monitored_train_step(loss, ADAM, telemetry, **how)
    batch = (XS, TARGETS, jnp.asarray(2.0))
    whole = after(2, make, state, batch)
    got = after(2, make, state, batch, accumulate=4, batch_spec=SPEC)
    chex.assert_trees_all_close(got, whole, rtol=1e-9, atol=1e-13)


def test_parts_of_half_precision_are_summed_in_single():
    """1 + 255 / 256: in bfloat16, each part of 1 / 256 would be lost beside 1."""
    grads = jnp.array([1.0] + [1 / 256] * 255, jnp.bfloat16)
    step = make_train_step(
        lambda w, b: (w * b).sum(), optax.sgd(1.0), accumulate=256, batch_spec=PartitionSpec("b")
    )
    state, _ = step(create_train_state(jnp.zeros((), jnp.bfloat16), optax.sgd(1.0)), grads)
    expected = -(1 + 255 / 256) / 256
    np.testing.assert_allclose(float(state.params), expected, rtol=2**-8)


def test_one_bad_part_skips_the_step():
    targets = TARGETS.at[5].set(jnp.nan)
    state = create_train_state(PARAMS, ADAM)
    step = make_train_step(loss, ADAM, accumulate=4, batch_spec=SPEC)
    end, metrics = jax.jit(step)(state, (XS, targets, jnp.asarray(1.0)))
    chex.assert_trees_all_equal(end.replace(step=state.step), state)
    assert metrics["skipped"] == 1


def test_a_batch_that_cannot_be_cut_is_refused():
    state = create_train_state(PARAMS, ADAM)
    for parts, spec in ((3, SPEC), (2, PartitionSpec(None, None, None, "batch"))):
        step = make_train_step(loss, ADAM, accumulate=parts, batch_spec=spec)
        with pytest.raises(ValueError, match=r"^accumulate: got .*; expected a number of equal"):
            step(state, (XS, TARGETS, jnp.asarray(1.0)))
    two = (PartitionSpec("a", "b"), PartitionSpec(), PartitionSpec())
    with pytest.raises(ValueError, match=r"^batch_spec: got .*; expected one axis"):
        make_train_step(loss, ADAM, accumulate=2, batch_spec=two)(state, (XS, TARGETS, 1.0))
    for parts in (0, 1.5, True):
        with pytest.raises(ValueError, match=r"^accumulate: got"):
            make_train_step(loss, ADAM, accumulate=parts)


def step_of(grads, **how):
    """One step of gradient descent at zero, whose gradient is given."""
    loss = lambda w, g: sum((a * b).real.sum() for a, b in zip(w, g, strict=True))
    optimizer = optax.sgd(1.0)
    zeros = [jnp.zeros_like(g) for g in grads]
    step = jax.jit(make_train_step(loss, optimizer, **how))
    state, metrics = step(create_train_state(zeros, optimizer), grads)
    return [np.asarray(-leaf) for leaf in state.params], metrics


def test_numbers_of_a_gradient_are_limited_before_its_norm():
    grads = [jnp.array([3.0, -4.0, 0.25]), jnp.array([[1e300, -1e-300]])]
    limited, metrics = step_of(grads, clip_value=0.5)
    np.testing.assert_array_equal(limited[0], [0.5, -0.5, 0.25])
    np.testing.assert_array_equal(limited[1], [[0.5, -1e-300]])
    assert metrics["clipped"] == 1
    np.testing.assert_allclose(metrics["grad_norm"], 1e300)
    both, metrics = step_of(grads, clip_value=0.5, clip_norm=0.25)
    np.testing.assert_allclose(np.sqrt(sum((g**2).sum() for g in both)), 0.25)
    within, metrics = step_of(grads, clip_value=1e301)
    chex.assert_trees_all_equal(within, [np.asarray(g) for g in grads])
    assert metrics["clipped"] == 0
    _, metrics = step_of([jnp.array([0.5, jnp.nan])], clip_value=0.1, clip_norm=0.1)
    assert (metrics["clipped"], metrics["skipped"]) == (0, 1)


def test_parts_of_complex_numbers_are_limited_one_by_one():
    (limited,), _ = step_of([jnp.array([3.0 - 0.1j, -0.2 + 5j])], clip_value=0.5)
    np.testing.assert_allclose(limited, [0.5 - 0.1j, -0.2 + 0.5j])


def test_a_step_says_the_learning_rate_that_it_took():
    schedule = optax.linear_schedule(1.0, 0.0, 4)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=schedule)
    step = jax.jit(make_train_step(lambda w, b: w.sum(), optimizer))
    state, rates = create_train_state(jnp.zeros(2), optimizer), []
    for _ in range(4):
        before = state.params
        state, metrics = step(state, None)
        rates.append(float(metrics["learning_rate"]))
        np.testing.assert_allclose(before - state.params, rates[-1])
    np.testing.assert_allclose(rates, [1, 0.75, 0.5, 0.25])


def test_only_the_optimizer_says_a_learning_rate():
    """Not a parameter of that name, whose momentum is in the optimizer's state; not two at once."""
    loss = lambda w, b: w["learning_rate"] + w["w"].sum()
    params = {"learning_rate": jnp.ones(()), "w": jnp.ones(2)}
    inject = lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate)
    for optimizer, said in (
        (optax.sgd(0.1, momentum=0.9), None),
        (optax.chain(inject(0.1), optax.trace(0.9)), 0.1),
        (
            optax.multi_transform(
                {"a": inject(0.1), "b": inject(0.2)}, {"learning_rate": "a", "w": "b"}
            ),
            None,
        ),
    ):
        step = jax.jit(make_train_step(loss, optimizer))
        _, metrics = step(create_train_state(params, optimizer), None)
        if said is None:
            assert "learning_rate" not in metrics
        else:
            np.testing.assert_allclose(metrics["learning_rate"], said)
