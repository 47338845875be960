"""Windows of the decomposition, long lags, and values that cannot be trusted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.gradients import sweep
from tests.conftest import normal, structured_cell, user_cell

T, I, O = 9, 3, 2


def network(make=cells.lstm, H=4, dtype=jnp.float64, **options):
    cell = cells.readout(make(H, dtype=dtype, **options), O)
    return cell, cell.init(jax.random.key(0), I)


def sequences(*batch, steps=T, dtype=jnp.float64):
    return normal(1, steps, *batch, I, dtype=dtype), normal(2, steps, *batch, O, dtype=dtype)


def by_lag(table, max_lag, offset=0):
    """[t, t + offset − l] of a full table `[T, T + offset, ..]`, for l = 0 .. max_lag."""
    table = np.asarray(table)
    rows = np.full((len(table), max_lag + 1, *table.shape[2:]), -np.inf)
    for t in range(len(table)):
        for lag in range(min(max_lag, t + offset) + 1):
            rows[t, lag] = table[t, t + offset - lag]
    return rows


def both(full, max_lag):
    """The full decomposition by lag: states, then parameters."""
    leaves = jax.tree.leaves(full.param_log_norms)
    return [by_lag(full.state_log_norms, max_lag, 1), *(by_lag(leaf, max_lag) for leaf in leaves)]


def windows_of(parts):
    return [parts.state_log_norms, *jax.tree.leaves(parts.param_log_norms)]


@pytest.mark.parametrize("max_lag", [1, 4, T - 1, T, T + 3])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_windows_are_the_table_by_lag(max_lag, batch):
    cell, params = network()
    xs, targets = sequences(*batch)
    arguments = cell, params, xs, targets, losses.squared_error
    full = gradients.decompose(*arguments)
    windows = gradients.decompose_windows(*arguments, max_lag=max_lag)
    for got, expected in zip(windows_of(windows), both(full, max_lag), strict=True):
        assert got.shape == (T, max_lag + 1, *batch)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("max_lag", [3, T + 1])
def test_means_are_means_of_norms(max_lag):
    cell, params = network()
    xs, targets = sequences(2, 3)
    arguments = cell, params, xs, targets, losses.squared_error
    norms = [np.exp(rows) for rows in both(gradients.decompose(*arguments), max_lag)]
    lags = np.arange(max_lag + 1)
    terms = np.maximum(T - lags, 1).reshape(-1, 1, 1)
    with_start = np.maximum(T - lags + (lags > 0), 1).reshape(-1, 1, 1)
    for mean_over in (("steps",), ("examples",), ("steps", "examples")):
        parts = gradients.decompose_windows(*arguments, max_lag=max_lag, mean_over=mean_over)
        for i, (got, rows) in enumerate(zip(windows_of(parts), norms, strict=True)):
            expected = rows
            if "steps" in mean_over:
                expected = rows.sum(0) / (with_start if i == 0 else terms)
            if "examples" in mean_over:
                expected = expected.mean((-1, -2))
            np.testing.assert_allclose(jnp.exp(got), expected, rtol=1e-11)


def test_stretches_of_a_long_sweep_change_nothing(monkeypatch):
    """Long sequences are swept in stretches with as many rows as losses; short ones are not."""
    cell, params = network(H=2)
    xs, targets = sequences(2, steps=21)
    arguments = cell, params, xs, targets, losses.squared_error
    whole = gradients.decompose(*arguments), gradients.decompose_windows(*arguments, max_lag=13)
    edges = lambda T, max_lag: [(15, T), (7, 15), (0, 7)]
    monkeypatch.setattr(sweep, "_stretches", edges)
    parts = gradients.decompose(*arguments), gradients.decompose_windows(*arguments, max_lag=13)
    for got, expected in zip(*map(jax.tree.leaves, (parts, whole)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    mean = gradients.decompose_windows(*arguments, max_lag=13, mean_over=("steps", "examples"))
    norms = np.exp(whole[1].state_log_norms).sum(0).mean(-1)
    counts = 21 - np.arange(14) + (np.arange(14) > 0)
    np.testing.assert_allclose(np.exp(mean.state_log_norms), norms / counts, rtol=1e-11)


@pytest.mark.parametrize(("T", "max_lag"), [(7, 7), (255, 255), (700, 700), (700, 400), (900, 10)])
def test_stretches_cover_every_step_once(T, max_lag):
    edges = sweep._stretches(T, max_lag)
    assert [step for a, b in edges for step in reversed(range(a, b))] == [*reversed(range(T))]
    assert len(edges) <= 4


def test_nothing_underflows_at_lag_10000():
    """W = c I, identity, float32: ‖∂E_t/∂h_{t−l}‖ = cˡ ‖∂E_t/∂h_t‖, past 1e-3000."""
    c, steps = 0.5, 10_001
    cell = cells.readout(cells.elman(2, "identity"), 1)
    params = cell.init(jax.random.key(0), I)
    inner = params.cell.replace(W=c * jnp.eye(2, dtype=jnp.float32))
    params = params.replace(cell=inner)
    xs = normal(1, steps, I, dtype=jnp.float32)
    at_last = jnp.arange(steps) == steps - 1
    loss = lambda y, on: y[0] * on

    # One loss alone has gradient: the table of one t, from windows that reach to the beginning.
    run = jax.jit(
        lambda p: gradients.decompose_windows(
            cell, p, xs, at_last.astype(jnp.float32), loss, max_lag=20, mean_over=("steps",)
        )
    )
    windows = run(params).state_log_norms
    lags = np.arange(21)
    counts = steps - lags + (lags > 0)
    norm = np.log(np.linalg.norm(params.V))
    np.testing.assert_allclose(windows, norm + lags * np.log(c) - np.log(counts), rtol=1e-5)

    jacobian_step = gradients.decompose_windows(
        cell, params, xs[:3000], at_last[-3000:].astype(jnp.float32), loss, max_lag=3000
    )
    last = jacobian_step.state_log_norms[-1]
    np.testing.assert_allclose(last, norm + np.arange(3001) * np.log(c), rtol=1e-5)


def test_any_loss_by_weights_among_the_targets():
    """The loss of the last step alone, from targets that are a pytree."""
    cell, params = network()
    xs, targets = sequences(2)
    weights = jnp.zeros((T, 2)).at[-1].set(1)

    def loss(y, at_t):
        return at_t["weight"] * losses.squared_error(y, at_t["target"])

    both = {"target": targets, "weight": weights}
    parts = gradients.decompose(cell, params, xs, both, loss)
    every = gradients.decompose(cell, params, xs, targets, losses.squared_error)
    for got, expected in zip(*map(jax.tree.leaves, (parts, every)), strict=True):
        assert jnp.isneginf(got[:-1]).all()
        np.testing.assert_allclose(got[-1], expected[-1], rtol=1e-13)


def untrusted(bad, offset):
    """[t, k] whose way from k to t passes the bad state; states and steps are counted apart."""
    t, k = np.arange(T)[:, None], np.arange(T + offset)[None, :]
    return (k <= bad) & (bad <= t + 1) & (k <= t + offset)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("make", [cells.lstm, lambda H, dtype: cells.elman(H, "relu", dtype=dtype)])
def test_a_state_that_is_not_finite_is_nan_in_all_that_passes_it(make, value):
    """An infinite input at step 4: state 5 or its slopes break. Others are what they were."""
    cell, params = network(make)
    xs, targets = sequences(2)
    arguments = targets, losses.squared_error
    clean = gradients.decompose(cell, params, xs, *arguments)
    broken_xs = xs.at[4, 0, 0].set(value)
    broken = gradients.decompose(cell, params, broken_xs, *arguments)
    windows = gradients.decompose_windows(cell, params, broken_xs, *arguments, max_lag=3)
    terms = gradients.decompose_terms(cell, params, broken_xs[:, 0], targets[:, 0], arguments[1])
    before = np.arange(T) < 4
    for table, expected in zip(*map(jax.tree.leaves, (broken, clean)), strict=True):
        np.testing.assert_array_equal(table[..., 1], expected[..., 1])
        np.testing.assert_array_equal(table[before, ..., 0], expected[before, ..., 0])
    # What the network makes of it decides which states are not finite; where none is, no NaN.
    states = jax.vmap(lambda s: jax.flatten_util.ravel_pytree(s)[0])(
        rnn_jax.trajectory(cell, params, broken_xs[:, 0])
    )
    bad = [int(i) for i in np.flatnonzero(~np.isfinite(states).all(1))]
    lost = lambda offset: np.any([untrusted(i, offset) for i in bad] or [[[False]]], axis=0)
    if np.isnan(value):
        assert 5 in bad
    for table, offset in (
        (broken.state_log_norms, 1),
        *((leaf, 0) for leaf in jax.tree.leaves(broken.param_log_norms)),
    ):
        passes = lost(offset) & np.ones(table.shape[:2], bool)
        assert np.isnan(table[..., 0][passes]).all()
        impossible = np.triu_indices(T, 1 + offset, T + offset)
        assert np.isneginf(table[..., 0][impossible]).all()
    for leaf in jax.tree.leaves(terms):
        assert np.isnan(leaf[lost(0) & np.ones((T, T), bool)]).all()
        assert (leaf[np.triu_indices(T, 1)] == 0).all()
    one = jax.tree.map(lambda leaf: leaf[..., 0], broken)
    for got, expected in zip(windows_of(windows), both(one, 3), strict=True):
        np.testing.assert_allclose(got[..., 0], expected, rtol=1e-12)
    mean = gradients.decompose_windows(
        cell, params, broken_xs, *arguments, max_lag=3, mean_over=("steps", "examples")
    )
    assert all(np.isnan(leaf).all() for leaf in windows_of(mean)) == bool(bad)


def test_a_shut_unit_does_not_hide_nan():
    """tanh′ and a ReLU's slope make zero of NaN; the table says NaN all the same."""

    def step(p, h, x):
        h = jax.nn.relu(p * h + x)
        return h, h

    cell = cells.from_function(step, jnp.zeros(1), lambda key, I: jnp.asarray(0.9))
    params, xs = jnp.asarray(0.9), jnp.ones((6, 1)).at[1].set(-5.0).at[4].set(jnp.inf)
    parts = gradients.decompose(cell, params, xs, jnp.zeros((6, 1)), losses.squared_error)
    table = np.asarray(parts.state_log_norms)
    assert np.isneginf(table[3, 1])  # the unit is off at step 1, and so is the gradient
    assert np.isnan(table[4, :6]).all()
    assert np.isnan(table[5]).all()
    assert not np.isnan(table[:4]).any()
    assert np.isnan(np.asarray(parts.param_log_norms)[5]).all()


def test_a_target_that_is_not_finite_is_nan_in_its_own_row():
    cell, params = network()
    xs, targets = sequences()
    parts = gradients.decompose(cell, params, xs, targets.at[3].set(jnp.nan), losses.squared_error)
    for table in jax.tree.leaves(parts):
        below = np.arange(table.shape[1]) <= 3
        assert np.isnan(table[3, below]).all()
        assert not np.isnan(np.delete(np.asarray(table), 3, 0)).any()


@pytest.mark.parametrize("make", [user_cell, structured_cell, network])
def test_float32_windows_agree_with_float64(make):
    def parts(dtype):
        made = make(dtype=dtype)
        cell, params = made if isinstance(made, tuple) else (made, made.init(jax.random.key(0), I))
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), of_double(make))
        xs = normal(1, 40, I).astype(dtype)
        y = jax.eval_shape(cell.step, params, cell.initial_state(params), xs[0])[1]
        targets = normal(2, 40, *y.shape).astype(dtype)
        run = lambda p: gradients.decompose_windows(
            cell, p, xs, targets, losses.squared_error, max_lag=12
        )
        return jax.jit(run)(params)

    def of_double(make):
        made = make()
        return made[1] if isinstance(made, tuple) else made.init(jax.random.key(0), I)

    single, double = parts(jnp.float32), parts(jnp.float64)
    for got, expected in zip(*map(jax.tree.leaves, (single, double)), strict=True):
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("bad", [0, -1, 2.0, True])
def test_bad_max_lag(bad):
    cell, params = network()
    xs, targets = sequences()
    with pytest.raises(ValueError, match="max_lag: got"):
        gradients.decompose_windows(cell, params, xs, targets, losses.squared_error, max_lag=bad)


@pytest.mark.parametrize("bad", ["steps", ("seeds",)])
def test_bad_mean(bad):
    cell, params = network()
    xs, targets = sequences()
    with pytest.raises(ValueError, match="mean_over: got"):
        gradients.decompose_windows(
            cell, params, xs, targets, losses.squared_error, max_lag=2, mean_over=bad
        )
