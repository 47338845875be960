"""Windows of the decomposition, long lags, and values that cannot be trusted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.helpers import normal
from tests.lawful_cells import structured_cell, user_cell

T, I, O = 9, 3, 2
BOTH = ("steps", "examples")


def relu(H, dtype):
    return cells.elman(H, "relu", dtype=dtype)


def network(make=cells.lstm, dtype=jnp.float64):
    cell = cells.readout(make(4, dtype=dtype), O)
    return cell, cell.init(jax.random.key(0), I)


def sequences(*batch):
    return normal(1, T, *batch, I), normal(2, T, *batch, O)


@functools.cache
def program(tool, make=cells.lstm, **options):
    """`tool(xs, targets)` of the network, squared error: one program for all tests and values."""
    cell, params = network(make)
    run = jax.jit(lambda p, x, y: tool(cell, p, x, y, losses.squared_error, **options))
    return functools.partial(run, params)


decomposition = functools.partial(program, gradients.decompose)
windows = functools.partial(program, gradients.decompose_windows)


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


def means(full, max_lag, over):
    """The means of norms that a window of `max_lag` must give, by the full decomposition."""
    lags = np.arange(max_lag + 1)
    steps = len(full.state_log_norms)
    for i, logs in enumerate(both(full, max_lag)):
        norms = np.exp(logs)
        if "steps" in over:
            # The initial state has one term more at each lag but 0.
            count = np.maximum(steps - lags + (lags > 0 if i == 0 else 0), 1)
            norms = norms.sum(0) / count.reshape(-1, *[1] * (norms.ndim - 2))
        yield norms.mean((-1, -2)) if "examples" in over else norms


@pytest.mark.parametrize(
    ("max_lag", "batch"), [(1, (2,)), (4, ()), (T - 1, (2,)), (T, (2,)), (T + 3, (2,))]
)
def test_windows_are_the_table_by_lag(max_lag, batch):
    full = decomposition()(*sequences(*batch))
    parts = windows(max_lag=max_lag)(*sequences(*batch))
    for got, expected in zip(windows_of(parts), both(full, max_lag), strict=True):
        assert got.shape == (T, max_lag + 1, *batch)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("max_lag", "over"),
    [(3, ("steps",)), (3, ("examples",)), (3, BOTH), (T + 1, ("steps",)), (T + 1, BOTH)],
)
def test_means_are_means_of_norms(max_lag, over):
    full = decomposition()(*sequences(2, 3))
    parts = windows(max_lag=max_lag, mean_over=over)(*sequences(2, 3))
    for got, expected in zip(windows_of(parts), means(full, max_lag, over), strict=True):
        np.testing.assert_allclose(np.exp(got), expected, rtol=1e-11)


@pytest.mark.parametrize("lag", [3000, pytest.param(10_000, marks=pytest.mark.all_cells)])
def test_nothing_underflows_at_any_lag(lag):
    """h = c h + x at its fixed point, float32: ∂E_t/∂h_k = c^(t−k), to 1e-3010 at lag 10,000."""
    steps = lag + 1

    def step(c, h, x):
        h = c * h + x
        return h, h

    c, fixed_point = jnp.float32(0.5), jnp.full(1, 2, jnp.float32)
    cell = cells.from_function(step, fixed_point, lambda key, I: c)
    xs = jnp.ones((steps, 1), jnp.float32)
    at_last = (jnp.arange(steps) == steps - 1).astype(jnp.float32)

    # One loss alone has a gradient, so that the mean over steps is its norm over their number.
    run = jax.jit(
        lambda c: gradients.decompose_windows(
            cell, c, xs, at_last, lambda y, on: y[0] * on, max_lag=lag, mean_over=("steps",)
        ),
        compiler_options={"xla_backend_optimization_level": 2},  # here, running takes the time
    )
    parts = run(c)
    lags = np.arange(steps)
    decay, states = lags * np.log(0.5), steps - lags + (lags > 0)
    np.testing.assert_allclose(parts.state_log_norms, decay - np.log(states), rtol=1e-6)
    of_c = np.log(2) + decay - np.log(steps - lags)
    np.testing.assert_allclose(parts.param_log_norms, of_c, rtol=1e-6)


def test_any_loss_by_weights_among_the_targets():
    """The loss of the last step alone, from targets that are a pytree."""
    cell, params = network()
    xs, targets = sequences(2)
    weights = jnp.zeros((T, 2)).at[-1].set(1)

    def loss(y, at_t):
        return at_t["weight"] * losses.squared_error(y, at_t["target"])

    weighted = {"target": targets, "weight": weights}
    run = jax.jit(lambda p, x, y: gradients.decompose(cell, p, x, y, loss))
    parts, every = run(params, xs, weighted), decomposition()(xs, targets)
    for got, expected in zip(*map(jax.tree.leaves, (parts, every)), strict=True):
        assert jnp.isneginf(got[:-1]).all()
        np.testing.assert_allclose(got[-1], expected[-1], rtol=1e-13)


def untrusted(bad, offset):
    """[t, k] whose way from k to t passes the bad state; states and steps are counted apart."""
    t, k = np.arange(T)[:, None], np.arange(T + offset)[None, :]
    return (k <= bad) & (bad <= t + 1) & (k <= t + offset)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("make", [cells.lstm, relu])
def test_a_state_that_is_not_finite_is_nan_in_all_that_passes_it(make, value):
    """An infinite input at step 4: state 5 or its slopes break. Others are what they were."""
    cell, params = network(make)
    xs, targets = sequences(2)
    broken_xs = xs.at[4, 0, 0].set(value)
    clean = decomposition(make)(xs, targets)
    broken = decomposition(make)(broken_xs, targets)
    window = windows(make, max_lag=3)(broken_xs, targets)
    mean = windows(make, max_lag=3, mean_over=BOTH)(broken_xs, targets)
    terms = program(gradients.decompose_terms, make)(broken_xs[:, 0], targets[:, 0])
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
    for got, expected in zip(windows_of(window), both(one, 3), strict=True):
        np.testing.assert_allclose(got[..., 0], expected, rtol=1e-12)
    assert all(np.isnan(leaf).all() for leaf in windows_of(mean)) == bool(bad)


def test_a_shut_unit_does_not_hide_nan():
    """tanh′ and a ReLU's slope make zero of NaN; the table says NaN all the same."""

    def step(p, h, x):
        h = jax.nn.relu(p * h + x)
        return h, h

    cell = cells.from_function(step, jnp.zeros(1), lambda key, I: jnp.asarray(0.9))
    xs = jnp.ones((6, 1)).at[1].set(-5.0).at[4].set(jnp.inf)
    run = lambda p: gradients.decompose(cell, p, xs, jnp.zeros((6, 1)), losses.squared_error)
    parts = jax.jit(run)(jnp.asarray(0.9))
    table = np.asarray(parts.state_log_norms)
    assert np.isneginf(table[3, 1])  # the unit is off at step 1, and so is the gradient
    assert np.isnan(table[4, :6]).all()
    assert np.isnan(table[5]).all()
    assert not np.isnan(table[:4]).any()
    assert np.isnan(np.asarray(parts.param_log_norms)[5]).all()


def test_a_target_that_is_not_finite_is_nan_in_its_own_row():
    xs, targets = sequences(2)
    parts = decomposition()(xs, targets.at[3].set(jnp.nan))
    for table in jax.tree.leaves(parts):
        below = np.arange(table.shape[1]) <= 3
        assert np.isnan(table[3, below]).all()
        assert not np.isnan(np.delete(np.asarray(table), 3, 0)).any()


def lstm(dtype):
    return network(dtype=dtype)[0]


@pytest.mark.parametrize("make", [user_cell, structured_cell, lstm])
def test_float32_windows_agree_with_float64(make):
    exact = make(jnp.float64).init(jax.random.key(0), I)

    def parts(dtype):
        cell, params = make(dtype), jax.tree.map(lambda leaf: leaf.astype(dtype), exact)
        xs = normal(1, 40, I).astype(dtype)
        y = jax.eval_shape(cell.step, params, cell.initial_state(params), xs[0])[1]
        targets = normal(2, 40, *y.shape).astype(dtype)
        run = lambda p: gradients.decompose_windows(
            cell, p, xs, targets, losses.squared_error, max_lag=12
        )
        return jax.jit(run)(params)

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


def test_what_is_far_below_the_leading_direction_is_not_lost_when_that_dies():
    """Units that halve, quarter and stay, float32; step 0 kills those that have not shrunk."""
    T, rates = 200, jnp.array([1.0, 0.5, 0.25], jnp.float32)

    def step(p, h, x):
        h = p["w"] * h * x[:3]
        return h, h

    cell = cells.from_function(step, jnp.ones(3, jnp.float32))
    xs, targets = jnp.ones((T, 3), jnp.float32), jnp.zeros((T, 3), jnp.float32)
    last = lambda y, t: jnp.vdot(y, t)
    targets = targets.at[-1].set(1)

    @jax.jit
    def measured(xs):
        full = gradients.decompose(cell, {"w": rates}, xs, targets, last)
        window = gradients.decompose_windows(cell, {"w": rates}, xs, targets, last, max_lag=T)
        return full, window.state_log_norms[-1], window.param_log_norms["w"][-1]

    for dead, rate in ((0, 1.0), (1, 0.5), (2, 0.25)):
        full, window, terms = measured(xs.at[0, :dead].set(0.0))
        lags = np.arange(T)
        for found in (full.state_log_norms[-1, :0:-1], window[:T]):
            expected = np.log(np.linalg.norm([[0.25**n, 0.5**n, 1] for n in lags], axis=1))
            np.testing.assert_allclose(found, expected, atol=1e-5)
        for at_start in (full.state_log_norms[-1, 0], window[T]):
            np.testing.assert_allclose(
                at_start, T * np.log(rate) if dead else 0, rtol=1e-5, atol=1e-5
            )
        # θ's term of step 0 is ∂E/∂h_1 · h_0 x_0: of what is alive there.
        for term in (full.param_log_norms["w"][-1, 0], terms[T - 1]):
            np.testing.assert_allclose(term, (T - 1) * np.log(rate), rtol=1e-5, atol=1e-5)
