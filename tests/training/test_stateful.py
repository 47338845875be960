"""Training along streams: carried states, lengths, resets, truncation, telemetry."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax import cells, losses
from rnn_jax.gradients import truncated_gradient
from rnn_jax.lengths import length_mask
from rnn_jax.tasks import consecutive_characters, load_text
from rnn_jax.training import (
    Telemetry,
    batch_mesh,
    create_monitored_train_state,
    create_stateful_train_state,
    create_train_state,
    fit,
    make_monitored_train_step,
    make_stateful_train_step,
    over_ensemble,
)
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

pytestmark = pytest.mark.usefixtures("optax_promotes")

CELL = cells.readout(cells.elman(8, dtype=jnp.float64), 2)
OPTIMIZER = optax.adam(1e-2)


def batch_at(step):
    return normal(2 * step, 6, 4, INPUT_SIZE), normal(2 * step + 1, 6, 4, 2)


def stateful(optimizer, telemetry=None, **arguments):
    """A step over 4 streams, and the state before it."""
    arguments["telemetry"] = telemetry
    step = make_stateful_train_step(CELL, losses.squared_error, optimizer, **arguments)
    params = CELL.init(jax.random.key(0), INPUT_SIZE)
    return step, create_stateful_train_state(CELL, params, optimizer, 4, telemetry=telemetry)


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
    """And with the power iterations of its telemetry."""
    text = load_text()
    task = consecutive_characters(text, T=8, batch_size=4)
    cell = cells.readout(cells.elman(8), task.output_size)
    how = {"telemetry": Telemetry(cell)}
    step = jax.jit(make_stateful_train_step(cell, task.loss, OPTIMIZER, clip_norm=1.0, **how))
    params = cell.init(jax.random.key(0), task.input_size)
    state = create_stateful_train_state(cell, params, OPTIMIZER, 4, **how)
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


def monitored_loss(params, batch, unroll):
    """The loss of a batch of streams, the states that they start from among it."""
    mask = None if batch["lengths"] is None else length_mask(batch["lengths"], 6)
    steps = 24 if mask is None else batch["lengths"].sum().astype(jnp.float64)
    how = {"lengths": batch["lengths"], "resets": batch["resets"]}
    ys = unroll(CELL, params, batch["xs"], batch["start"], **how)[1]
    return losses.per_step(losses.squared_error, ys, batch["targets"], mask).sum() / steps


@pytest.mark.parametrize(("shared", "every"), [(False, 1), (True, 2)], ids=["one", "two devices"])
def test_telemetry_of_streams(shared, every):
    """The updates of a step without it, and the numbers of a monitored loss that is equal."""
    telemetry = Telemetry(CELL, every=every)
    mesh = {"mesh": batch_mesh()} if shared else {}
    step, state = stateful(OPTIMIZER, telemetry, clip_norm=0.5, **mesh)
    plain, plain_state = stateful(OPTIMIZER, clip_norm=0.5, **mesh)
    equal = make_monitored_train_step(monitored_loss, OPTIMIZER, telemetry, clip_norm=0.5)
    equal_state = create_monitored_train_state(plain_state.params, OPTIMIZER, telemetry)
    step, plain, equal = map(jax.jit, (step, plain, equal))
    first = state.monitor
    for i in range(4):
        xs, targets, starts = stream_at(i)
        start = jnp.where(starts[:, None], 0, state.carried)  # an Elman network starts from zero
        given = {"xs": xs, "targets": targets, "resets": None, "lengths": None}
        if i == 3:
            given["lengths"] = jnp.array([6, 2, 0, 3])
            given["resets"] = jnp.zeros((6, 4), bool).at[2, 0].set(True)
        batch = given | {"starts": starts}
        state, metrics = step(state, batch)
        plain_state, plain_metrics = plain(plain_state, batch)
        equal_state, equal_metrics = equal(equal_state, given | {"start": start})
        assert metrics.keys() == equal_metrics.keys() > plain_metrics.keys()
        for name, value in metrics.items():
            expected = equal_metrics[name]
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-13, err_msg=name)
        assert np.isfinite(metrics["omega"]) == (i % every == 0)
        assert np.isfinite(metrics["spectral_radius/W"])
        assert (state.carried != 0).all()
    chex.assert_trees_all_close(state.params, plain_state.params, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(state.carried, plain_state.carried, rtol=1e-10, atol=1e-13)
    chex.assert_trees_all_close(state.monitor, equal_state.monitor, rtol=1e-9, atol=1e-13)
    assert (state.monitor["W"].v != first["W"].v).any()  # they go on from step to step
    assert state.monitor is state.followed
    assert plain_state.monitor is None


def test_what_does_not_go_with_telemetry_or_streams_is_refused():
    telemetry = Telemetry(CELL)
    with pytest.raises(ValueError, match=r"telemetry: got .* k2 = 3. The passes .* overlap"):
        stateful(OPTIMIZER, telemetry, k1=2, k2=3)
    with pytest.raises(ValueError, match="telemetry: got int 3; expected a Telemetry"):
        stateful(OPTIMIZER, 3)
    step, state = stateful(OPTIMIZER, telemetry)
    nothing = stateful(OPTIMIZER)[1]
    with pytest.raises(ValueError, match=r"state: got .* monitors nothing; expected .*\['W'\]"):
        step(nothing, stream_at(0))
    alone = create_train_state(state.params, OPTIMIZER)
    with pytest.raises(ValueError, match=r"state: got .*; expected one that carries"):
        step(alone, stream_at(0))
    with pytest.raises(ValueError, match=r"^strategy: got .*; expected auto, scan or fused"):
        stateful(OPTIMIZER, telemetry, strategy="checkpointed")[0](state, stream_at(0))
