"""Products of Jacobians at scale, against float64 SVDs of the products and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, gradients
from rnn_jax.gradients import jacobian_log_norms, jacobian_log_norms_by_lag, singular_spectra
from rnn_jax.linalg.product_norms import TILE
from rnn_jax.training import batch_mesh
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE, user_cell

T = 3 * TILE + 5  # no power of two: tiles that are full, half empty, and left out


def elman(dtype=jnp.float64, size=9):
    init = cells.initializers.gaussian(1.3 / size**0.5)
    return cells.elman(size, recurrent_init=init, dtype=dtype)


CELLS = {
    "elman": elman,
    "lstm": lambda dtype: cells.lstm(4, dtype=dtype),
    "user's function": user_cell,
}


def given_jacobians(J):
    """The linear cell h_t = J[t] h_{t-1}, with time as its input."""
    step = lambda J, h, x: (J[x[0].astype(int)] @ h,) * 2
    cell = cells.from_function(step, state=jnp.zeros(J.shape[-1], J.dtype))
    return cell, J, jnp.arange(len(J), dtype=J.dtype)[:, None]


def log_singular_values(J):
    """ln σ of J_t ··· J_{k+1} at [t, k], `[T+1, T+1, S]`, by float64 SVDs with a scale apart."""
    J = np.asarray(J, np.float64)
    table = np.full((len(J) + 1, len(J) + 1, J.shape[-1]), -np.inf)
    for k in range(len(J) + 1):
        P, scale = np.eye(J.shape[-1]), 0.0
        table[k, k] = 0
        for t in range(k, len(J)):
            P = J[t] @ P
            size = np.abs(P).max()
            P, scale = P / size, scale + np.log(size)
            table[t + 1, k] = np.log(np.linalg.svd(P, compute_uv=False)) + scale
    return table


def orthogonal(seed, n, S):
    """n random orthogonal matrices."""
    Q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, S, S)))
    return Q


def products_of_known_spectrum(steps, sigma):
    """J_i = Q_i diag(σ) Q_{i-1}ᵀ, so that J_t ··· J_{k+1} has singular values σ^(t−k)."""
    Q = orthogonal(0, steps + 1, len(sigma))
    return Q[1:] * np.asarray(sigma) @ Q[:-1].swapaxes(1, 2)


@pytest.fixture(scope="module", params=CELLS)
def case(request):
    """(cell, params, xs [T, 2, I], start, truth [T+1, T+1, S] of each of the two examples)."""
    cell = CELLS[request.param](jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, 2, INPUT_SIZE)
    J = gradients.step_jacobians(cell, params, xs)
    return cell, params, xs, [log_singular_values(J[:, i]) for i in range(2)]


def below(table):
    return np.asarray(table)[np.tril_indices(len(table), -1)]


def test_all_norms_are_those_of_the_products(case):
    cell, params, xs, truth = case
    spectral = jax.jit(lambda p, x: jacobian_log_norms(cell, p, x))(params, xs)
    frobenius = jax.jit(lambda p, x: jacobian_log_norms(cell, p, x, norm="frobenius"))(params, xs)
    for i in range(2):
        np.testing.assert_allclose(below(spectral[..., i]), below(truth[i][..., 0]), atol=1e-10)
        sigma = below(truth[i])
        expected = sigma[:, 0] + 0.5 * np.log(np.exp(2 * (sigma - sigma[:, :1])).sum(-1))
        np.testing.assert_allclose(below(frobenius[..., i]), expected, atol=1e-10)
    above = np.triu_indices(T + 1, 1)
    assert jnp.isneginf(spectral[above]).all()
    assert (jnp.diagonal(spectral) == 0).all()
    S = truth[0].shape[-1]
    np.testing.assert_allclose(jnp.diagonal(frobenius), 0.5 * np.log(S), rtol=1e-14)


def test_lags_are_entries_of_the_table(case):
    """By products for all t; by vectors alone for a few."""
    cell, params, xs, truth = case
    lags, times = [0, 1, 7, 16, 33, T], [T, 40, 3]
    lag, t = np.array(lags)[None], np.arange(T + 1)[:, None]
    for norm in ("spectral", "frobenius"):
        everywhere, at_times = (
            jax.jit(
                lambda p, x, at=at, norm=norm: jacobian_log_norms_by_lag(
                    cell, p, x, lags=lags, times=at, norm=norm
                )
            )(params, xs)
            for at in (None, times)
        )
        for i in range(2):
            sigma = np.where((lag <= t)[..., None], truth[i][t, np.maximum(t - lag, 0)], np.nan)
            expected = sigma[..., 0]
            if norm == "frobenius":
                expected = expected + 0.5 * np.log(np.exp(2 * (sigma - sigma[..., :1])).sum(-1))
            np.testing.assert_allclose(everywhere.value[..., i], expected, atol=1e-10)
            np.testing.assert_allclose(at_times.value[..., i], expected[times], atol=1e-10)


def test_spectra_are_those_of_the_products(case):
    cell, params, xs, truth = case
    lags, times = [0, 1, 4, 12, 40], [T, 20]
    spectra = jax.jit(lambda p, x: singular_spectra(cell, p, x, lags=lags, times=times))(params, xs)
    for i in range(2):
        for n, t in enumerate(times):
            for m, lag in enumerate(lags):
                got = spectra.log_values[n, m, :, i]
                if lag > t:
                    assert jnp.isnan(got).all()
                    assert not spectra.trusted[n, m, :, i].any()
                    continue
                expected = truth[i][t, t - lag]
                held = expected > expected[0] + np.log(1e-9)  # what the SVD of the product holds
                np.testing.assert_allclose(got[held], expected[held], atol=1e-6)
                assert spectra.trusted[n, m, held, i].all()
                assert (np.diff(got) <= 0).all()
    known = spectra.log_values[0, 1, 0] - spectra.log_values[0, 1, -1]
    np.testing.assert_array_equal(spectra.log_condition[0, 1], known)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-9), (jnp.float32, 1e-3)])
def test_small_singular_values_are_not_lost(dtype, tolerance):
    """A condition number of e^2400 after 1,500 steps, with a pair of equal values inside."""
    sigma = np.exp([0.1, -0.2, -0.5, -0.5, -0.9, -1.5])
    lags = [1, 10, 100, 1500]
    J = jnp.asarray(products_of_known_spectrum(1500, sigma), dtype)
    cell, J, xs = given_jacobians(J)
    spectra = jax.jit(lambda J: singular_spectra(cell, J, xs, lags=lags))(J)
    expected = np.array(lags)[:, None] * np.log(sigma)
    np.testing.assert_allclose(spectra.log_values[0], expected, atol=tolerance, rtol=1e-6)
    error = np.abs(np.asarray(spectra.log_values[0]) - expected)
    slack = 1e-6 * np.abs(expected) if dtype == jnp.float32 else 1e-13 * np.abs(expected)
    assert (error <= np.asarray(spectra.rounding[0]) + slack + 1e-13).all()
    assert spectra.trusted.all()


def test_a_singular_jacobian_is_not_trusted_for_its_smallest_value():
    J = products_of_known_spectrum(30, [1.0, 0.7, 0.0])
    cell, J, xs = given_jacobians(jnp.asarray(J))
    spectra = singular_spectra(cell, J, xs, lags=[20])
    np.testing.assert_allclose(spectra.log_values[0, 0, :2], [0, 20 * np.log(0.7)], atol=1e-10)
    np.testing.assert_array_equal(spectra.trusted[0, 0], [True, True, False])
    assert jnp.isnan(spectra.log_condition).all()


def test_float32_at_lag_10_000():
    """h_t = c Q h_{t-1}: every singular value is c^l, 10^-3010 at the last lag."""
    steps, S, lags = 10_000, 4, [1, 100, 5000, 10_000]
    cell = cells.elman(S, "identity", recurrent_init=cells.initializers.orthogonal(0.5))
    params = cell.init(jax.random.key(0), 1)
    xs = jnp.zeros((steps, 1), jnp.float32)
    W = np.asarray(params.W, np.float64)  # c Q as float32 has it
    expected = np.array(lags) * np.log(np.abs(np.linalg.det(W))) / S
    close = lambda got, to: np.testing.assert_allclose(got, to, rtol=3e-6, atol=1e-5)

    @jax.jit
    def by_lag(p):
        return (
            jacobian_log_norms_by_lag(cell, p, xs, lags=lags).value,
            jacobian_log_norms_by_lag(cell, p, xs, lags=lags, times=[steps]).value,
            singular_spectra(cell, p, xs, lags=lags).log_values,
        )

    everywhere, at_end, spectra = by_lag(params)
    close(everywhere[-1], expected)
    close(everywhere[7000, :3], expected[:3])
    close(at_end[0], expected)
    close(spectra[0], np.broadcast_to(expected[:, None], (len(lags), S)))
    assert everywhere.dtype == spectra.dtype == jnp.float32


def test_float32_norms_are_good_to_1e_5():
    cell = elman(jnp.float32, size=40)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, INPUT_SIZE, dtype=jnp.float32)
    J = gradients.step_jacobians(cell, params, xs)
    found = jax.jit(gradients.certified_log_norms)(J)
    off = np.abs(below(found.value) - below(log_singular_values(J)[..., 0]))
    error = below(found.error)
    assert off.max() < 3e-5
    assert (off <= error).all()
    assert np.median(error) < 5e-4  # rounding with a margin of ten; tolerance is 1e-5 of it


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
@pytest.mark.parametrize("T", [1, 2, 7, TILE, 4 * TILE, 5 * TILE + 1])
def test_any_number_of_steps(T, norm):
    J = orthogonal(T, T, 3) * np.array([0.9, 1.0, 1.2])
    log_sigma = log_singular_values(J)
    truth = log_sigma[..., 0] if norm == "spectral" else np.logaddexp.reduce(2 * log_sigma, -1) / 2
    table = gradients.product_log_norms(jnp.asarray(J), norm=norm)
    np.testing.assert_allclose(table, truth, rtol=0, atol=1e-11)


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_devices_share_the_pairs(norm):
    J = np.random.default_rng(0).normal(size=(5 * TILE + 1, 3, 4, 4))
    J[T // 2, 1], J[T // 3, 2] = 0, np.nan  # norms of zero, and none
    certified = lambda mesh: jax.jit(
        lambda J: gradients.certified_log_norms(J, norm=norm, mesh=mesh)
    )(jnp.asarray(J))
    shared, alone = certified(batch_mesh()), certified(None)
    assert len(shared.value.devices()) == len(jax.devices()) > 1
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_spectral_norms_give_no_wrong_derivative():
    J = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4)))
    _, tangent = jax.jvp(gradients.product_log_norms, (J,), (J,))
    assert np.isnan(np.asarray(tangent)[np.tril_indices(4, -1)]).all()
    frobenius = lambda J: gradients.product_log_norms(J, norm="frobenius")
    _, tangent = jax.jvp(frobenius, (J,), (J,))
    lags = np.subtract.outer(np.arange(4), np.arange(4))  # a product of `lag` factors e^s J
    below = np.tril_indices(4, -1)
    np.testing.assert_allclose(np.asarray(tangent)[below], lags[below], rtol=1e-12)


@pytest.mark.parametrize("rtol", [1e-2, 1e-4, None])
def test_the_bound_on_the_error_bounds_the_error(rtol):
    """Singular values that crowd below the largest, where Lanczos' method is slowest."""
    crowded = np.concatenate([np.exp(-1e-4 * np.arange(20)), np.full(20, 0.99)])
    J = products_of_known_spectrum(2 * TILE, crowded)
    found = jax.jit(lambda J: gradients.certified_log_norms(J, rtol=rtol))(jnp.asarray(J))
    value, error = below(found.value), below(found.error)
    rounding = 1e-13
    assert (value <= rounding).all()  # ln σ_max = 0 for every product
    assert (value + error >= -rounding).all()
    asked = 1e-12 if rtol is None else rtol
    assert (error[np.abs(value) > 10 * asked] > 10 * asked).all()
    assert np.abs(value).max() < 2 * max(asked, 1e-12)
    if rtol == 1e-2:
        assert np.abs(value).max() > 1e-5  # the error is there to be bounded


def test_zero_and_what_is_not_finite():
    """A zero at step 4 and a NaN at step 30 of 40: -inf and NaN across them, in every table."""
    J = np.array(products_of_known_spectrum(40, [1.0, 0.5, 0.2]))
    J[4], J[30] = 0, np.nan
    cell, J, xs = given_jacobians(jnp.asarray(J))
    t, k = np.indices((41, 41))
    nan = (t > 30) & (k <= 30)
    zero = (t > 4) & (k <= 4) & ~nan
    for norm in ("spectral", "frobenius"):
        table = gradients.product_log_norms(J, norm=norm)
        np.testing.assert_array_equal(np.isnan(table), nan)
        np.testing.assert_array_equal(np.isneginf(table), zero | (k > t))
        found = jacobian_log_norms_by_lag(cell, J, xs, lags=[8], times=[8, 20, 40], norm=norm)
        assert jnp.isneginf(found.value[0, 0])
        assert jnp.isfinite(found.value[1, 0])
    spectra = singular_spectra(cell, J, xs, lags=[3, 15], times=[40, 20, 8])
    assert jnp.isnan(spectra.log_values[0]).all()  # the state at t = 40 is not finite
    assert not spectra.trusted[0].any()
    assert spectra.trusted[1].all()


def test_blocks_of_an_lstm():
    """∂c_t/∂c_k and ∂h_t/∂(c, h)_k with all paths between, against slices of the product."""
    cell = cells.lstm(3, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    steps, lags = TILE + 8, [3, TILE + 2]
    xs = normal(1, steps, INPUT_SIZE)
    J = np.asarray(gradients.step_jacobians(cell, params, xs))
    names = gradients.state_blocks(cell, params)
    np.testing.assert_array_equal(names["c"], np.arange(3))
    for block in (("c", "c"), ("h", None)):
        to, of = (np.arange(6) if name is None else names[name] for name in block)

        @jax.jit
        def tables(p, block=block):
            arguments = {"lags": lags, "block": block}
            return (
                jacobian_log_norms(cell, p, xs, block=block),
                jacobian_log_norms_by_lag(cell, p, xs, **arguments).value,
                jacobian_log_norms_by_lag(cell, p, xs, **arguments, times=[steps]).value,
            )

        table, everywhere, at_end = tables(params)
        for k in (0, 5, steps - 1, steps):
            product = np.eye(6)
            for t in range(k, steps + 1):
                product = J[t - 1] @ product if t > k else product
                expected = np.log(np.linalg.norm(product[np.ix_(to, of)], 2))
                np.testing.assert_allclose(table[t, k], expected, atol=1e-10)
        expected = [table[steps, steps - lag] for lag in lags]
        np.testing.assert_allclose(everywhere[-1], expected, atol=1e-10)
        np.testing.assert_allclose(at_end[0], expected, atol=1e-10)
    frobenius = jacobian_log_norms(cell, params, xs, block=("h", "c"), norm="frobenius")
    expected = np.log(np.linalg.norm((J[1] @ J[0])[3:, :3]))
    np.testing.assert_allclose(frobenius[2, 0], expected, atol=1e-12)


def test_along_c_alone_an_lstm_is_the_product_of_its_forget_gates():
    """W = 0 leaves ∂c_t/∂c_k = Π f = σ(bias)^(t−k) I: ORACLES.md."""
    for bias, expected in ((0.0, 8e-31), (1.0, 2.5e-14), (2.0, 3e-6)):
        cell = cells.lstm(2, forget_bias=bias)
        params = cell.init(jax.random.key(0), 1)
        params = params.replace(W=0 * params.W, U=0 * params.U)
        xs = jnp.zeros((100, 1), jnp.float32)
        found = jacobian_log_norms_by_lag(
            cell, params, xs, lags=[100], times=[100], block=("c", "c")
        )
        exact = -100 * np.log1p(np.exp(-bias))
        np.testing.assert_allclose(found.value[0, 0], exact, rtol=1e-6)
        assert np.exp(exact) == pytest.approx(expected, rel=0.3)


def test_names_go_into_nested_states_and_unknown_ones_are_refused():
    deep = cells.stack(cells.lstm(2), cells.gru(3))
    params = deep.init(jax.random.key(0), 1)
    names = gradients.state_blocks(deep, params)
    flat = jax.flatten_util.ravel_pytree(deep.initial_state(params))[0]
    assert sum(len(entries) for name, entries in names.items() if name.count(".") == 0) == len(flat)
    xs = jnp.zeros((3, 1), jnp.float32)
    with pytest.raises(ValueError, match=r"block: got c; expected one of .*0\.c"):
        jacobian_log_norms(deep, params, xs, block=("c", "c"))
    with pytest.raises(ValueError, match=r"block: .*pair"):
        jacobian_log_norms(deep, params, xs, block="0.c")
    plain = elman(jnp.float32)
    with pytest.raises(ValueError, match="no named parts"):
        jacobian_log_norms(plain, plain.init(jax.random.key(0), 1), xs, block=("h", "h"))
    for arguments in ({"lags": [4]}, {"lags": [-1]}, {"lags": []}, {"lags": [1], "times": [9]}):
        with pytest.raises(ValueError, match=r"lags|times"):
            jacobian_log_norms_by_lag(deep, params, xs, **arguments)
    with pytest.raises(ValueError, match="lags"):
        singular_spectra(deep, params, xs, lags=[0.5])


def test_the_program_does_not_grow_with_time():
    def equations(jaxpr):
        inner = [
            part.jaxpr if hasattr(part, "jaxpr") else part
            for equation in jaxpr.eqns
            for value in equation.params.values()
            for part in (value if isinstance(value, (list, tuple)) else [value])
            if hasattr(part, "eqns") or hasattr(part, "jaxpr")
        ]
        return len(jaxpr.eqns) + sum(map(equations, inner))

    counts = {
        equations(jax.make_jaxpr(gradients.product_log_norms)(jnp.zeros((steps, 2, 2))).jaxpr)
        for steps in (4 * TILE, 32 * TILE)
    }
    assert len(counts) == 1
    assert counts.pop() > 100


def test_a_state_of_2048_needs_no_matrix():
    """A scaled permutation in float32, whose products are known and whose singular values crowd."""
    cell = cells.elman(2048, "identity", recurrent_init=cells.initializers.gaussian(0.0))
    params = cell.init(jax.random.key(0), 1)
    permutation = np.random.default_rng(0).permutation(2048)
    weights = np.linspace(0.5, 1.1, 2048)
    W = np.zeros((2048, 2048), np.float32)
    W[np.arange(2048), permutation] = weights
    params = params.replace(W=jnp.asarray(W))
    xs = jnp.zeros((6, 1), jnp.float32)
    found = jacobian_log_norms_by_lag(cell, params, xs, lags=[1, 5], times=[5, 6], rtol=1e-3)
    walk, sizes = np.arange(2048), np.zeros(2048)
    for lag in range(1, 6):
        sizes += np.log(weights[walk])
        walk = permutation[walk]
        if lag in (1, 5):
            value, error = (np.asarray(part)[:, int(lag == 5)] for part in found)
            truth = sizes.max()
            assert (value <= truth + 1e-5).all()
            assert (truth <= value + error + 1e-5).all()
            assert (error < 2e-3).all()


@pytest.mark.parametrize("norm", ["spectral", "frobenius"])
def test_of_a_part_that_dies_beside_one_that_lives(norm):
    """Two units apart, 0.5^1000 of the second in float32, and numbers of the end of the range."""

    def step(p, h, x):
        h = {"lives": p * h["lives"], "dies": 0.5 * h["dies"]}
        return h, x

    state = {name: jnp.zeros(2, jnp.float32) for name in ("lives", "dies")}
    cell = cells.from_function(step, state=state)
    xs = jnp.zeros((1000, 1), jnp.float32)
    one = jnp.ones((), jnp.float32)
    identity = np.log(2) / 2 if norm == "frobenius" else 0
    found = jacobian_log_norms(cell, one, xs, norm=norm, block=("dies", "dies"))
    expected = identity + np.log(0.5) * np.arange(1001)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-5)
    huge = jnp.float32(3e38)
    found = jacobian_log_norms(cell, huge, xs[:9], norm=norm, block=("lives", "lives"))
    expected = identity + np.log(3e38) * np.arange(10)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-5)
    found = jacobian_log_norms(cell, huge, xs[:9], norm=norm, block=("dies", "dies"))
    np.testing.assert_allclose(found[:, 0], identity + np.log(0.5) * np.arange(10), rtol=1e-5)
