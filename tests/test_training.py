"""The train step, the loop, and what survives a kill."""

import inspect
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.gradients import truncated_gradient
from rnn_jax.tasks import consecutive_characters, load_text
from rnn_jax.training import (
    batch_mesh,
    create_stateful_train_state,
    create_train_state,
    fit,
    make_stateful_train_step,
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


def test_a_batch_that_devices_cannot_share_is_refused(state):
    step = make_train_step(loss, OPTIMIZER, mesh=batch_mesh())
    with pytest.raises(ValueError, match="evenly divisible"):
        jax.jit(step)(state, (normal(0, 6, 3, INPUT_SIZE), normal(1, 6, 3, 2)))


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
    run = over_ensemble(step, 4)
    after, metrics = run(together, stacked)
    assert len(after.params.V.sharding.device_set) == 2
    for i in range(4):
        alone, alone_metrics = jax.jit(step)(states[i], batches[i])
        at_i = lambda leaf, i=i: leaf[i]
        chex.assert_trees_all_close(jax.tree.map(at_i, after), alone, rtol=1e-10, atol=1e-14)
        chex.assert_trees_all_close(jax.tree.map(at_i, metrics), alone_metrics, rtol=1e-12)
    odd = over_ensemble(lambda x: 2 * x, 3)(jnp.arange(3.0))
    np.testing.assert_array_equal(odd, [0, 2, 4])


def stateful(optimizer, **arguments):
    """A step over 4 streams, and the state before it."""
    step = make_stateful_train_step(CELL, losses.squared_error, optimizer, **arguments)
    params = CELL.init(jax.random.key(0), INPUT_SIZE)
    return step, create_stateful_train_state(CELL, params, optimizer, 4)


def stream_at(step):
    """Batches of which streams 0 and 3 start anew at every third."""
    xs, targets = batch_at(step)
    return xs, targets, jnp.array([True, False, False, True]) & (step % 3 == 0)


def test_segments_of_a_stream_are_truncated_bptt():
    """Σ of the gradients of 5 batches of k steps = BPTT(k; k) over the 5 k steps at once."""
    batches = [batch_at(i) for i in range(5)]
    xs, targets = (jnp.concatenate(arrays) for arrays in zip(*batches, strict=True))
    standing = optax.chain(
        optax.trace(decay=1.0), optax.scale(0.0)
    )  # sums gradients, moves nothing
    step, state = stateful(standing)
    run = jax.jit(chex.assert_max_traces(step, n=1))
    total = 0
    for batch in batches:
        state, metrics = run(state, batch)
        total += metrics["loss"]
    value, gradient, final_state = truncated_gradient(
        CELL, state.params, xs, targets, losses.squared_error, k1=6, k2=6
    )
    summed = jax.tree.map(lambda leaf: 24 * leaf, state.opt_state[0].trace)
    chex.assert_trees_all_close(summed, gradient, rtol=1e-11, atol=1e-13)
    chex.assert_trees_all_close(state.carried, final_state, rtol=1e-12)
    np.testing.assert_allclose(24 * total, value, rtol=1e-12)


@pytest.mark.parametrize("truncation", [{}, {"k1": 2, "k2": 3}], ids=["full", "truncated"])
def test_streams_start_anew_where_they_are_told_to(truncation):
    """Also with a learned initial state, which only they see."""
    cell = cells.from_function(lambda p, h, x: (jnp.tanh(p["W"] @ h + x),) * 2, lambda p: p["h"])
    params = {"W": normal(0, 3, 3), "h": normal(5, 3)}
    xs, targets, starts = normal(1, 6, 4, 3), normal(2, 6, 4, 3), jnp.array([1, 0, 0, 1], bool)
    optimizer = optax.sgd(1.0)
    state = create_stateful_train_state(cell, params, optimizer, 4).replace(carried=normal(3, 4, 3))
    state = state.replace(carried=state.carried.at[0].set(jnp.nan))
    step = make_stateful_train_step(cell, losses.squared_error, optimizer, **truncation)
    after, metrics = jax.jit(step)(state, (xs, targets, starts))

    steps = truncation or {"k1": 6, "k2": 6}

    def alone(xs, targets, start):
        loss = losses.squared_error
        return truncated_gradient(cell, params, xs, targets, loss, start, **steps)

    of_each = lambda which, start: jax.jit(jax.vmap(alone, (1, 1, None if start is None else 0)))(
        xs[:, which], targets[:, which], start
    )
    parts = of_each(jnp.array([0, 3]), None), of_each(jnp.array([1, 2]), state.carried[1:3])
    value, grads, carried = jax.tree.map(
        lambda new, old: jnp.stack([new[0], old[0], old[1], new[1]]), *parts
    )
    expected = jax.tree.map(lambda p, g: p - g.sum(0) / 24, params, grads)
    chex.assert_trees_all_close(after.params, expected, rtol=1e-11)
    chex.assert_trees_all_close(after.carried, carried, rtol=1e-12)
    np.testing.assert_allclose(metrics["loss"], value.sum() / 24, rtol=1e-12)
    assert (grads["h"][1:3] == 0).all()


@pytest.mark.parametrize("truncation", [{}, {"k1": 2, "k2": 3}], ids=["full", "truncated"])
def test_devices_that_share_streams_train_as_one(truncation):
    ends = []
    for mesh in (None, batch_mesh()):
        step, state = stateful(OPTIMIZER, clip_norm=0.5, mesh=mesh, **truncation)
        run = jax.jit(step)
        for i in range(4):
            state, metrics = run(state, stream_at(i))
        ends.append((state, metrics))
    chex.assert_trees_all_close(*ends, rtol=1e-11, atol=1e-13)


def test_a_killed_run_of_streams_resumes_with_what_it_carried(tmp_path):
    text = load_text()
    task = consecutive_characters(text, T=8, batch_size=4)
    cell = cells.readout(cells.elman(8), task.output_size)
    step = jax.jit(make_stateful_train_step(cell, task.loss, OPTIMIZER, clip_norm=1.0))
    params = cell.init(jax.random.key(0), task.input_size)
    state = create_stateful_train_state(cell, params, OPTIMIZER, 4)
    batch = lambda i: task.batch(jax.random.key(1), i)
    uninterrupted = fit(step, state, batch, 12, progress=False)
    assert (uninterrupted[0].carried != 0).all()

    def killed_at_7(i):
        if i == 7:
            raise KeyboardInterrupt
        return batch(i)

    kept = {"checkpoint_dir": tmp_path / "kept", "checkpoint_every": 5, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        fit(step, state, killed_at_7, 12, **kept)
    chex.assert_trees_all_equal(fit(step, state, batch, 12, **kept), uninterrupted)


def test_an_ensemble_of_streams_is_its_members():
    step, state = stateful(OPTIMIZER, clip_norm=0.5)
    scale = lambda s: state.replace(params=jax.tree.map(lambda p: s * p, state.params))
    states = [scale(0.5), scale(1.5)]
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    together, run, alone = stack(states), over_ensemble(step, 2), jax.jit(step)
    for i in range(3):
        batches = [stream_at(i), stream_at(i + 10)]
        together, metrics = run(together, stack(batches))
        ends = [alone(s, b) for s, b in zip(states, batches, strict=True)]
        states = [s for s, _ in ends]
    chex.assert_trees_all_close((together, metrics), stack(ends), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shared", [False, True], ids=["one device", "two devices"])
@pytest.mark.parametrize("truncation", [{}, {"k1": 2, "k2": 3}], ids=["full", "truncated"])
def test_lengths_and_resets_along_streams(truncation, shared):
    """As the streams' own steps and sequences by themselves; the padding is NaN."""
    if truncation and "lengths" not in inspect.signature(truncated_gradient).parameters:
        pytest.skip("truncated_gradient has no lengths yet")
    cell = cells.from_function(lambda p, h, x: (jnp.tanh(p["W"] @ h + x),) * 2, lambda p: p["h"])
    params = {"W": normal(0, 3, 3), "h": normal(5, 3)}
    xs, targets = normal(1, 6, 4, 3), normal(2, 6, 4, 3)
    lengths = jnp.array([6, 4, 0, 5])
    padding = jnp.arange(6)[:, None] >= lengths
    resets = jnp.zeros((6, 4), bool).at[2, 0].set(True).at[0, 1].set(True)
    starts = jnp.array([False, False, False, True])
    carried = normal(3, 4, 3)
    optimizer = optax.sgd(1.0)
    state = create_stateful_train_state(cell, params, optimizer, 4).replace(carried=carried)
    mesh = {"mesh": batch_mesh()} if shared else {}
    step = make_stateful_train_step(cell, losses.squared_error, optimizer, **truncation, **mesh)
    batch = {
        "xs": jnp.where(padding[..., None], jnp.nan, xs),
        "targets": jnp.where(padding[..., None], jnp.nan, targets),
        "starts": starts,
        "resets": resets,
        "lengths": lengths,
    }
    after, metrics = jax.jit(step)(state, batch)

    steps = truncation or {"k1": 6, "k2": 6}
    pieces = [(0, 0, 2, carried[0]), (0, 2, 6, None), (1, 0, 4, None), (3, 0, 5, None)]
    value, grads, ends = 0, jax.tree.map(jnp.zeros_like, params), {}
    for stream, begin, end, start in pieces:
        part = (a[begin:end, stream] for a in (xs, targets))
        alone = truncated_gradient(cell, params, *part, losses.squared_error, start, **steps)
        value, grads = value + alone[0], jax.tree.map(jnp.add, grads, alone[1])
        ends[stream] = alone[2]
    expected = jax.tree.map(lambda p, g: p - g / 15, params, grads)
    chex.assert_trees_all_close(after.params, expected, rtol=1e-11)
    np.testing.assert_allclose(metrics["loss"], value / 15, rtol=1e-12)
    wanted = jnp.stack([ends[0], ends[1], carried[2], ends[3]])
    np.testing.assert_allclose(after.carried, wanted, rtol=1e-12)

    nothing = {"xs": xs, "targets": targets, "lengths": jnp.zeros(4, int)}
    same, metrics = jax.jit(step)(state, nothing)
    chex.assert_trees_all_equal((same.params, same.carried), (params, carried))
    assert (metrics["loss"], metrics["skipped"]) == (0, 0)


def test_batches_of_another_form_are_refused():
    step, state = stateful(OPTIMIZER)
    xs, targets = batch_at(0)
    for batch, named in (
        ((xs,), "batch"),
        (xs, "batch"),
        ({"xs": xs}, "batch"),
        ({"xs": xs, "targets": targets, "reset": 3}, "batch"),
        ({"xs": xs, "targets": targets, "lengths": jnp.ones(3, int)}, "lengths"),
        ({"xs": xs, "targets": targets, "lengths": [1, 2, 3, 7]}, "lengths"),
        ({"xs": xs, "targets": targets, "resets": jnp.ones((6, 4))}, "resets"),
        ((xs[:, 0], targets), "xs"),
    ):
        with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
            step(state, batch)
