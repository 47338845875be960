"""Mackey-Glass and Lorenz against SciPy's integrators, and what their tasks make of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from rnn_jax.tasks import _lorenz, _mackey_glass, lorenz, mackey_glass

ACCURATE = {"method": "DOP853", "rtol": 1e-12, "atol": 1e-13}


@functools.cache
def mackey_glass_by_scipy(start, tau, intervals):
    """x at 0, 1, ..., each interval of length τ solved with the dense output of the one before."""
    past, x, found = (lambda t: start), start, []
    for n in range(intervals):

        def velocity(t, x, past=past):
            delayed = past(t - tau)
            return 0.2 * delayed / (1 + delayed**10) - 0.1 * x

        times = np.arange(n * tau, (n + 1) * tau)
        solved = solve_ivp(
            velocity, (n * tau, (n + 1) * tau), [x], dense_output=True, max_step=0.5, **ACCURATE
        )
        found.append(solved.sol(times)[0])
        past, x = (lambda t, sol=solved.sol: sol(t)[0]), solved.y[0, -1]
    return np.concatenate(found)


def test_mackey_glass_is_that_of_scipy():
    expected = mackey_glass_by_scipy(0.7, 17, 8)
    run = jax.jit(_mackey_glass.integrate, static_argnums=(1, 2, 3))
    x = run(jnp.float64(0.7), 17, 136, 10)
    np.testing.assert_allclose(x, expected, rtol=0, atol=1e-7)
    # Of fourth order: half the step has a sixteenth of the error.
    errors = [np.abs(run(jnp.float64(0.7), 17, 136, n) - expected).max() for n in (2, 4, 8)]
    assert errors[0] / errors[1] > 10
    assert errors[1] / errors[2] > 10
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(run(jnp.float64(0.7), 16, 136, 10), expected, atol=1e-2)


def test_lorenz_is_that_of_scipy():
    def velocity(t, at):
        x, y, z = at
        return 10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z

    times = 0.02 * np.arange(150)
    solved = solve_ivp(velocity, (0, 3), [1.0, 2.0, 20.0], t_eval=times, **ACCURATE)
    run = jax.jit(_lorenz.integrate, static_argnums=(1, 2, 3))
    start = jnp.array([1.0, 2.0, 20.0])
    np.testing.assert_allclose(run(start, 150, 0.02, 4), solved.y.T, rtol=0, atol=1e-4)
    errors = [np.abs(run(start, 50, 0.02, n) - solved.y.T[:50]).max() for n in (1, 2, 4)]
    assert errors[0] / errors[1] > 10
    assert errors[1] / errors[2] > 10


@pytest.mark.parametrize(
    ("make", "integrated"),
    [
        (mackey_glass, lambda x: (x - _mackey_glass.MEAN) / _mackey_glass.DEVIATION),
        (lorenz, lambda x: x / _lorenz.DEVIATION),
    ],
)
def test_forecasts_of_a_standardized_series(make, integrated):
    task = make(T=400, horizon=7, washout=30, batch_size=64)
    xs, targets = jax.jit(task.batch)(jax.random.key(0), 0)
    np.testing.assert_array_equal(xs[7:], targets[:-7])
    mask = task.mask(xs, targets)
    assert not mask[:30].any()
    assert mask[30:].all()
    assert np.abs(np.mean(xs)) < 0.1
    assert np.std(xs) == pytest.approx(1, abs=0.06)
    # Examples are at different points of the attractor.
    assert np.abs(np.corrcoef(np.asarray(xs[:, :8, 0]).T) - np.eye(8)).max() < 0.95
    assert task.chance is None
    assert np.isnan(task.chance_loss)
    assert float(task.mean_loss(jnp.zeros_like(xs), xs, targets)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("make", [mackey_glass, lorenz])
def test_chance_one_step_ahead_is_as_it_was_measured(make):
    """Over 10,000 sequences, within three standard errors; and no polynomial of x_t is better."""
    task = make(batch_size=2000)
    batches = [jax.jit(task.batch)(jax.random.key(9), i) for i in range(5)]
    xs, targets = (np.concatenate(part, 1)[100:, :, 0] for part in zip(*batches, strict=True))
    ys = np.asarray(task.chance(jnp.asarray(xs)[..., None]))[..., 0]
    each = np.square(ys.astype(float) - targets).mean(0)
    error = each.std() / len(each) ** 0.5
    assert len(each) == 10_000
    assert abs(each.mean() - task.chance_loss) < 3 * error
    assert 100 * error < task.chance_loss
    fitted = np.polynomial.Polynomial.fit(xs.ravel(), targets.ravel(), 15)
    best = np.square(fitted(xs.astype(float)) - targets).mean()
    assert each.mean() < best + 1e-5
    for other in ({"horizon": 2}, {"T": 400}, {"washout": 0}, {"tau": 20}):
        if make is mackey_glass or "tau" not in other:
            assert make(**other).chance is None
            assert np.isnan(make(**other).chance_loss)


def test_the_whole_task_is_scipys_series():
    """The task's own first steps, from the history that its key draws."""
    task = mackey_glass(T=3, batch_size=1, dtype=jnp.float64, washout=0)
    key = jax.random.key(5)
    xs, _ = jax.jit(task.batch)(key, 2)
    (of_example,) = jax.random.split(jax.random.fold_in(key, 2), 1)
    start = float(jax.random.uniform(of_example, (), jnp.float64, 0.5, 1.5))
    x = _mackey_glass.integrate(jnp.float64(start), 17, 1003)[1000:]
    np.testing.assert_allclose(xs[:, 0, 0], (x - 0.93) / 0.227, atol=1e-6)
