"""Bounds that keep the blocks of a state apart hold, are reached, and fail when they are wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, gradients
from rnn_jax.gradients import check_bound, gated_bound, gru_matrix, lstm_matrix
from rnn_jax.gradients.bounds.comparison_matrices import comparison_matrix
from rnn_jax.gradients.step import linearized_step
from rnn_jax.gradients.step.step_jacobian import FedBack, StepJacobian, UnitBlocks
from rnn_jax.linalg.norms_of_sums import norm_of_sum, root_norm
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE, LAWFUL

T, H = 12, 6


@jax.jit
def of_lstm(params, start, input_bound, steps=jnp.inf):
    return lstm_matrix(params, input_bound=input_bound, initial_state=start, steps=steps)


@jax.jit
def of_gru(params, start, input_bound, steps=None):
    return gru_matrix(params, input_bound=input_bound, initial_state=start)


GATED = {"lstm": of_lstm, "gru": of_gru, "gru_reset_before": of_gru}
bound_of = jax.jit(gated_bound, static_argnums=1)


def problem(name, gain=1.0, *batch, size=H):
    cell = cells.CELLS[name](size, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    # Trained weights are larger than initial ones, and biases are not zero.
    params = jax.tree.map(lambda leaf: gain * (leaf + 0.1 * normal(3, *leaf.shape)), params)
    return cell, params, jnp.tanh(normal(1, T, *batch, INPUT_SIZE))


def products(J):
    """All ∂s_t/∂s_k of one example, in NumPy: `[T+1, T+1, S, S]`."""
    J = np.asarray(J)
    table = np.zeros((len(J) + 1, len(J) + 1, *J.shape[1:]))
    for k in range(len(J) + 1):
        table[k, k] = np.eye(J.shape[-1])
        for t in range(k, len(J)):
            table[t + 1, k] = J[t] @ table[t, k]
    return table


def log_norms(matrices):
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(np.linalg.norm(matrices, 2, axis=(-2, -1))))


def in_blocks(matrices, m):
    """`[.., S, S] -> [.., m, m, S/m, S/m]`."""
    *lead, S, _ = matrices.shape
    return np.asarray(matrices).reshape(*lead, m, S // m, m, S // m).swapaxes(-3, -2)


@functools.cache
def along(name, *batch, size=H):
    """The cell's M, J and the bounds of M's products as one program."""
    cell = cells.CELLS[name](size, dtype=jnp.float64)

    def run(params, xs, start):
        M = gradients.comparison_matrices(cell, params, xs, start)
        J = gradients.step_jacobians(cell, params, xs, start)
        return M, J, gradients.comparison_bound(M), gradients.comparison_blocks(M)

    return jax.jit(run)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_before", "lem", "lru"])
def test_every_block_of_every_product_is_within_its_bound(name):
    for gain in (0.5, 4.0):
        cell, params, xs = problem(name, gain, 2)
        start = random_state(cell, params, (2,))
        M, J, whole, blocks = along(name)(params, xs, start)
        m, S = M.shape[-1], J.shape[-1]
        exact = np.linalg.norm(in_blocks(J, m), 2, axis=(-2, -1))
        assert (exact <= M * (1 + 1e-12)).all()
        for example in range(2):
            P = products(J[:, example])
            measured = log_norms(P)
            check = check_bound(measured, whole[..., example], state_size=S)
            assert check.violations == 0
            of_blocks = log_norms(in_blocks(P, m))
            check = check_bound(of_blocks, blocks[:, :, example], state_size=S)
            assert (check.violations == 0).all()
            # Nine tenths of a block's norm is no bound on it.
            wrong = jnp.log(0.9 * exact[:, example])
            steps = np.arange(T)
            assert (of_blocks[steps + 1, steps] > wrong)[exact[:, example] > 0].all()


def test_a_network_of_one_unit_reaches_it():
    """H = 1, every path with the same sign: J = M ≥ 0, and the products are equal."""
    for name in GATED:
        cell, params, xs = problem(name, size=1)
        params, xs = jax.tree.map(jnp.abs, params), jnp.ones_like(xs)
        if name.startswith("gru"):  # h rises towards n, so that z' (h − n) < 0, and so is W_z
            sign = jnp.array([1.0, -1, 1])[: len(params.W), None]
            params = params.replace(W=sign * params.W)
        start = jax.tree.map(lambda leaf: leaf + 0.01, cell.initial_state(params))
        M, J, bound, _ = along(name, size=1)(params, xs, start)
        assert (J >= 0).all()
        np.testing.assert_allclose(M, J, rtol=1e-10, atol=1e-15)
        check = check_bound(log_norms(products(J)), bound, state_size=len(M[0]))
        assert check.violations == 0
        assert jnp.abs(check.slack[np.tril_indices(T + 1)]).max() < 1e-8
        wrong = check_bound(check.measured, bound - 0.01, state_size=len(M[0]))
        assert wrong.violations == (T + 1) * (T + 2) // 2


def test_elman_networks_lie_in_order():
    """Π ‖J_i‖ ≤ Π M_i ≤ (λ_W λ_φ)^(t−k), for M_i = λ_W max_n |φ'|."""
    cell, params, xs = problem("elman", 1.5)
    checks = gradients.check_bounds(cell, params, xs)
    lower = np.tril_indices(T + 1)
    tables = [np.asarray(checks[name].bound)[lower] for name in ("product", "comparison", "power")]
    measured = log_norms(products(gradients.step_jacobians(cell, params, xs)))
    np.testing.assert_allclose(checks["power"].measured[lower], measured[lower], atol=1e-9)
    for below, above in zip([np.asarray(measured)[lower], *tables], tables, strict=False):
        assert (below <= above + 1e-11).all()
    for check in checks.values():
        assert check.violations == 0
        np.testing.assert_allclose(check.slack[lower], (check.bound - check.measured)[lower])


def test_every_bound_serves_a_cell_of_the_users_and_a_batch():
    cell = LAWFUL["user's function"](jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, 2, INPUT_SIZE)
    checks = gradients.check_bounds(cell, params, xs, also={"none": jnp.zeros((T + 1, T + 1))})
    assert set(checks) == {"product", "comparison", "none"}
    assert (checks["product"].violations == 0).all()
    assert (checks["comparison"].violations == 0).all()
    assert checks["none"].slack.shape == (T + 1, T + 1, 2)
    with pytest.raises(ValueError, match=r"cell: got .* expected .*exact=True"):
        gradients.comparison_matrices(cell, params, xs)


def test_weights_tighten_the_product_of_norms():
    """An LSTM with large weights: its h counts for more than its c."""
    cell, params, xs = problem("lstm", 4.0)
    J = gradients.step_jacobians(cell, params, xs)
    measured = log_norms(products(J))
    plain = gradients.product_bound(J)
    better = gradients.product_bound(J, weights=jnp.repeat(jnp.array([1.0, 1.5]), H))
    assert check_bound(measured, better, state_size=2 * H).violations == 0
    assert better[T, 0] < plain[T, 0] - 1
    assert (jnp.diagonal(better) == 0).all()


@pytest.mark.parametrize("name", GATED)
def test_parameters_alone_bound_every_trajectory(name):
    """Inputs at the corners of what is allowed, states beyond what zero reaches."""
    for gain in (0.05, 0.5, 4.0):
        cell, params, xs = problem(name, gain, 20)
        xs = jnp.sign(xs)
        start = random_state(cell, params, (20,))
        M, unbounded = (GATED[name](params, start, sup, T) for sup in (1.0, jnp.inf))
        _, J, *_ = along(name)(params, xs, start)
        exact = np.linalg.norm(in_blocks(J, len(M)), 2, axis=(-2, -1))
        assert (exact <= M * (1 + 1e-12)).all()
        assert (unbounded * (1 + 1e-12) >= M).all()
        bound = bound_of(M, T)
        for example in range(3):
            measured = log_norms(products(J[:, example]))
            assert check_bound(measured, bound, state_size=J.shape[-1]).violations == 0
        if gain == 0.05:  # ρ(M) < 1: contraction proved for all inputs within the bound
            horizon = gradients.effective_horizon(gradients.by_lag(bound))
            of_measured = gradients.effective_horizon(gradients.by_lag(measured))
            assert of_measured <= horizon < T


def test_a_supremum_that_is_too_small_is_seen():
    """One unit held where f is largest: a smaller f̄ is no bound, nor is a smaller M."""
    cell, params, _ = problem("lstm", size=1)
    params = params.replace(W=jnp.full((4, 1), 1e-3), U=jnp.full((4, INPUT_SIZE), 0.5))
    zero = cell.initial_state(params)
    _, J, *_ = along("lstm", size=1)(params, jnp.ones((T, INPUT_SIZE)), zero)
    measured = log_norms(products(J))
    right = of_lstm(params, zero, 1.0)
    assert check_bound(measured, bound_of(right, T), state_size=2).violations == 0
    for wrong in (of_lstm(params, zero, 0.5), right * 0.9):
        check = check_bound(measured, bound_of(wrong, T), state_size=2)
        assert check.violations > T
        assert check.worst_excess > 0.1
    assert J[-1, 0, 0] / right[0, 0] > 0.999  # f̄ is all but reached


def test_when_it_is_finite():
    cell, params, _ = problem("lstm")
    zero = cell.initial_state(params)
    M = of_lstm(params, zero, jnp.inf)
    assert jnp.isinf(M).all()
    nothing_known = np.where(np.tri(T + 1, k=-1), np.inf, np.where(np.eye(T + 1), 0, -np.inf))
    np.testing.assert_allclose(bound_of(M, T), nothing_known, atol=1e-12)
    assert jnp.isfinite(of_lstm(params, zero, 2.0)).all()
    assert jnp.isfinite(of_lstm(params, zero, jnp.inf, 10.0)).all()
    closed = params.replace(W=0 * params.W, U=0 * params.U)  # then no input matters
    M = of_lstm(closed, zero, jnp.inf)
    f, o = jax.nn.sigmoid(closed.b[H : 3 * H].reshape(2, H))
    np.testing.assert_allclose(M, [[f.max(), 0], [(o * f).max(), 0]], rtol=1e-12)
    far = zero.replace(c=zero.c + 50.0)
    assert of_lstm(params, far, 0.1)[0, 1] > of_lstm(params, zero, 0.1)[0, 1]
    with pytest.raises(ValueError, match=r"params.W: got .* expected \[4H, H\]"):
        lstm_matrix(problem("lstm_coupled")[1])
    with pytest.raises(ValueError, match="params: got AffineParams; expected GRUParams"):
        gru_matrix(params)


def test_the_norm_of_a_sum_is_the_least_bound_from_norms():
    """W_q = ω_q (α_q ⊙ y) vᵀ / ‖α_q ⊙ y‖ has ‖Σ diag(α_q) W_q‖ ≥ Σ ω_q ‖α_q ⊙ y‖."""
    rng = np.random.default_rng(0)
    for n in (1, 2, 9):
        alpha, omega = rng.normal(size=(4, n)), rng.uniform(0, 2, size=4)
        bound = float(jax.jit(norm_of_sum)(alpha, omega))
        draws = rng.dirichlet(np.ones(n), size=4000)
        reached = (np.sqrt(draws @ np.square(alpha).T) @ omega).max()
        assert reached <= bound * (1 + 1e-12)
        assert bound <= (omega * np.abs(alpha).max(1)).sum() * (1 + 1e-12)
        # By ascent from the best draw.
        weights = draws[np.argmax(np.sqrt(draws @ np.square(alpha).T) @ omega)]
        for _ in range(3000):
            root = np.sqrt(np.square(alpha) @ weights)
            weights = weights * ((omega / root) @ np.square(alpha))
            weights /= weights.sum()
        best = omega @ np.sqrt(np.square(alpha) @ weights)
        y = np.sqrt(weights)
        W = [
            w * np.outer(a * y, np.eye(n)[0]) / np.linalg.norm(a * y)
            for w, a in zip(omega, alpha, strict=True)
        ]
        total = sum(np.diag(a) @ w for a, w in zip(alpha, W, strict=True))
        assert np.linalg.norm(total, 2) >= best * (1 - 1e-9)
        assert best * (1 - 1e-9) <= bound <= best * (1 + 2e-3)
    assert norm_of_sum(jnp.zeros((2, 3)), jnp.ones(2)) == 0
    assert norm_of_sum(jnp.full((1, 3), jnp.inf), jnp.ones(1)) == jnp.inf


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_root_norm_is_the_spectral_norm_from_above(dtype):
    W = normal(0, 5, 20, 12, dtype=dtype) * jnp.asarray([1e-9, 1, 1e3, 0, 1], dtype)[:, None, None]
    W = W.at[4].set(jnp.linalg.qr(W[1])[0])
    got, eps = np.asarray(root_norm(W.mT @ W), np.float64), float(jnp.finfo(dtype).eps)
    expected = np.linalg.norm(np.asarray(W, np.float64), 2, axis=(1, 2))
    np.testing.assert_allclose(got, expected, rtol=100 * eps)
    assert (got >= expected * (1 - 20 * eps)).all()


def test_effective_horizon():
    lags = np.arange(50)
    line = jnp.asarray(-0.25 * lags)
    horizon = gradients.effective_horizon
    np.testing.assert_allclose(horizon(line), 4.0)  # −1 / decay rate
    np.testing.assert_allclose(horizon(line, factor=10), np.log(10) / 0.25)
    np.testing.assert_allclose(horizon(3 + line), 4.0)  # from where it starts
    assert horizon(line, factor=1e6) == jnp.inf
    assert horizon(-line) == jnp.inf
    dead = line.at[2:].set(-jnp.inf)
    assert horizon(dead) == 1
    assert jnp.isnan(horizon(line.at[2].set(jnp.nan)))
    np.testing.assert_allclose(horizon(line.at[9].set(jnp.nan)), 4.0)
    np.testing.assert_allclose(horizon(jnp.array([0, -0.5, 0.5, -1.5, 0])), 2.75)
    lag = (lags[:, None] - lags).astype(float)
    rates = jnp.array([0.5, 0.1])
    table = jnp.where(lag[..., None] >= 0, -lag[..., None] * rates, -jnp.inf)
    np.testing.assert_allclose(horizon(gradients.by_lag(table)), 1 / rates)
    odd = table.at[7, 5].add(-3.0)
    np.testing.assert_allclose(gradients.by_lag(odd), gradients.by_lag(table))
    mean = gradients.by_lag(odd, average="mean")
    np.testing.assert_allclose(mean[2], -2 * rates - 3 / 48)
    noise = normal(0, 50, 50, 2).at[40:, :20].set(-jnp.inf).at[3, 1].set(jnp.nan)
    for average, over in (("median", np.median), ("mean", np.mean)):
        got = gradients.by_lag(noise, average=average)
        for l in (0, 1, 2, 25, 48, 49):
            column = np.diagonal(noise, -l)
            expected = np.nan if l == 2 else over(column, axis=-1)
            np.testing.assert_allclose(got[l], expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"factor: got .* expected a number above 1"):
        horizon(line, factor=1)
    with pytest.raises(ValueError, match="log_norms: got"):
        gradients.by_lag(line)


SATURATED = {"lstm": 8, "gru": 5, "gru_reset_before": 5, "lem": 5}


@pytest.mark.parametrize("name", SATURATED)
def test_a_matrix_of_saturated_gates_bounds_what_is_finite(name):
    """Weights of 1e-3 to 300, float32: never NaN where J is finite, and never below a block."""
    cell = cells.CELLS[name](SATURATED[name], dtype=jnp.float32)
    like = cell.init(jax.random.key(0), 2)

    def run(params, xs):
        M = gradients.comparison_matrices(cell, params, xs)
        return M, gradients.step_jacobians(cell, params, xs)

    rng = np.random.default_rng(0)
    draws = 40
    scales = 10.0 ** rng.uniform(-3, 2.5, draws)
    draw = lambda leaf: jnp.asarray(
        scales.reshape(-1, *[1] * leaf.ndim) * rng.normal(size=(draws, *leaf.shape)), jnp.float32
    )
    xs = jnp.asarray(rng.normal(size=(draws, 20, 2)), jnp.float32)
    M, J = jax.jit(jax.vmap(run))(jax.tree.map(draw, like), xs)
    finite = np.isfinite(J).all((-2, -1))
    assert finite.mean() > 0.9
    exact = np.linalg.norm(in_blocks(np.asarray(J, np.float64), M.shape[-1]), 2, axis=(-2, -1))
    assert (exact <= np.asarray(M, np.float64))[finite].all()


def test_diagonals_of_any_size_and_a_matrix_of_any():
    """Steps whose α is 1e-30 beside steps of 1, gates of 1e-25 beside gates of 1e20, α = inf."""
    rng = np.random.default_rng(1)
    sizes = np.array([1.0, 1e-30, 1e-12, 1e15])[:, None, None, None]
    alpha = sizes * rng.normal(size=(4, 2, 2, 5)) * np.array([1, 1e-6])[:, None]
    W = rng.normal(size=(10, 5)) * np.repeat([1e-18, 1e20], 5)[:, None]
    own = 1e-3 * sizes[..., 0] * rng.normal(size=(4, 2, 5))

    def bound(own, alpha, W):
        D = UnitBlocks(jnp.ones((4, 1, 2, 5), W.dtype))
        J = StepJacobian(
            UnitBlocks(jnp.stack([own, 0 * own], -2)), (FedBack(UnitBlocks(alpha), W, D, ()),)
        )
        return comparison_matrix(J)

    single = [jnp.asarray(a, jnp.float32) for a in (own, alpha, W)]
    got = np.asarray(jax.jit(bound)(*single), np.float64)
    o, a, W = (np.asarray(x, np.float64) for x in single)
    for t in range(4):
        for row in range(2):
            through = sum(np.diag(a[t, row, k]) @ W.reshape(2, 5, 5)[k] for k in range(2))
            exact = [np.linalg.norm(np.diag(d) + through, 2) for d in (o[t, row], 0 * o[t, row])]
            assert (exact <= got[t, row]).all()
            assert (got[t, row] <= 3 * np.asarray(exact)).all()
    infinite = single[1].at[1].set(jnp.inf)
    assert (jax.jit(bound)(single[0], infinite, single[2])[1] == jnp.inf).all()


def test_a_path_that_is_weak_is_not_lost_beside_a_strong_one():
    """In float32 [2^-t, 1] on the diagonal, and then the strong one is shut."""
    M = jnp.broadcast_to(jnp.diag(jnp.array([1.0, 0.5], jnp.float32)), (200, 2, 2))
    M = M.at[-1].set(jnp.diag(jnp.array([0.0, 0.5], jnp.float32)))
    blocks = gradients.comparison_blocks(M)
    np.testing.assert_allclose(blocks[200, 0, 1, 1], 200 * np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(gradients.comparison_bound(M)[200, 0], 200 * np.log(0.5), rtol=1e-6)
    assert jnp.isneginf(blocks[200, 0, 0, 0])


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_before"])
def test_in_float32_it_is_no_less_than_in_float64(name):
    """1,000 parameters of sizes 1e-3 to 100, gates open, shut and in between."""
    rng = np.random.default_rng(0)
    draws = 1000
    like = cells.CELLS[name](3, dtype=jnp.float32).init(jax.random.key(0), 2)
    leaves, tree = jax.tree.flatten(like)
    scale = lambda leaf: 10.0 ** rng.uniform(-3, 2, (draws, *[1] * leaf.ndim))
    params = tree.unflatten([scale(a) * rng.normal(size=(draws, *a.shape)) for a in leaves])
    sup = 10.0 ** rng.uniform(-2, 1, draws)
    tool = lstm_matrix if name == "lstm" else gru_matrix

    def matrices(dtype):
        # What float32 makes of them is what they are.
        cast = lambda x: jnp.asarray(np.asarray(x, np.float32), dtype)
        run = jax.jit(jax.vmap(lambda p, sup: tool(p, input_bound=sup)))
        return np.asarray(run(jax.tree.map(cast, params), cast(sup)), np.float64)

    single, double = matrices(jnp.float32), matrices(jnp.float64)
    assert not np.isnan(single).any()
    normal = double > 1e-37  # what is below is zero in float32
    assert (single >= double * (1 - 1e-12))[normal].all()
    # And not by much, where the pre-activation is no larger than its own rounding.
    held = np.isfinite(single) & normal
    assert np.median(single[held] / double[held]) < 1 + 1e-4


def test_check_bounds_takes_the_trajectory_once(monkeypatch):
    taken, states_along = [], linearized_step.states_along
    count = lambda *args, **kwargs: taken.append(args) or states_along(*args, **kwargs)
    monkeypatch.setattr(linearized_step, "states_along", count)
    for cell in (cells.lstm(3), cells.layer_norm(cells.elman(3))):
        taken.clear()
        xs = jnp.ones((5, 2), jnp.float32)
        gradients.check_bounds(cell, cell.init(jax.random.key(0), 2), xs)
        assert len(taken) == 1
