"""Frames, exponents and singular values where Jacobians are singular, or nearly, or not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import cells
from rnn_jax.gradients import (
    covariant_vectors,
    flossing,
    lyapunov_spectrum,
    singular_spectra,
)
from rnn_jax.linalg.orthonormalization import orthonormalize

S = 4
GIVEN = cells.from_function(lambda p, h, x: (x.reshape(S, S) @ h,) * 2, state=jnp.zeros(S))
"""h ← X h, with the matrix X as its input."""


def matrices(S, K):
    """Of every kind that breaks a QR, by name."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape)
    turn = lambda n: np.linalg.qr(normal(n, n))[0]
    graded = lambda k: (turn(S)[:, :K] * np.logspace(0, -k, K)) @ turn(K)
    yield "zero", np.zeros((S, K))
    for rank in (1, 2, K // 2, K - 1, K):
        yield f"rank {rank}", normal(S, rank) @ normal(rank, K)
    for k in (2, 3, 4, 5, 7):
        yield f"condition 1e{k}", graded(k)
    for k in (10, 16, 25, 300):
        yield f"condition 1e{k}", graded(k)
        yield f"rows over 1e{k}", normal(S, K) * np.logspace(0, -k, S)[:, None]
        yield f"columns over 1e{k}", normal(S, K) * np.logspace(k / 2, -k / 2, K)
    yield "equal columns", normal(S, 3)[:, rng.integers(0, 3, K)]
    yield "ones", np.ones((S, K))
    yield "half zero", normal(S, K) * (np.arange(K) % 2)
    yield "Hilbert", 1 / (np.arange(S)[:, None] + np.arange(K) + 1)
    yield "Vandermonde", np.vander(np.linspace(0, 1, S), K, increasing=True)
    yield "triangular", np.triu(normal(S, K))
    yield "small", 1e-300 * normal(S, K)
    yield "large", 1e300 * normal(S, K)


def test_a_frame_of_no_columns():
    Q, R = orthonormalize(jnp.zeros((3, 0)))
    assert (Q.shape, R.shape) == ((3, 0), (0, 0))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("S", "K"), [(16, 16), (72, 70), (256, 200)])
def test_m_is_q_r_whatever_m_is(S, K, dtype):
    eps = np.finfo(dtype).eps
    exact = np.float64 if dtype == np.float32 else np.longdouble
    qr = jax.jit(orthonormalize)
    for name, M in matrices(S, K):
        with np.errstate(over="ignore"):
            M = M.astype(dtype)
        if not np.isfinite(M).all():
            continue
        Q, R = (np.asarray(a, exact) for a in qr(jnp.asarray(M)))
        size = np.abs(M.astype(exact)).max(0) + np.finfo(dtype).tiny
        np.testing.assert_array_equal(R, np.triu(R), err_msg=name)
        alive = np.diagonal(R) > 0
        assert (np.diagonal(R) >= 0).all(), name
        assert np.abs((Q @ R - M) / size).max() < 400 * eps, name
        assert np.abs(Q.T @ Q - np.diag(alive)).max() < 20_000 * eps, name
        if name in ("ones", "equal columns", "half zero", "zero"):
            assert alive.sum() == np.linalg.matrix_rank(M), name


def test_derivative_beside_dependent_columns():
    """Finite differences of Q and R, a column kept a multiple of another."""
    X = jax.random.normal(jax.random.key(0), (6, 3))
    widen = lambda X: jnp.stack([X[:, 0], 2 * X[:, 0], X[:, 1], X[:, 2]], 1)
    both = lambda X: orthonormalize(widen(X))
    direction, h = jax.random.normal(jax.random.key(1), X.shape), 1e-6
    _, tangents = jax.jvp(both, (X,), (direction,))
    after, before = both(X + h * direction), both(X - h * direction)
    for got, a, b in zip(tangents, after, before, strict=True):
        np.testing.assert_allclose(got, (a - b) / (2 * h), atol=1e-8)


def test_one_example_neither_kills_nor_spoils_another():
    """A dead, a NaN and an overflowing example beside a sound one, by every tool."""
    J = np.random.default_rng(0).normal(size=(60, 4, S, S)) / 2
    J[:, 1, :, 2] = 0
    J[20, 2] = np.nan
    J[:, 3] *= 1e-200
    xs = jnp.asarray(J.reshape(60, 4, -1))
    run = jax.jit(lambda xs: lyapunov_spectrum(GIVEN, (), xs))
    together, alone = run(xs), run(xs[:, :1])
    np.testing.assert_allclose(together.exponents[:, :1], alone.exponents, rtol=1e-9)
    assert together.exponents[3, 1] < -30  # an upper limit: what rounding hides of −inf
    assert np.isposinf(together.rounding[3, 1])
    assert np.isfinite(together.exponents[:3, 1]).all()
    assert not together.trusted[3, 1]
    assert np.isnan(together.exponents[:, 2]).all()
    assert not together.trusted[:, 2].any()
    np.testing.assert_allclose(together.exponents[0, 3], -200 * np.log(10), atol=1)

    spectra = jax.jit(lambda xs: singular_spectra(GIVEN, (), xs, lags=[10, 50]))
    values = spectra(xs).log_values[0]
    np.testing.assert_allclose(values[..., 0], spectra(xs[:, :1]).log_values[0, ..., 0], rtol=1e-9)
    assert np.isfinite(values[:, :3, 1]).all()
    assert np.isneginf(values[:, 3, 1]).all()
    assert np.isnan(values[..., 2]).all()

    vectors = covariant_vectors(GIVEN, (), xs, warmup=20, cooldown=20)
    np.testing.assert_allclose(vectors.exponents[:3, 0], together.exponents[:3, 0], atol=0.3)
    assert np.isneginf(vectors.exponents[3, 1])
    assert not vectors.trusted[3, 1]
    assert not vectors.trusted[:, 2].any()


def test_a_collapsed_frame_is_not_trusted():
    """A hand-given interval of 200 between .9 and .1, and a slow transient."""
    cell = cells.from_function(lambda W, h, x: (W @ h,) * 2, lambda W: jnp.ones(2, W.dtype))
    run = lambda W, T, **how: lyapunov_spectrum(cell, W, jnp.zeros((T, 0)), **how)
    got = run(jnp.diag(jnp.array([0.9, 0.1])), 4000, interval=np.int64(200), blocks=5)
    assert not got.trusted[1]
    np.testing.assert_allclose(got.exponents[0], np.log(0.9), atol=1e-3)
    for W in ([[0.9, 1], [0, 0.89]], [[1, 1], [0, 1]]):
        got = run(jnp.array(W, float), 50)
        true = np.log(np.diagonal(W))
        assert (~got.trusted | (abs(got.exponents - true) < 3 * got.standard_errors)).all()
    neutral = run(jnp.array([[0.6, -0.8], [0.8, 0.6]]), 500)
    assert neutral.kaplan_yorke == 2


def test_flossing_beside_a_dead_unit():
    """The gradient is that of the living ones, by finite differences; NaN stays NaN."""
    cell = cells.elman(3, "relu", dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1)
    params = params.replace(W=jnp.diag(jnp.array([0.9, 0.6, 0.5])), b=jnp.array([1.0, 1, -9]))
    xs = jnp.zeros((30, 1))
    loss = jax.jit(lambda W, xs: flossing(cell, params.replace(W=W), xs, num_exponents=3))
    gradient, h = jax.grad(loss)(params.W, xs), 1e-6
    assert np.isfinite(gradient).all()
    for i in range(2):
        step = jnp.zeros((3, 3)).at[i, i].set(h)
        central = (loss(params.W + step, xs) - loss(params.W - step, xs)) / (2 * h)
        np.testing.assert_allclose(gradient[i, i], central, rtol=1e-5)
    assert (gradient[2] == 0).all()
    assert np.isnan(loss(params.W, xs.at[3].set(jnp.nan)))


def test_covariant_vectors_are_trusted_where_they_are_right():
    """300 products of Gaussian matrices, windows of 20, against windows of 110; K = 1 of 4."""
    J = np.random.default_rng(0).normal(size=(240, 300, S, S)) / 2

    def run(first, last, width, K=None):
        one = lambda xs: covariant_vectors(
            GIVEN, (), xs, warmup=width, cooldown=width, num_exponents=K
        )
        return jax.jit(one)(jnp.asarray(J[first:last].reshape(last - first, 300, -1)))

    true = run(0, 240, 110).vectors
    for K in (4, 1):
        got = run(90, 150, 20, K)
        cosine = jnp.abs((got.vectors * true[..., :K]).sum(2))
        sine = jnp.sqrt(jnp.maximum(1 - jnp.square(cosine), 0)).max(0).T
        assert got.trusted.mean() > 0.05
        assert (sine > 0.05)[got.trusted].sum() <= 1
