"""Laws of every task: batches are pure, steps that do not count say nothing, chance is chance."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from rnn_jax import losses, tasks
from rnn_jax.tasks import TASKS, Task
from tests.tasks.cases import (
    CASES,
    CHAOTIC,
    EXACT,
    KEY,
    B,
    drawn,
    judge_of,
    many,
    program_of,
    right_answer,
    task_of,
)

every_case = pytest.mark.parametrize("case", CASES)
exact_case = pytest.mark.parametrize("case", EXACT)


def test_every_task_has_a_case_and_is_exported():
    assert {name for name, _ in CASES.values()} == set(TASKS)
    for name, maker in TASKS.items():
        assert getattr(tasks, name) is maker
        parameters = inspect.signature(maker).parameters
        assert {"T", "batch_size", "dtype"} <= set(parameters)
        assert all(p.default is not p.empty for p in parameters.values())
        assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())
        task = maker()
        assert task.name == name
        assert len(task.inputs) == task.input_size
        assert len(task.outputs) == task.output_size


@every_case
def test_a_batch_is_a_function_of_key_and_step(case):
    batch, (xs, targets) = program_of(case), drawn(case)
    assert xs.shape[1:] == (B, task_of(case).input_size)
    assert targets.shape[:2] == xs.shape[:2]
    again = batch(KEY, 0)
    np.testing.assert_array_equal(xs, again[0])
    np.testing.assert_array_equal(targets, again[1])
    for key, step in ((KEY, 1), (jax.random.key(1), 0)):
        others = batch(key, step)
        assert (np.asarray(others[0]) != np.asarray(xs)).any()
    assert len(np.unique(np.moveaxis(np.asarray(xs), 1, 0), axis=0)) > 1  # examples differ


@every_case
def test_a_batch_is_the_same_outside_jit(case):
    if case in CHAOTIC:
        pytest.skip("rounding is not the same, and grows")
    eager = task_of(case).batch(KEY, 3)
    for a, b in zip(eager, program_of(case)(KEY, 3), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@every_case
def test_a_batch_is_mapped_over_keys(case):
    keys = jax.random.split(KEY, 2)
    xs, targets = jax.jit(jax.vmap(task_of(case).batch, (0, None)))(keys, 5)
    one = program_of(case)(keys[1], 5)
    np.testing.assert_allclose(xs[1], one[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(targets[1], one[1], rtol=1e-5, atol=1e-5)


@every_case
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_inputs_have_the_dtype(case, dtype):
    task = task_of(case, dtype)
    xs, targets = jax.eval_shape(task.batch, KEY, 0)
    assert xs.dtype == dtype
    classes = task.loss is losses.softmax_cross_entropy
    assert targets.dtype == (jnp.int32 if classes else dtype)
    ys = jax.ShapeDtypeStruct((*xs.shape[:2], task.output_size), dtype)
    loss = jax.eval_shape(task.mean_loss, ys, xs, targets)
    assert loss.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    if task.chance is not None:
        chance = jax.eval_shape(task.chance, xs)
        assert (chance.shape, chance.dtype) == (ys.shape, dtype)


@pytest.mark.parametrize("case", ["adding", "dyck", "mackey_glass", "lorenz"])
def test_half_precision_rounds_what_float32_draws(case):
    xs, targets = jax.jit(task_of(case, jnp.bfloat16, 2).batch)(KEY, 0)
    wide = jax.jit(task_of(case, jnp.float32, 2).batch)(KEY, 0)
    np.testing.assert_allclose(xs.astype(float), wide[0], rtol=0.01, atol=0.01)
    np.testing.assert_allclose(targets.astype(float), wide[1], rtol=0.01, atol=0.01)


@every_case
def test_a_right_answer_has_no_loss_and_a_wrong_one_does(case):
    task, (xs, targets) = task_of(case), drawn(case)
    ys = right_answer(task, targets)
    judge = judge_of(case)
    loss, gradient, solved = judge(ys, xs, targets)
    assert float(loss) < 1e-6
    assert np.abs(gradient).max() < 1e-6
    assert solved.all()
    # The last step that counts of one example: every sign turned, every number moved.
    t = int(np.flatnonzero(np.asarray(task.mask(xs, targets))[:, 3])[-1])
    is_number = task.loss is losses.mean_squared_error
    wrong = np.array(ys)
    wrong[t, 3] = wrong[t, 3] + 10 if is_number else -wrong[t, 3]
    loss, _, solved = judge(wrong, xs, targets)
    np.testing.assert_array_equal(solved, np.arange(B) != 3)
    assert float(loss) > 1e-4
    # An output that says nothing is no answer.
    assert not judge(np.full_like(ys, np.nan), xs, targets)[2].any()
    assert is_number or not judge(np.zeros_like(ys), xs, targets)[2].any()


@every_case
def test_steps_that_do_not_count_say_nothing(case):
    task, (xs, targets) = task_of(case), drawn(case)
    mask = task.mask(xs, targets)
    assert mask.dtype == bool
    assert mask.any(0).all()
    if mask.all():
        pytest.skip("every step counts")
    shape = (*xs.shape[:2], task.output_size)
    ys = jax.random.normal(jax.random.key(7), shape, jnp.float32)
    ys = jnp.where(jnp.arange(B)[:, None] < B // 2, right_answer(task, targets), ys)
    judge = judge_of(case)
    loss, gradient, solved = judge(ys, xs, targets)
    assert not gradient[~mask].any()
    assert np.isfinite(gradient).all()
    assert solved[: B // 2].all()
    counts = mask[..., None]
    nowhere = -1 if targets.dtype == jnp.int32 else jnp.nan
    blanked = jnp.where(counts if targets.ndim == 3 else mask, targets, nowhere)
    for other in (jnp.nan, 5.0):
        changed = judge(jnp.where(counts, ys, other), xs, blanked)
        for a, b in zip(changed, (loss, gradient, solved), strict=True):
            np.testing.assert_array_equal(a, b)


def step_losses(case, ys):
    """E_t of an answer to many sequences, and the mask: float64 `[T, n]`."""
    _, targets, mask = many(case)
    E = jax.jit(task_of(case).loss)(ys, jnp.asarray(targets))
    return np.where(mask, np.asarray(E, float), 0), mask


def check_mean_loss(case, ys, expected):
    """Raise AssertionError unless the mean loss is within 3 standard errors; return one error."""
    E, mask = step_losses(case, ys)
    steps = mask.sum(0).mean()
    # The mean is a ratio of two sums over examples.
    error = (E.sum(0) - expected * mask.sum(0)).std() / steps / mask.shape[1] ** 0.5
    assert abs(E.sum() / mask.sum() - expected) < 3 * error + 1e-5 * (1e-3 + expected)
    return error


@exact_case
def test_chance_has_its_loss(case):
    task, (xs, _, mask) = task_of(case), many(case)
    ys = task.chance(jnp.asarray(xs))
    check_mean_loss(case, ys, task.chance_loss)
    for factor in (0.9, 1.1):  # the law notices a tenth
        with pytest.raises(AssertionError):
            check_mean_loss(case, ys, factor * task.chance_loss)
    assert mask.shape[1] == 10_000


@exact_case
def test_chance_knows_the_time_and_the_input_alone(case):
    check_has_no_memory(task_of(case).chance, drawn(case)[0])


def check_has_no_memory(chance, xs):
    """Raise AssertionError where an answer depends on inputs of other steps or other examples."""
    ys, shuffled = np.asarray(chance(xs)), jnp.roll(xs[::-1], 17, 1)
    for t in range(len(xs)):
        kept = (t, slice(None, None, 2))
        np.testing.assert_array_equal(chance(shuffled.at[kept].set(xs[kept]))[kept], ys[kept])


def test_an_answer_with_memory_is_noticed():
    task, xs = task_of("delay"), drawn("delay")[0]
    for chance in (lambda xs: jnp.roll(xs, 3, 0), lambda xs: xs - xs.mean(1, keepdims=True)):
        with pytest.raises(AssertionError):
            check_has_no_memory(chance, xs)
    # It may have less than the loss of chance: only memory can.
    recalled = 100 * (2 * jnp.roll(xs, 3, 0) - 1)
    assert float(task.mean_loss(recalled, *drawn("delay"))) < 1e-6


def test_a_loss_of_steps_that_do_not_count_is_noticed():
    """The task whose every step counts is another one, and no answer of the first solves it."""
    task, (xs, targets) = task_of("delay"), drawn("delay")
    every = task._replace(mask=Task._field_defaults["mask"])
    recalled = 100 * (2 * jnp.roll(xs, 3, 0) - 1)
    changed = recalled.at[:3].set(-recalled[:3])
    assert task.solved(changed, xs, targets).all()
    assert not every.solved(changed, xs, targets).any()
    assert float(every.mean_loss(changed, xs, targets)) > 10


@exact_case
def test_no_answer_without_memory_is_better_than_chance(case):
    """The entropy of the target given t and x_t, from the frequencies in 10,000 sequences."""
    task, (xs, targets, mask) = task_of(case), many(case)
    if task.loss is losses.mean_squared_error:
        pytest.skip("inputs are numbers; the answer is a mean in closed form")
    if case == "s5":
        pytest.skip("28,800 cells for 10,000 sequences; s3 stands for it")
    symbols = xs.argmax(-1) if xs.shape[-1] > 1 else (xs[..., 0] > 0.5).astype(int)
    seen = np.arange(len(xs))[:, None] * max(xs.shape[-1], 2) + symbols
    if targets.ndim == 2:
        targets = np.eye(task.output_size)[targets]
    rows = np.zeros((seen.max() + 1, targets.shape[-1]))
    np.add.at(rows, seen[mask], targets[mask])
    counts = np.bincount(seen[mask], minlength=len(rows))[:, None]
    p = rows / np.maximum(counts, 1)
    log = lambda p: np.log(np.maximum(p, 1e-300))
    entropy = -counts * p * log(p)
    if task.loss is losses.bernoulli_cross_entropy:
        entropy = entropy - counts * (1 - p) * log(1 - p)
    free = ((rows > 0) & (rows < counts)).sum()  # each lowers the entropy by half a nat at most
    error = check_mean_loss(case, task.chance(jnp.asarray(xs)), task.chance_loss)
    assert entropy.sum() / mask.sum() > task.chance_loss - free / mask.sum() - 3 * error - 1e-5


def test_chance_is_that_of_the_papers():
    for T, expected in {100: 0.17329, 200: 0.09452, 300: 0.06498, 500: 0.03999}.items():
        assert TASKS["copying"](T=T).chance_loss == pytest.approx(expected, abs=1e-5)
    assert TASKS["adding"]().chance_loss == pytest.approx(1 / 6, abs=1e-12)
    assert TASKS["temporal_order"]().chance_loss == pytest.approx(np.log(4))
    assert TASKS["temporal_order"](num_relevant=3).chance_loss == pytest.approx(np.log(8))
    memorization = TASKS["noiseless_memorization"]
    assert memorization(T=100).chance_loss == pytest.approx(5 * np.log(2) / 100)
    twenty = memorization(T=100, length=10, num_symbols=5)
    assert twenty.chance_loss == pytest.approx(10 * np.log(5) / 100)


def test_how_near_counts_as_right():
    task = TASKS["adding"](T=5, batch_size=2, dtype=jnp.float64)
    xs, targets = task.batch(KEY, 0)
    near = targets + jnp.array([0.0399, -0.0401])[:, None]
    np.testing.assert_array_equal(task.solved(near, xs, targets), [True, False])
    lorenz = task_of("lorenz")
    xs, targets = (values[:, :2] for values in drawn("lorenz"))
    near = targets + jnp.array([0.0495, 0.0505], jnp.float32)[:, None]
    np.testing.assert_array_equal(lorenz.solved(near, xs, targets), [True, False])
    once = targets.at[15].add(0.2)  # among twenty that are right: 0.2² / 20 < 0.05²
    assert lorenz.solved(once, xs, targets).all()
    assert not lorenz.correct(once, targets)[15].any()


def test_a_tie_is_no_answer():
    xs, targets = jnp.zeros((1, 2, 1)), jnp.array([[0, 1]])
    task = Task(1, 2, losses.softmax_cross_entropy, lambda key, step: (xs, targets))
    assert not task.solved(jnp.zeros((1, 2, 2)), xs, targets).any()
    assert np.isnan(task.chance_loss)
    assert task.chance is None
    assert task.mask(xs, targets).all()


def test_outputs_of_another_shape_are_refused():
    task, (xs, targets) = task_of("adding"), drawn("adding")
    for judge in (task.mean_loss, task.solved):
        with pytest.raises(ValueError, match=r"ys: got .*; expected .*\. Pass the outputs"):
            judge(jnp.zeros((12, B, 2), jnp.float32), xs, targets)
    regression = Task(1, 1, losses.mean_squared_error, lambda key, step: None)
    with pytest.raises(ValueError, match=r"target: got .*; expected classes"):
        regression.solved(jnp.zeros((3, 1, 1)), jnp.zeros((3, 1, 1)), jnp.zeros((3, 1, 1)))


@pytest.mark.parametrize("case", ["adding", "s5", "dyck", "mackey_glass"])
def test_a_batch_is_drawn(case):
    figure = task_of(case, batch_size=3).show(KEY)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4
    assert figure.axes[0].get_title().startswith(CASES[case][0].replace("_", " "))
    with pytest.raises(ValueError, match="key: got"):
        task_of(case).show(3)
