"""What the tools for products of Jacobians say of their own accuracy, held against the truth."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, gradients
from rnn_jax.gradients import jacobian_log_norms, jacobian_log_norms_by_lag
from tests.gradients.jacobians.test_jacobian_products import given_jacobians, log_singular_values
from tests.helpers import normal

T, S = 24, 6


def ensembles():
    """Products of T float32 matrices that cancel in ever worse ways."""
    rng = np.random.default_rng(5)
    Q = np.linalg.qr(rng.normal(size=(S, S)))[0]
    gaussian = lambda: rng.normal(size=(T, S, S)) / S**0.5
    rank_two = rng.normal(size=(S, 2)) @ rng.normal(size=(2, S))
    # What one product on the way loses, two more make three times as bad.
    other = np.random.default_rng(190)
    cancelling = other.normal(size=(S, 2)) @ other.normal(size=(2, S))
    graded = np.diag(10.0 ** -np.arange(S))
    close = np.diag([1, 1 - 1e-6, 1 - 2e-6, 0.5, 0.4, 0.3])
    return {
        "gaussian": gaussian(),
        "exploding": 1e3 * gaussian(),
        "vanishing": 1e-12 * gaussian(),
        "orthogonal": np.stack([Q] * T),
        "triangular": np.triu(rng.normal(size=(T, S, S))),
        "relu": gaussian() * (rng.random((T, 1, S)) < 0.8),
        "rank two": np.stack([rank_two] * T),
        "rank two, cancelling": np.stack([cancelling] * T),
        "graded": np.stack([Q @ graded @ Q.T] * T),
        "nearly degenerate": np.stack([Q @ close @ Q.T] * T),
        "nilpotent": np.stack([Q @ np.eye(S, k=1) @ Q.T] * T),
        "saturated": gaussian() * np.where(rng.random((T, S, 1)) < 0.3, 1e-30, 1),
    }


LAGS, TIMES = [1, 2, 5, 6, 7, 13, T], [T, 15]


@pytest.fixture(scope="module")
def measured():
    """All of them through one program: `(table, by lag, by lag at times)` of each."""

    @jax.jit
    def tools(J):
        cell, J, xs = given_jacobians(J)
        by_lag = lambda times: jacobian_log_norms_by_lag(cell, J, xs, lags=LAGS, times=times)
        return gradients.certified_log_norms(J), by_lag(None), by_lag(TIMES)

    return {name: tools(jnp.asarray(J, jnp.float32)) for name, J in ensembles().items()}


@pytest.mark.parametrize("name", ensembles())
def test_the_truth_lies_within_the_error(measured, name):
    J = np.asarray(ensembles()[name], np.float32)
    with np.errstate(all="ignore"):
        truth = log_singular_values(J)[..., 0] if name != "nilpotent" else exact_log_norms(J)
    t, lag = np.arange(T + 1)[:, None], np.array(LAGS)
    of_lags = np.where(lag <= t, truth[t, np.maximum(t - lag, 0)], np.nan)
    expected = truth, of_lags, of_lags[TIMES]
    for found, true in zip(measured[name], expected, strict=True):
        value, error = (np.asarray(x, np.float64) for x in found)
        there = np.isfinite(true)
        with np.errstate(invalid="ignore"):
            off = np.where(np.isneginf(value), np.inf, np.abs(value - true))[there]
        assert (off <= error[there]).all()
        if name not in ("nilpotent", "saturated", "rank two, cancelling"):  # and it is of use
            assert np.median(error[there]) < 2e-3
        np.testing.assert_array_equal(np.isnan(value), np.isnan(true))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_says_what_it_costs(dtype):
    J = jnp.asarray(ensembles()["gaussian"], dtype)
    truth = log_singular_values(J.astype(float))[..., 0]
    cell, J, xs = given_jacobians(J)
    by_lag = lambda times: jacobian_log_norms_by_lag(cell, J, xs, lags=LAGS, times=times)
    found = jax.jit(lambda: (gradients.certified_log_norms(J), by_lag(None), by_lag(TIMES)))()
    t, lag = np.arange(T + 1)[:, None], np.array(LAGS)
    of_lags = np.where(lag <= t, truth[t, np.maximum(t - lag, 0)], np.nan)
    for (value, error), true in zip(found, (truth, of_lags, of_lags[TIMES]), strict=True):
        assert value.dtype == error.dtype == dtype
        value, error, there = np.asarray(value, float), np.asarray(error, float), np.isfinite(true)
        assert (np.abs(value[there] - true[there]) <= error[there]).all()
    spectra = gradients.singular_spectra(cell, J, xs, lags=[2], times=[T])
    true = log_singular_values(J.astype(float))[T, T - 2]
    values, rounding = (np.asarray(x[0, 0], float) for x in (spectra.log_values, spectra.rounding))
    assert (np.abs(values - true) <= rounding).all()


def exact_log_norms(J):
    """By rational numbers: `[T+1, T+1]` of one matrix, T times."""
    W = np.array([[Fraction(float(x)) for x in row] for row in J[0]])
    by_lag, P = [0.0], W
    for _ in range(len(J)):
        top = max(abs(x) for x in P.ravel())
        scaled = np.array([[float(x / top) for x in row] for row in P])
        log_top = log_of(top)
        by_lag.append(np.log(np.linalg.norm(scaled, 2)) + log_top)
        P = W.dot(P)
    lag = np.subtract.outer(np.arange(len(J) + 1), np.arange(len(J) + 1))
    return np.where(lag >= 0, np.array(by_lag)[np.maximum(lag, 0)], -np.inf)


def log_of(fraction):
    """ln of a ratio of integers of any size."""
    bits = lambda n: max(n.bit_length() - 60, 0)
    a, b = fraction.numerator, fraction.denominator
    more = bits(a) - bits(b)
    return np.log(a >> bits(a)) - np.log(b >> bits(b)) + more * np.log(2)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_what_a_dying_direction_overshadowed(dtype):
    """Units of factors 1, 2^-1, 2^-7: the first two are switched off, late, early or in between."""
    steps = 40 if dtype == jnp.float32 else 200
    cell = cells.indrnn(3, dtype=dtype)
    off = jnp.asarray([[-1e6], [0], [0]], dtype), jnp.asarray([[0], [-1e6], [0]], dtype)
    params = cell.init(jax.random.key(0), 2).replace(
        w=jnp.asarray([1, 0.5, 2.0**-7], dtype), U=jnp.concatenate(off, 1), b=jnp.ones(3, dtype)
    )

    @jax.jit
    def tools(xs):
        by_lag = {"lags": [steps]}
        return (
            jacobian_log_norms(cell, params, xs)[steps, 0],
            jacobian_log_norms(cell, params, xs, norm="frobenius")[steps, 0],
            jacobian_log_norms_by_lag(cell, params, xs, **by_lag).value[steps, 0],
            jacobian_log_norms_by_lag(cell, params, xs, **by_lag, times=[steps]).value[0, 0],
        )

    for first, second in ((0, steps - 1), (steps - 1, 0), (steps // 2, steps // 2), (3, 3)):
        xs = jnp.zeros((steps, 2), dtype).at[first, 0].set(1).at[second, 1].set(1)
        np.testing.assert_allclose(tools(xs), -7 * steps * np.log(2), rtol=1e-5)


def test_a_trajectory_that_is_not_finite_has_no_norms_there_and_all_others():
    """A NaN in the input of step 4, in one example of two; a relu hides it from the derivative."""
    cell = cells.elman(3, "relu", dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1).replace(W=jnp.eye(3))
    xs = jnp.ones((9, 2, 1)).at[4, 1].set(jnp.nan)
    t, k = np.indices((10, 10))
    unknown = (t > 4) & (k < t)
    times = [3, 4, 5, 9]

    @jax.jit
    def tools(params):
        J = gradients.step_jacobians(cell, params, xs)
        by_lag = lambda at: jacobian_log_norms_by_lag(cell, params, xs, lags=[0, 2], times=at)
        tables = (
            gradients.product_log_norms(J, norm="frobenius"),
            gradients.certified_log_norms(J).error,
            gradients.check_bounds(cell, params, xs)["product"].measured,
        )
        return tables, by_lag(None), by_lag(times)

    tables, everywhere, at_times = tools(params)
    for table in tables:
        assert np.isfinite(np.asarray(table[..., 0])[t >= k]).all()
        np.testing.assert_array_equal(np.isnan(table[..., 1]), unknown)
    for found, at in ((everywhere, np.arange(10)), (at_times, np.array(times))):
        expected = np.stack([at < 0, (at < 2) | (at > 4)], 1)
        for part in found:
            np.testing.assert_array_equal(np.isnan(part[..., 1]), expected)
            np.testing.assert_array_equal(np.isnan(part[..., 0]), np.stack([at < 0, at < 2], 1))


def test_vmap_is_one_member_after_the_other():
    cell = cells.elman(3, dtype=jnp.float64)
    xs = normal(1, 7, 2, 2)
    members = jax.vmap(lambda key: cell.init(key, 2))(jax.random.split(jax.random.key(0), 3))

    def tools(p):
        check = gradients.check_bounds(cell, p, xs)["product"]
        return (
            jacobian_log_norms_by_lag(cell, p, xs, lags=(1, 3)),
            jacobian_log_norms_by_lag(cell, p, xs, lags=(1, 3), times=[7]),
            (check.slack, check.violations),
        )

    together = jax.jit(jax.vmap(tools))(members)
    apart = jax.jit(lambda ps: jax.lax.map(tools, ps))(members)
    for one, other in zip(jax.tree.leaves(together), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_no_examples():
    cell = cells.elman(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = jnp.zeros((4, 0, 2))
    assert jacobian_log_norms(cell, params, xs).shape == (5, 5, 0)
    assert jacobian_log_norms_by_lag(cell, params, xs, lags=[1]).value.shape == (5, 1, 0)
    at_end = jacobian_log_norms_by_lag(cell, params, xs, lags=[1], times=[4])
    assert at_end.value.shape == (1, 1, 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_theorems_that_hold_are_not_reported_violated(dtype):
    """Networks at which bound and norm are equal but for rounding; and bounds that are too low."""
    cell = cells.elman(4, dtype=dtype)
    steps, members = 40, 40

    @jax.jit
    @jax.vmap
    def check(key):
        p_key, x_key = jax.random.split(key)
        params = cell.init(p_key, 2)
        xs = 1e-3 * jax.random.normal(x_key, (steps, 2), dtype)
        low = gradients.power_bound(jnp.asarray(1 - 1e-4, dtype), 1.0, steps)
        checks = gradients.check_bounds(cell, params, xs, also={"low": low})
        product = checks["product"]
        scaled = gradients.check_bound(
            product.measured, product.bound + jnp.log1p(jnp.asarray(-1e-4, dtype)), state_size=4
        )
        return {name: found.violations for name, found in checks.items()}, scaled.violations

    violations, scaled = check(jax.random.split(jax.random.key(0), members))
    pairs = steps * (steps + 1) // 2
    assert (violations.pop("low") > pairs // 2).all()
    assert (scaled >= steps).all()
    assert sum(found.sum() for found in violations.values()) == 0
