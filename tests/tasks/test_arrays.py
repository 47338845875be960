"""A task from arrays: each sequence once in a pass, and only what lengths and targets let count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import tasks
from rnn_jax.losses import squared_error

T, N, I, B = 5, 7, 2, 3
LENGTHS = np.array([5, 1, 3, 2, 5, 4, 1])


def numbered():
    """Inputs that say which sequence and step they are of."""
    xs = np.arange(T)[:, None, None] + 10.0 * np.arange(N)[:, None] + np.zeros(I)
    return xs.astype(np.float32)


def test_every_sequence_comes_once_in_a_pass_and_the_order_is_another_in_the_next():
    task = tasks.from_arrays(numbered(), np.arange(N), batch_size=B)
    batch = jax.jit(task.batch)
    key = jax.random.key(0)
    passes = []
    for first in (0, 2, 4, 6):
        seen = np.concatenate([batch(key, first + n)[1][-1] for n in range(N // B)])
        assert len(set(seen.tolist())) == B * (N // B)
        passes.append(tuple(seen.tolist()))
    assert len(set(passes)) == len(passes)
    assert set().union(*map(set, passes)) == set(range(N))
    again = task.batch(key, 3)
    for a, b in zip(again, batch(key, 3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("each_step", [True, False])
def test_what_counts(classes, each_step):
    """And what stands past a length is never read: it may be NaN, or no class."""
    xs = numbered()
    past = np.arange(T)[:, None] >= LENGTHS
    targets = np.broadcast_to(np.arange(N, dtype=np.int32), (T, N)).copy()
    if not each_step:
        targets = targets[0]
    if not classes:
        targets = (targets[..., None] + np.zeros(I)).astype(np.float32)
        if each_step:
            targets[past] = np.nan
    xs[past] = np.nan
    task = tasks.from_arrays(
        xs, targets, lengths=LENGTHS, batch_size=N, **({} if classes else {"loss": squared_error})
    )
    got, answers = task.batch(jax.random.key(1), 0)
    mask = np.asarray(task.mask(got, answers))
    which = (got[0, :, 0] / 10).astype(int)
    lengths = LENGTHS[which]
    steps = np.arange(T)[:, None]
    expected = steps < lengths if each_step else steps == lengths - 1
    np.testing.assert_array_equal(mask, expected)
    assert (np.asarray(got)[np.asarray(steps >= lengths)] == 0).all()
    told = np.broadcast_to(which, (T, N))
    shown = answers if classes else answers[..., 0]
    np.testing.assert_array_equal(np.asarray(shown)[expected], told[expected])
    perfect = (
        1e3 * jax.nn.one_hot(answers, N) if classes else jnp.where(mask[..., None], answers, 7)
    )
    assert task.mean_loss(perfect, got, answers) == 0
    if classes:
        assert task.solved(perfect, got, answers).all()
        assert not task.solved(-perfect, got, answers).any()


def test_numbers_of_a_whole_sequence_are_so_whatever_their_sizes():
    """Here T = N = O."""
    targets = np.arange(9, dtype=np.float32).reshape(3, 3)
    xs = np.zeros((3, 3, 1), np.float32)
    task = tasks.from_arrays(xs, targets, batch_size=3, loss=squared_error)
    got, answers = task.batch(jax.random.key(0), 0)
    np.testing.assert_array_equal(task.mask(got, answers), np.arange(3)[:, None] == [2, 2, 2])
    assert sorted(map(tuple, answers[-1].tolist())) == sorted(map(tuple, targets.tolist()))


def test_classes_in_bytes_without_a_sign_are_classes():
    """As the labels of images often are."""
    labels = np.array([0, 255, 3, 1, 2, 9, 7], np.uint8)
    task = tasks.from_arrays(numbered(), labels, batch_size=N)
    xs, targets = task.batch(jax.random.key(0), 0)
    assert task.mask(xs, targets).sum() == N
    assert sorted(targets[-1].tolist()) == sorted(labels.tolist())
    assert task.output_size == 256


def test_as_many_steps_as_sequences_are_targets_of_every_step():
    targets = np.arange(9, dtype=np.int32).reshape(3, 3)
    task = tasks.from_arrays(np.zeros((3, 3, 1), np.float32), targets, batch_size=3)
    xs, answers = task.batch(jax.random.key(0), 0)
    assert task.mask(xs, answers).all()
    assert sorted(np.ravel(answers).tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"xs": np.zeros((T, N), np.float32)}, r"^xs: got .*; expected .*T, N, I"),
        ({"targets": np.zeros((N, T), np.int32)}, r"^targets: got .*\[T, N\]|\[5, 7\]"),
        ({"targets": np.full(N, -1)}, r"^targets: got .* from -1 to -1; expected classes from 0"),
        ({"targets": np.full(N, 2**40)}, r"^targets: got .* to 1099511627776; expected classes"),
        ({"targets": np.full((N, 2), np.nan)}, r"^targets: got numbers that are not finite"),
        ({"xs": np.zeros((0, N, 1), np.float32)}, r"^xs: got .*; expected a sequence and a step"),
        ({"xs": np.zeros((T, 0, 1), np.float32)}, r"^xs: got .*; expected a sequence and a step"),
        ({"targets": np.ones(N, bool)}, r"^targets: got .*; expected integers or floats"),
        ({"lengths": LENGTHS - 1}, r"^lengths: got .* from 0 to 4; expected integers from 1 to 5"),
        ({"lengths": LENGTHS[1:]}, r"^lengths: got .*; expected "),
        ({"batch_size": N + 1}, r"^batch_size: got .*8; expected at most 7"),
        ({"output_size": 3}, r"^output_size: got .*3; expected at least 7 classes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changed, message):
    good = {"xs": numbered(), "targets": np.arange(N), "lengths": LENGTHS, "batch_size": B}
    with pytest.raises(ValueError, match=message):
        tasks.from_arrays(**good | changed)
