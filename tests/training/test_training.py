"""The train step, the loop, and what survives a kill; along streams: `test_stateful.py`."""

import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.training import (
    batch_mesh,
    create_train_state,
    fit,
    make_train_step,
    over_ensemble,
)
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

pytestmark = pytest.mark.usefixtures("optax_promotes")

CELL = cells.readout(cells.elman(8, dtype=jnp.float64), 2)
OPTIMIZER = optax.adam(1e-2)


def loss(params, batch):
    xs, targets = batch
    ys = rnn_jax.unroll(CELL, params, xs)[1]
    return losses.per_step(losses.squared_error, ys, targets).mean()


def batch_at(step):
    return normal(2 * step, 6, 4, INPUT_SIZE), normal(2 * step + 1, 6, 4, 2)


@pytest.fixture
def state():
    return create_train_state(CELL.init(jax.random.key(0), INPUT_SIZE), OPTIMIZER)


def test_a_step_is_the_optimizer_on_the_clipped_gradient(state):
    batch = batch_at(0)
    value, grads = jax.value_and_grad(loss)(state.params, batch)
    norm = optax.tree.norm(grads)
    for clip_norm, scale in ((None, 1.0), (2 * norm, 1.0), (norm / 4, 0.25)):
        step = jax.jit(make_train_step(loss, optax.sgd(1.0), clip_norm=clip_norm))
        start = create_train_state(state.params, optax.sgd(1.0))
        after, metrics = step(start, batch)
        expected = jax.tree.map(lambda p, g, s=scale: p - s * g, state.params, grads)
        chex.assert_trees_all_close(after.params, expected, rtol=1e-12)
        np.testing.assert_allclose(metrics["loss"], value, rtol=1e-12)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-12)  # before clipping
        assert metrics["clipped"] == (scale < 1)
        assert after.step == 1


@pytest.mark.parametrize("strategy", ["scan", "fused", "checkpointed"])
def test_devices_that_share_a_batch_train_as_one(strategy):
    """Two devices, lengths and all, against one, over steps that clip."""
    cell = cells.readout(cells.lstm(8, dtype=jnp.float64), 2)
    mesh = batch_mesh()
    assert mesh.size == 2

    def masked_loss(params, batch):
        xs, targets, lengths = batch
        unrolled = rnn_jax.unroll(cell, params, xs, lengths=lengths, strategy=strategy)
        return losses.last_step(losses.squared_error, unrolled[1], targets, lengths).mean()

    def batch(step):
        return normal(step, 6, 4, INPUT_SIZE), normal(step + 50, 4, 2), jnp.array([6, 3, 1, 5])

    spec = (PartitionSpec(None, "batch"), PartitionSpec("batch"), PartitionSpec("batch"))
    shared = {"mesh": mesh, "batch_spec": spec}
    ends = []
    for arguments in ({}, shared):
        step = jax.jit(make_train_step(masked_loss, OPTIMIZER, clip_norm=0.1, **arguments))
        state = create_train_state(cell.init(jax.random.key(0), INPUT_SIZE), OPTIMIZER)
        clipped = []
        for i in range(5):
            state, metrics = step(state, batch(i))
            clipped.append(int(metrics["clipped"]))
        assert sum(clipped) > 0
        ends.append((state, metrics))
    chex.assert_trees_all_close(*ends, rtol=1e-11, atol=1e-13)


def test_explicit_axes_train_as_automatic_ones(state):
    """A mesh whose axes are part of types: handed to the makers, and left to the partitioner."""
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Explicit,))
    batch = batch_at(0)
    alone = jax.jit(make_train_step(loss, OPTIMIZER, clip_norm=0.1))
    expected = alone(state, batch)
    with jax.set_mesh(mesh):
        for how in ({}, {"accumulate": 2}):
            step = make_train_step(loss, OPTIMIZER, clip_norm=0.1, mesh=mesh, **how)
            chex.assert_trees_all_close(jax.jit(step)(state, batch), expected, rtol=1e-11)
        sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(None, "batch")))
        everywhere = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
        got = jax.jit(make_train_step(loss, OPTIMIZER, clip_norm=0.1))(everywhere, sharded)
        chex.assert_trees_all_close(got, expected, rtol=1e-11)
        together, stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (state, batch))
        got = over_ensemble(make_train_step(loss, OPTIMIZER, clip_norm=0.1), 2, mesh=mesh)(
            together, stacked
        )
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), expected)
    chex.assert_trees_all_close(jax.device_get(got), both, rtol=1e-11)
    for wrong in (jnp.ones((3, 2)), jnp.ones((8, 2)), jnp.ones(())):
        for args in ((wrong, jnp.ones(4)), (jnp.ones(4), wrong)):
            with pytest.raises(ValueError, match=r"^members: got 4 for an array .*; expected"):
                over_ensemble(lambda x, y: (x, y), 4)(*args)
    for bad in (mesh, "mesh"):
        with pytest.raises(ValueError, match=r"^mesh: got .*; expected"):
            over_ensemble(loss, 3, mesh=bad)


def test_a_batch_that_devices_cannot_share_is_refused(state):
    step = make_train_step(loss, OPTIMIZER, mesh=batch_mesh())
    with pytest.raises(ValueError, match=r"^batch: got .*; expected axis 1 to be shared evenly"):
        jax.jit(step)(state, (normal(0, 6, 3, INPUT_SIZE), normal(1, 6, 3, 2)))


def test_a_state_of_another_optimizer_is_refused(state):
    for other in (optax.sgd(0.1), optax.chain(optax.clip(1.0), optax.adam(0.1))):
        with pytest.raises(ValueError, match=r"^state: got one of an optimizer with .*; expected"):
            make_train_step(loss, other)(state, batch_at(0))


def test_an_optimizer_whose_start_looks_at_numbers_is_none_the_worse(state):
    def init(params):
        assert float(jax.tree.leaves(params)[0].sum()) != 0
        return OPTIMIZER.init(params)

    looks = optax.GradientTransformation(init, OPTIMIZER.update)
    one, _ = jax.jit(make_train_step(loss, looks))(state, batch_at(0))
    two, _ = jax.jit(make_train_step(loss, OPTIMIZER))(state, batch_at(0))
    chex.assert_trees_all_equal(one.params, two.params)


def test_a_step_compiles_once_and_for_every_platform(state):
    step = make_train_step(loss, OPTIMIZER, clip_norm=1.0)
    exported = jax.export.export(jax.jit(step), platforms=["cpu", "cuda", "tpu"])(
        state, batch_at(0)
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")
    run = jax.jit(chex.assert_max_traces(step, n=1))
    for i in range(4):
        state, _ = run(state, batch_at(i))


def test_fit_lowers_the_loss(state):
    fixed = batch_at(0)
    step = jax.jit(make_train_step(loss, OPTIMIZER))
    _, metrics = fit(step, state, lambda i: fixed, 200, progress=False)
    assert metrics["loss"].shape == (200,)
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0]
    assert np.isfinite(metrics["grad_norm"]).all()


def test_a_killed_run_resumes_where_it_was(state, tmp_path):
    step = jax.jit(make_train_step(loss, OPTIMIZER, clip_norm=0.1))
    uninterrupted = fit(step, state, batch_at, 25, progress=False)
    seen = []

    def killed_at_17(i):
        seen.append(i)
        if i == 17:
            raise KeyboardInterrupt
        return batch_at(i)

    kept = {"checkpoint_dir": tmp_path / "kept", "checkpoint_every": 5, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        fit(step, state, killed_at_17, 25, **kept)
    shutil.copytree(tmp_path / "kept", tmp_path / "killed")
    for folder, first in (("kept", 17), ("killed", 15)):  # Ctrl-C keeps the last step
        kept["checkpoint_dir"] = tmp_path / folder
        if folder == "killed":  # as SIGKILL would have left it
            shutil.rmtree(tmp_path / folder / "17")
        seen.clear()
        resumed = fit(step, state, lambda i: (seen.append(i), batch_at(i))[1], 25, **kept)
        assert min(seen[1:]) == first  # the first look is at shapes alone
        chex.assert_trees_all_equal(resumed, uninterrupted)

    with pytest.raises(ValueError, match=r"steps: got 20, .*kill.* holds 25 steps already"):
        fit(step, state, batch_at, 20, **kept)


def test_an_ensemble_is_its_members(state):
    """Spread over two CPU devices: the same numbers as each network alone."""
    assert len(jax.local_devices()) == 2
    step = make_train_step(loss, OPTIMIZER, clip_norm=0.5)
    scales = jnp.array([0.5, 1.0, 1.5, 2.0])
    states = [
        create_train_state(jax.tree.map(lambda p, s=s: s * p, state.params), OPTIMIZER)
        for s in scales
    ]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    batches = [batch_at(i) for i in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    run = over_ensemble(chex.assert_max_traces(step, n=1), 4)
    after, metrics = run(together, stacked)
    run(after, stacked)  # which lies on both devices now
    assert len(after.params.V.sharding.device_set) == 2
    for i in range(4):
        alone, alone_metrics = jax.jit(step)(states[i], batches[i])
        at_i = lambda leaf, i=i: leaf[i]
        chex.assert_trees_all_close(jax.tree.map(at_i, after), alone, rtol=1e-10, atol=1e-14)
        chex.assert_trees_all_close(jax.tree.map(at_i, metrics), alone_metrics, rtol=1e-12)
    for at_once in (1, 2, 3):
        again = over_ensemble(step, 4, at_once=at_once)(together, stacked)
        chex.assert_trees_all_close(again, (after, metrics), rtol=1e-10, atol=1e-14)
    odd = over_ensemble(lambda x: 2 * x, 3)(jnp.arange(3.0))
    np.testing.assert_array_equal(odd, [0, 2, 4])
