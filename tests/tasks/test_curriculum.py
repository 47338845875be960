"""One task at several lengths in arrays of one size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, tasks, training

KEY = jax.random.key(3)


@pytest.mark.parametrize("name", ["adding", "copying", "embedded_reber", "parity", "mackey_glass"])
def test_padding_changes_nothing_that_counts(name):
    task = tasks.TASKS[name](batch_size=4)
    longer = tasks.padded(task, len(task.batch(KEY, 0)[0]) + 3)
    xs, targets = task.batch(KEY, 0)
    more, told = longer.batch(KEY, 0)
    T = len(xs)
    np.testing.assert_array_equal(more[:T], xs)
    assert (more[T:] == 0).all()
    mask = task.mask(xs, targets)
    np.testing.assert_array_equal(longer.mask(more, told)[:T], mask)
    assert not longer.mask(more, told)[T:].any()
    ys = jax.random.normal(KEY, (len(more), 4, task.output_size), xs.dtype)
    expected = task.mean_loss(ys[:T], xs, targets)
    np.testing.assert_allclose(longer.mean_loss(ys, more, told), expected, rtol=1e-6)
    np.testing.assert_array_equal(longer.solved(ys, more, told), task.solved(ys[:T], xs, targets))


def test_a_curriculum_draws_what_its_task_draws_at_that_length():
    task = tasks.adding(batch_size=3)
    grown = tasks.curriculum(task, lengths=(5, 9, 20), starts=(0, 4, 6))
    assert grown.chance is None
    batch = jax.jit(grown.batch)
    for step, T in ((0, 5), (3, 5), (4, 9), (5, 9), (6, 20), (99, 20)):
        xs, targets = batch(KEY, step)
        own, answers = tasks.adding(T=T, batch_size=3).batch(KEY, step)
        np.testing.assert_array_equal(xs[:T], own)
        assert xs.shape[0] == 20
        assert (xs[T:] == 0).all()
        mask = grown.mask(xs, targets)
        assert mask.sum() == 3
        np.testing.assert_array_equal(targets[mask], answers[-1])
    assert batch._cache_size() == 1


def test_lengths_at_random_come_alike_often_and_in_one_program():
    """Each in a third of 600 batches, within five standard errors; a step always has the same."""
    mixed = tasks.random_lengths(tasks.parity(batch_size=2), lengths=(3, 5, 8))
    batch = jax.jit(mixed.batch)
    xs, _ = jax.lax.map(lambda step: batch(KEY, step), jnp.arange(600))
    assert xs.shape == (600, 8, 2, 2)
    T = np.asarray(xs.sum((1, 2, 3)) / 2)  # bits are one-hot, padding is zero
    found, counts = np.unique(T, return_counts=True)
    np.testing.assert_array_equal(found, [3, 5, 8])
    assert np.abs(counts - 200).max() < 5 * np.sqrt(600 * 2 / 9)
    for n in (0, 1, 2):
        one, answers = batch(KEY, n)
        np.testing.assert_array_equal(one, xs[n])
        mask = np.asarray(mixed.mask(one, answers))
        assert mask.sum() == 2
        assert mask[int(T[n]) - 1].all()
        parity = np.asarray(one[..., 1]).sum(0) % 2
        np.testing.assert_array_equal(np.asarray(answers)[mask], parity)
    # A data set is gone through in passes, whatever the lengths.
    numbers = tasks.from_arrays(np.arange(6.0).reshape(1, 6, 1), np.zeros(6, int), batch_size=2)
    assert numbers.sequences == 6
    longer = numbers._replace(of_length=lambda T: tasks.padded(numbers, T))
    drawn = [tasks.random_lengths(longer, (1, 3)).batch(KEY, step)[0][0] for step in range(6)]
    for one in (drawn[:3], drawn[3:]):
        np.testing.assert_array_equal(np.sort(np.ravel(one)), np.arange(6))
    other, _ = jax.lax.map(lambda step: mixed.batch(jax.random.key(4), step), jnp.arange(600))
    assert (np.asarray(other.sum((1, 2, 3)) / 2) != T).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda task: tasks.random_lengths(task, ()), r"^lengths: got .*one length or more"),
        (lambda task: tasks.random_lengths(task, (0, 5)), r"^lengths: got .*0"),
        (lambda task: tasks.curriculum(task, (5, 9), (0,)), r"^starts: got .*expected 2 steps"),
        (lambda task: tasks.curriculum(task, (5, 9), (1, 2)), r"^starts: got .*increase from 0"),
        (lambda task: tasks.curriculum(task, (5, 9), (0, 0)), r"^starts: got .*increase from 0"),
        (lambda task: tasks.curriculum(task, (), ()), r"^lengths: got .*one length or more"),
        (lambda task: tasks.curriculum(task, (5, -9), (0, 2)), r"^lengths: got .*-9"),
        (lambda task: tasks.padded(task, 3).batch(KEY, 0), r"^T: got .*3; expected 100 steps"),
        (
            lambda task: tasks.curriculum(task._replace(of_length=None), (5,), (0,)),
            r"^task: got adding of one length; expected a task of any length",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(tasks.adding())


def test_lengths_are_evaluated_as_each_by_itself_and_compiled_once(compilations):
    task = tasks.copying(batch_size=5)
    cell = cells.readout(cells.gru(6), task.output_size)
    params = cell.init(jax.random.key(0), task.input_size)
    lengths = (3, 8, 21)
    training.evaluate_lengths(cell, params, task, lengths, key=KEY, batches=2)
    before = compilations[0]
    found = training.evaluate_lengths(cell, params, task, lengths, key=KEY, batches=2)
    assert compilations[0] == before
    for n, T in enumerate(lengths):
        own = training.evaluate(cell, params, task.of_length(T), key=KEY, batches=2)
        np.testing.assert_allclose(found.loss[n], own.loss, rtol=1e-5)
        assert found.solved[n] == own.solved
        assert found.sequences[n] == own.sequences == 10


def test_what_a_perfect_network_solves_at_every_length():
    """A cell that counts ones: parity, at any length."""

    def step(params, state, x):
        state = (state + x[..., 1:]) % 2
        return state, (jnp.concatenate([1 - state, state], -1) - 0.5) * 1e3

    cell = cells.from_function(step, jnp.zeros(1, jnp.float32))
    found = training.evaluate_lengths(cell, {}, tasks.parity(batch_size=7), (2, 6, 30))
    np.testing.assert_array_equal(found.solved, 1)
    np.testing.assert_allclose(found.loss, 0, atol=1e-6)
