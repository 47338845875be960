"""A cell that learns a task: its step, and a run of it with a batch of NaN in the middle."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, gradients, tasks
from rnn_jax.training import (
    HeldOut,
    Telemetry,
    batch_mesh,
    create_monitored_train_state,
    create_train_state,
    evaluate,
    fit,
    make_task_train_step,
    make_train_step,
    over_ensemble,
    read_record,
    to_disk,
)

pytestmark = pytest.mark.usefixtures("optax_promotes")

KEY, DATA = jax.random.key(0), jax.random.key(1)
ADAM = optax.adam(1e-2)
TASKS = {
    "last step": tasks.adding(T=10, batch_size=8),
    "some steps": tasks.copying(T=5, batch_size=8),
    "every step": tasks.parity(T=8, batch_size=8),
}


@pytest.mark.parametrize("name", TASKS)
def test_the_step_of_a_task_is_that_of_its_mean_loss(name):
    """Batch by batch of the task; on two devices and in parts too, as all sequences are alike."""
    task = TASKS[name]
    cell = cells.readout(cells.gru(6), task.output_size)

    def loss(params, batch):
        xs, targets = batch
        return task.mean_loss(rnn_jax.unroll(cell, params, xs)[1], xs, targets)

    start = create_train_state(cell.init(KEY, task.input_size), ADAM)
    by_hand, state = jax.jit(make_train_step(loss, ADAM, clip_norm=0.1)), start
    for i in range(4):
        state, metrics = by_hand(state, task.batch(DATA, i))
    for how in ({}, {"mesh": batch_mesh()}, {"accumulate": 4}, {"strategy": "scan"}):
        step, got = jax.jit(make_task_train_step(cell, task, ADAM, clip_norm=0.1, **how)), start
        for _ in range(4):
            got, got_metrics = step(got, DATA)
        chex.assert_trees_all_close(got, state, rtol=2e-4, atol=2e-6)
        chex.assert_trees_all_close(got_metrics, metrics, rtol=2e-4)


def test_telemetry_changes_no_update():
    task = TASKS["last step"]
    cell = cells.readout(cells.gru(6), task.output_size)
    telemetry, params = Telemetry(cell), cell.init(KEY, task.input_size)
    plain = jax.jit(make_task_train_step(cell, task, ADAM))
    monitored = jax.jit(make_task_train_step(cell, task, ADAM, telemetry=telemetry))
    one, _ = plain(create_train_state(params, ADAM), DATA)
    two, metrics = monitored(create_monitored_train_state(params, ADAM, telemetry), DATA)
    chex.assert_trees_all_close(one.params, two.params, rtol=1e-5, atol=1e-7)
    assert np.isfinite(metrics["decay_rate"])


@pytest.mark.parametrize("how", [{}, {"mesh": batch_mesh()}, {"accumulate": 4}], ids=str)
def test_a_penalty_is_added_to_the_loss(how):
    """Ω's weight times its gradient, and the weight of what is added to the loss."""
    task = TASKS["last step"]
    cell = cells.readout(cells.elman(6), task.output_size)
    params, sgd = cell.init(KEY, task.input_size), optax.sgd(1.0)

    def penalty(params, xs, targets):
        return 0.01 * gradients.omega(cell, params, xs, lambda ys: task.mean_loss(ys, xs, targets))

    step = jax.jit(make_task_train_step(cell, task, sgd, penalty=penalty, **how))
    state, metrics = step(create_train_state(params, sgd), DATA)
    plain, without = jax.jit(make_task_train_step(cell, task, sgd))(
        create_train_state(params, sgd), DATA
    )
    value, grads = jax.value_and_grad(penalty)(params, *task.batch(DATA, 0))
    np.testing.assert_allclose(metrics["loss"], without["loss"] + value, rtol=1e-5)
    expected = jax.tree.map(jnp.subtract, plain.params, grads)
    chex.assert_trees_all_close(state.params, expected, rtol=1e-4, atol=1e-6)
    vector = make_task_train_step(cell, task, sgd, penalty=lambda params, xs, targets: xs[0, 0])
    with pytest.raises(ValueError, match=r"^penalty: got .*; expected one number"):
        vector(create_train_state(params, sgd), DATA)


def test_it_learns_and_is_evaluated_on_other_sequences():
    task = TASKS["last step"]
    cell = cells.readout(cells.lstm(16), task.output_size)
    held_out = HeldOut(lambda s: evaluate(cell, s.params, task, key=KEY), every=100)
    optimizer = optax.adam(1e-2)
    step = jax.jit(make_task_train_step(cell, task, optimizer, clip_norm=1.0))
    state = create_train_state(cell.init(KEY, task.input_size), optimizer)
    _, metrics = fit(step, state, lambda i: DATA, 300, progress=False, held_out=held_out)
    assert metrics["held_out"]["loss"][-1] < 0.5 * metrics["held_out"]["loss"][0]
    assert metrics["held_out"]["sequences"][0] == 8


@pytest.mark.parametrize("members", [None, 2])
def test_a_batch_of_nan_is_as_if_it_had_never_been(members, tmp_path, capsys):
    """Parameters and optimizer, bit for bit; counted, said, recorded."""
    cell = cells.readout(cells.elman(5), 1)
    task, bad, steps = TASKS["last step"], {4, 5, 11}, 15
    optimizer = optax.chain(optax.adamw(optax.cosine_decay_schedule(1e-2, 20)), optax.ema(0.9))

    def loss(params, batch):
        xs, targets = batch
        return task.mean_loss(rnn_jax.unroll(cell, params, xs)[1], xs, targets)

    init = lambda key: create_train_state(cell.init(key, task.input_size), optimizer)
    step, state = jax.jit(make_train_step(loss, optimizer, clip_norm=0.1)), init(KEY)
    batch_at = lambda i: task.batch(DATA, i)
    if members:
        step = over_ensemble(make_train_step(loss, optimizer, clip_norm=0.1), members)
        state = jax.vmap(init)(jax.random.split(KEY, members))
        batch_at = lambda i: jax.vmap(lambda key: task.batch(key, i))(
            jax.random.split(DATA, members)
        )

    def poisoned(i):
        xs, targets = batch_at(i)
        return (xs.at[..., 3, 2, 0].set(jnp.nan) if i in bad else xs), targets

    kept = {"checkpoint_dir": tmp_path / "kept", "recorders": [to_disk(tmp_path / "record", steps)]}
    with pytest.warns(RuntimeWarning, match="gradient of step 4.* is not finite; it is skipped"):
        end, metrics = fit(step, state, poisoned, steps, **kept)
    good = [i for i in range(steps) if i not in bad]
    expected, _ = fit(step, state, lambda i: batch_at(good[i]), len(good), progress=False)
    chex.assert_trees_all_equal((end.params, end.opt_state), (expected.params, expected.opt_state))
    assert (end.step == steps).all()
    for skipped in (metrics["skipped"], read_record(tmp_path / "record")["skipped"]):
        assert {*np.flatnonzero(skipped.reshape(steps, -1).all(1))} == bad
    assert f"skipped {len(bad) * (members or 1)}\n" in capsys.readouterr().err
