"""Penalties of W, and the power iterations behind them: against SVD and differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells, gradients
from rnn_jax.linalg.largest_singular_value import generic_vector, mean_log_growth
from tests.helpers import normal
from tests.lawful_cells import user_cell


def matrices(seed=0):
    """Stacked 3 × 3 blocks of norms above and below one, and a tall and a wide matrix."""
    return {
        "blocks": normal(seed, 4, 3, 3),
        "tall": normal(seed + 1, 6, 3),
        "wide": normal(seed + 2, 2, 5),
    }


@pytest.mark.parametrize("one_sided", [True, False])
def test_spectral_norm_penalty(one_sided):
    """Value and gradient, 2 (σ − target) u vᵀ, from NumPy's SVD."""
    penalty = jax.value_and_grad(
        functools.partial(
            gradients.spectral_norm_penalty, target=1.5, one_sided=one_sided, iterations=1000
        )
    )
    for W in matrices().values():
        value, gradient = jax.jit(penalty)(W)
        u, s, vh = np.linalg.svd(W, full_matrices=False)
        excess = s[..., 0] - 1.5
        excess = np.maximum(excess, 0) if one_sided else excess
        np.testing.assert_allclose(value, np.sum(excess**2), rtol=1e-9, atol=1e-14)
        expected = 2 * excess[..., None, None] * u[..., :, :1] * vh[..., :1, :]
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


def test_where_the_largest_singular_value_is_not_one():
    """Equal ones: a subgradient g = 2 (σ − 1) u vᵀ of an orthogonal W; none: zeros."""
    Q = 2 * np.linalg.qr(normal(0, 5, 5))[0]
    value, g = jax.value_and_grad(gradients.spectral_norm_penalty)(jnp.asarray(Q))
    assert value == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(np.linalg.svd(g, compute_uv=False), [2, 0, 0, 0, 0], atol=1e-12)
    assert np.vdot(g, Q) == pytest.approx(2 * 2, rel=1e-12)  # Euler: ⟨∂σ/∂W, W⟩ = σ

    zero = jnp.zeros((3, 3))
    found = gradients.largest_singular_value(zero)
    assert (found.sigma, found.residual) == (0, 0)
    assert (jax.grad(gradients.spectral_norm_penalty)(zero) == 0).all()


def test_orthogonality_penalty():
    """n (c² − 1)² for c Q, and ∇ = 4 W (WᵀW − I); of the shorter side where W is not square."""
    Q = jnp.asarray(np.linalg.qr(normal(0, 5, 5))[0])
    for W, n in ((Q, 5), (Q[:, :3], 3), (Q[:2], 2), (jnp.stack([Q, Q]), 10)):
        scaled = gradients.orthogonality_penalty(jnp.asarray(1.5) * W)
        assert scaled == pytest.approx(n * (1.5**2 - 1) ** 2, rel=1e-12)
    for W in matrices().values():
        long = np.asarray(W if W.shape[-2] >= W.shape[-1] else W.T)
        apart = np.swapaxes(long, -1, -2) @ long - np.eye(long.shape[-1])
        value, gradient = jax.value_and_grad(gradients.orthogonality_penalty)(W)
        np.testing.assert_allclose(value, np.sum(apart**2), rtol=1e-12)
        expected = 4 * long @ apart
        np.testing.assert_allclose(
            gradient, expected if long.shape == W.shape else expected.T, rtol=1e-11, atol=1e-13
        )


def test_what_largest_singular_value_says_of_its_accuracy():
    """The residual's statement, and the mean error over random starts, at every iteration count."""
    n, draws = 20, 300
    U, V = (np.linalg.qr(normal(seed, draws, n, n))[0] for seed in (0, 1))
    # What is hardest for a few iterations: all the others just below the first.
    for others in (np.linspace(0.9, 0.1, n - 1), np.full(n - 1, 0.97)):
        s = np.concatenate([[1.0], others])
        W = jnp.asarray(U * s @ np.swapaxes(V, 1, 2))
        for k in (2, 5, 10, 20):
            found = jax.jit(functools.partial(gradients.largest_singular_value, iterations=k))(W)
            assert (found.sigma <= 1 + 1e-12).all()
            square = np.square(found.sigma)
            assert (1 - square).mean() <= 0.87 * np.log(n) / (k - 1)
            nearest = np.abs(square[:, None] - s**2).min(1)
            assert (nearest <= found.residual * square + 1e-14).all()
    again = gradients.largest_singular_value(W, iterations=1, start=jnp.asarray(V[..., 0]))
    np.testing.assert_allclose(again.sigma, 1, rtol=1e-12)
    np.testing.assert_allclose(again.residual, 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(again.v * V[..., 0], -1)), 1, rtol=1e-12)


def test_mean_log_growth():
    """Complex pairs, one modulus for all eigenvalues, one in front, and none at all."""
    growth = lambda W, n: mean_log_growth(W, generic_vector(W), iterations=n)[0]
    Q = np.linalg.qr(normal(0, 6, 6))[0]
    turn = lambda angle: np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert growth(jnp.asarray(0.7 * Q), 5) == pytest.approx(np.log(0.7), abs=1e-12)

    # ρ = 1.3 of a pair in a matrix that is not normal: off by a constant over n, no more.
    blocks = np.zeros((6, 6))
    blocks[:2, :2], blocks[2:4, 2:4] = 1.3 * turn(1.0), 0.8 * turn(2.0)
    base = np.eye(6) + 0.5 * np.triu(normal(1, 6, 6), 1)
    W = jnp.asarray(base @ blocks @ np.linalg.inv(base))
    limit = np.log(np.linalg.cond(base))
    for n in (50, 500, 5000):
        assert abs(growth(W, n) - np.log(1.3)) <= limit / n

    both = jnp.stack([W, jnp.diag(jnp.array([2.0, 1, 1, 0, 0, 0]))])
    np.testing.assert_allclose(growth(both, 5000), np.log([1.3, 2]), atol=1e-3)

    # ρ(W) = 0: what is left after W² = 0 is the smallest number that there is.
    nilpotent = jnp.array([[8.0, 8], [-8, -8]])
    w = generic_vector(nilpotent)
    first = np.log(np.linalg.norm(nilpotent @ w))
    total = first + 9 * np.log(np.finfo(float).tiny)
    assert growth(nilpotent, 10) == pytest.approx(total / 10, rel=1e-12)


def test_recurrent_matrices_by_name():
    """In the letters of the cell, in blocks of H."""
    of = lambda cell: {
        name: W.shape
        for name, W in gradients.recurrent_matrices(cell, cell.init(jax.random.key(0), 2)).items()
    }
    assert of(cells.readout(cells.elman(4), 3)) == {"W": (1, 4, 4)}
    assert of(cells.lstm(4)) == {"W": (4, 4, 4)}
    assert of(cells.gru_reset_before(4)) == {"W_1": (2, 4, 4), "W_2": (1, 4, 4)}
    params = cells.lstm(4).init(jax.random.key(0), 2)
    blocks = gradients.recurrent_matrices(cells.lstm(4), params)["W"]
    np.testing.assert_array_equal(blocks.reshape(16, 4), params.W)
    for cell in (cells.lru(4), user_cell()):
        with pytest.raises(ValueError, match="cell: got one whose recurrent matrices"):
            gradients.recurrent_matrices(cell, cell.init(jax.random.key(0), 2))


SCALES = {
    jnp.float16: (-10, 0, 12),
    jnp.bfloat16: (-120, -40, 0, 40, 124),
    jnp.float32: (-120, -80, -40, 0, 40, 80, 124),
    jnp.float64: (-1015, -540, 0, 540, 1020),
}
"""Exponents of two."""


@pytest.mark.parametrize("dtype", SCALES, ids=lambda dtype: jnp.dtype(dtype).name)
def test_sigma_and_growth_at_every_scale(dtype):
    """σ, its residual, its derivative u vᵀ, and ln ρ: only σ depends on the scale."""
    M = np.random.default_rng(0).normal(size=(6, 6))
    eps = float(jnp.finfo(dtype).eps)

    def measured(W):
        sigma = lambda W: gradients.largest_singular_value(W, iterations=400).sigma
        found = gradients.largest_singular_value(W, iterations=400)
        return found, jax.grad(sigma)(W), mean_log_growth(W, generic_vector(W), iterations=400)[0]

    run = jax.jit(measured)
    rates = []
    for exponent in SCALES[dtype]:
        W = jnp.asarray(2.0**exponent * M, dtype)
        found, gradient, growth = run(W)
        assert (found.sigma.dtype, gradient.dtype) == (dtype, dtype)
        u, s, vh = np.linalg.svd(np.asarray(W, np.float64))
        np.testing.assert_allclose(float(found.sigma) / s[0], 1, rtol=10 * eps)
        assert float(found.residual) < 20 * max(eps, np.finfo(np.float64).eps)
        outer = np.outer(u[:, 0], vh[0])
        np.testing.assert_allclose(np.asarray(gradient, np.float64), outer, atol=40 * eps)
        # LAPACK scales what is very large or small; OpenBLAS 0.3.30 does not scale it back.
        moderate = np.asarray(W, float) * 2.0**-exponent
        log_radius = np.log(np.abs(np.linalg.eigvals(moderate)).max()) + exponent * np.log(2)
        rates.append(float(growth) - log_radius)
    np.testing.assert_allclose(rates, rates[0], atol=100 * eps)


def test_what_is_not_finite_is_nan_and_says_so():
    W = normal(0, 4, 3, 3).at[1, 0, 1].set(jnp.nan).at[2, 2, 2].set(jnp.inf).at[3].set(0)
    found = jax.jit(gradients.largest_singular_value)(W)
    growth, w = mean_log_growth(W, generic_vector(W), iterations=3)
    for values in (found.sigma, found.residual, growth):
        np.testing.assert_array_equal(jnp.isnan(values), [False, True, True, False])
    assert jnp.isfinite(found.v).all()  # so that the next step, of a W that is finite, can go on
    assert jnp.isfinite(w).all()
    assert (found.sigma[3], found.residual[3]) == (0, 0)
    assert jnp.isnan(gradients.spectral_norm_penalty(W))


def test_a_start_that_w_forgets_is_not_stuck():
    """In the null space σ would stay 0 with residual 0; after NaN, NaN."""
    W = jnp.diag(jnp.array([0.0, 1.0, 3.0]))
    for start in ([1.0, 0, 0], [1.0, 1e-30, 0], [jnp.nan, 0, 0]):
        found = gradients.largest_singular_value(W, iterations=40, start=jnp.array(start))
        np.testing.assert_allclose(found.sigma, 3, rtol=1e-12)
    # A row of 1e-25 beside one of 1: the square of ‖W w‖ is no number of float32.
    turn = jnp.array([[0, 1], [1e-25, 0]], jnp.float32)
    growth, _ = mean_log_growth(turn, jnp.array([1, 0], jnp.float32), iterations=100)
    assert growth == pytest.approx(np.log(1e-25) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients.largest_singular_value(jnp.ones(3)), "W: got .*; expected floats"),
        (lambda: gradients.largest_singular_value(jnp.ones((2, 2), int)), "W: got"),
        (lambda: gradients.largest_singular_value([[1.0]]), "W: got list"),
        (lambda: gradients.largest_singular_value(jnp.eye(2), iterations=0), "iterations: got"),
        (lambda: gradients.largest_singular_value(jnp.eye(2), start=jnp.ones(3)), "start: got"),
        (lambda: gradients.spectral_norm_penalty(jnp.eye(2), target=jnp.nan), "target: got"),
        (lambda: gradients.spectral_norm_penalty(jnp.eye(2), one_sided="no"), "one_sided: got"),
        (lambda: gradients.orthogonality_penalty(jnp.ones(3)), "W: got"),
        (lambda: gradients.add_penalty(1.0, 1.0), "penalty: got float"),
        (lambda: gradients.add_penalty(sum, jnp.inf), "weight: got"),
    ],
)
def test_bad_arguments_of_penalties(call, message):
    with pytest.raises(ValueError, match=message):
        call()
