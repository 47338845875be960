"""Q R by products, also of what is nearly singular, and its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.linalg.orthonormalization import orthonormalize
from tests.helpers import normal, positive_qr


@pytest.mark.parametrize(
    ("S", "K", "dtype"),
    [(40, 37, jnp.float64), (96, 70, jnp.float32), (5, 5, jnp.float64), (4, 1, jnp.float64)],
)
def test_orthonormalize(S, K, dtype):
    """A K that is no multiple of the panel's width, one column, float32."""
    M = normal(0, S, K, dtype=dtype)
    Q, R = jax.jit(orthonormalize)(M)
    assert Q.dtype == R.dtype == dtype
    expected_Q, expected_R = positive_qr(np.asarray(M, float))
    rounding = 300 * np.finfo(dtype).eps
    np.testing.assert_allclose(Q.T @ Q, np.eye(K), atol=rounding)
    np.testing.assert_allclose(Q @ R, M, atol=rounding * np.abs(M).max())
    np.testing.assert_allclose(R, np.triu(R), atol=0)
    condition = np.linalg.cond(np.asarray(M, float))
    np.testing.assert_allclose(Q, expected_Q, atol=rounding * condition)
    np.testing.assert_allclose(R, expected_R, atol=rounding * condition)


def test_orthonormalize_what_is_nearly_singular():
    """κ = 10¹⁰; dependent columns; zero columns; columns of sizes that squares cannot hold."""
    qr = jax.jit(orthonormalize)
    eps = np.finfo(float).eps
    U, V = (np.linalg.qr(normal(seed, S, 37))[0] for seed, S in ((1, 40), (2, 37)))
    ill = (U * np.logspace(0, -10, 37)) @ V
    Q, R = qr(ill)
    np.testing.assert_allclose(Q @ R, ill, atol=100 * eps)
    np.testing.assert_allclose(Q.T @ Q, np.eye(37), atol=200 * eps)

    M = np.array(normal(4, 40, 37))
    M[:, 5] = M[:, :5] @ [1, -2, 3, 0.5, 1]
    M[:, 20] = 0
    M[:, 35] = M[:, 1] - M[:, 34]
    Q, R = qr(jnp.asarray(M))
    np.testing.assert_allclose(Q @ R, M, atol=1000 * eps)
    alive = np.ones(37)
    alive[[5, 20, 35]] = 0
    np.testing.assert_array_equal(np.diagonal(R) > 0, alive > 0)
    np.testing.assert_allclose(Q.T @ Q, np.diag(alive), atol=200 * eps)

    sizes = jnp.logspace(-200, 200, 37)
    Q, R = qr(normal(5, 40, 37) * sizes)
    np.testing.assert_allclose(Q.T @ Q, np.eye(37), atol=100 * eps)
    expected = positive_qr(normal(5, 40, 37))[1]
    np.testing.assert_allclose(R / sizes, expected, atol=1e-12)


def test_derivative_of_orthonormalize():
    """Against jax's own QR, and its second derivative against differences of the first."""
    M = normal(0, 36, 34)
    weights = normal(1, 36, 34), normal(2, 34, 34)

    def through(qr):
        def loss(M):
            Q, R = qr(M)
            return (weights[0] * Q).sum() + (weights[1] * R).sum()

        return jax.jit(jax.grad(loss))

    def theirs(M):
        Q, R = jnp.linalg.qr(M)
        signs = jnp.sign(jnp.diagonal(R))
        return Q * signs, R * signs[:, None]

    gradient = through(orthonormalize)
    np.testing.assert_allclose(gradient(M), through(theirs)(M), rtol=1e-8, atol=1e-8)
    direction, h = normal(3, 36, 34), 1e-5
    central = (gradient(M + h * direction) - gradient(M - h * direction)) / (2 * h)
    second = jax.jvp(gradient, (M,), (direction,))[1]
    np.testing.assert_allclose(second, central, rtol=1e-5, atol=1e-4)
