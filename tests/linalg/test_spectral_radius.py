"""ρ(W) by squaring, against closed forms and the eigenvalues of LAPACK; e^A against SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rnn_jax.linalg import exponential, spectral_radius

N = 12
radius = jax.jit(spectral_radius)


def rotation(rng):
    return np.linalg.qr(rng.normal(size=(N, N)))[0]


def turning_blocks(rng):
    """Complex pairs, in a basis that is not orthogonal."""
    W = np.zeros((N, N))
    for i in range(0, N, 2):
        angle, size = rng.uniform(0, np.pi), rng.uniform(0.3, 1.2)
        c, s = size * np.cos(angle), size * np.sin(angle)
        W[i : i + 2, i : i + 2] = [[c, -s], [s, c]]
    basis = rotation(rng) * np.linspace(0.5, 2, N)
    return basis @ W @ np.linalg.inv(basis)


def stochastic(rng):
    W = rng.uniform(size=(N, N))
    return W / W.sum(1, keepdims=True)


def renumbered(W, rng):
    order = rng.permutation(N)
    return W[order][:, order]


def one_cycle(rng):
    W = np.diag(10.0 ** rng.uniform(-10, 10, N - 1), 1)
    W[-1, 0] = 10.0 ** rng.uniform(-10, 10)
    return renumbered(W, rng)


BY_LAPACK = {
    "gaussian": lambda rng: rng.normal(size=(N, N)),
    "gaussian, 1e30": lambda rng: 1e30 * rng.normal(size=(N, N)),
    "gaussian, 1e-30": lambda rng: 1e-30 * rng.normal(size=(N, N)),
    "sparse": lambda rng: rng.normal(size=(N, N)) * (rng.uniform(size=(N, N)) < 0.15),
    "stochastic": stochastic,
    "orthogonal": rotation,
    "complex pairs": turning_blocks,
    "companion": lambda rng: np.vstack([rng.normal(size=N), np.eye(N)[:-1]]),
    "symmetric": lambda rng: (lambda A: A + A.T)(rng.normal(size=(N, N))),
}
"""Well-conditioned eigenvalues: LAPACK's are right to rounding, and stay so in other units."""

shift = np.eye(N, k=1)
CLOSED = {
    "0.5 I + 0.5 shift": lambda rng: (0.5 * np.eye(N) + 0.5 * shift, 0.5),
    "delay line": lambda rng: (0.875 * np.eye(N) + shift.T, 0.875),
    "delay line that decays": lambda rng: (0.25 * np.eye(N) + 1e6 * shift, 0.25),
    "triangular": lambda rng: (
        renumbered(np.diag(np.linspace(0.25, 0.75, N)) + np.triu(rng.normal(size=(N, N)), 1), rng),
        0.75,
    ),
    "nilpotent": lambda rng: (renumbered(np.triu(rng.normal(size=(N, N)), 1), rng), 0.0),
    "one cycle": lambda rng: (lambda W: (W, 2 ** np.log2(np.float64(np.float32(W[W > 0]))).mean()))(
        one_cycle(rng)
    ),
    "a block of 1e-20 beside a nilpotent one of 1e10": lambda rng: (
        scipy.linalg.block_diag(
            1e10 * np.triu(np.ones((N - 2, N - 2)), 1), 2.0**-66 * np.array([[0, 4.0], [1, 0]])
        ),
        2.0**-65,
    ),
    "the nilpotent of 8s beside 1e-30": lambda rng: (
        scipy.linalg.block_diag([[8.0, 8], [-8, -8]], 2.0**-100 * np.eye(N - 2)),
        2.0**-100,
    ),
    "zero": lambda rng: (np.zeros((N, N)), 0.0),
}


def leading(W):
    """|λ₁|, and by how much it moves at most with W: κ(λ₁) (‖W‖/ρ)², of LAPACK."""
    values, left, right = scipy.linalg.eig(W.astype(np.float64), left=True)
    i = np.abs(values).argmax()
    kappa = 1 / np.abs(left[:, i].conj() @ right[:, i])
    rho = np.abs(values[i])
    return rho, kappa * (np.linalg.norm(W, 2) / rho) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whatever_the_structure_and_the_units(dtype):
    rng = np.random.default_rng(0)
    tolerance = 20 * np.finfo(dtype).eps  # LAPACK's own error among it
    for name, make in BY_LAPACK.items():
        for _ in range(8):
            W = make(rng).astype(dtype)
            expected, sensitivity = leading(W)
            rtol = tolerance * sensitivity
            np.testing.assert_allclose(radius(W), expected, rtol=rtol, err_msg=name)
            if 0.1 < expected < 10:
                moved = 2.0 ** rng.integers(-30, 30, N)
                moved = (W * moved[:, None] / moved).astype(dtype)
                np.testing.assert_allclose(radius(moved), expected, rtol=rtol, err_msg=name)
    for name, make in CLOSED.items():
        for _ in range(4):
            W, expected = make(rng)
            got = radius(W.astype(np.float32).astype(dtype))
            np.testing.assert_allclose(got, expected, rtol=tolerance, err_msg=name)


def test_rotated_defective_matrices_are_as_far_off_as_is_said():
    """ε^(1/m) by rounding of entries, ε^(1/(2m−2)) by squaring what grows as n^(m−1)."""
    rng = np.random.default_rng(1)
    for dtype in (np.float32, np.float64):
        eps = np.finfo(dtype).eps
        for m in (2, 3, 4):
            for value in (0.0, 1.0):
                Q = np.linalg.qr(rng.normal(size=(m, m)))[0]
                W = Q @ (value * np.eye(m) + np.eye(m, k=1)) @ Q.T
                W = np.pad(W, (0, N - m)).astype(dtype)
                assert abs(float(radius(W)) - value) < 20 * eps ** (1 / max(m, 2 * m - 2))


def test_what_is_not_finite_is_nan_and_small_sizes_and_types_work():
    W = np.random.default_rng(2).normal(size=(N, N))
    for value in (np.nan, np.inf, -np.inf):
        bad = W.copy()
        bad[3, 4] = value
        assert jnp.isnan(radius(bad))
        bad = np.zeros((N, N))
        bad[0, 1] = value  # on no cycle
        assert jnp.isnan(radius(bad))
    assert spectral_radius(jnp.zeros((0, 0))) == 0
    assert spectral_radius(jnp.full((1, 1), -3.0)) == 3
    for dtype in (jnp.float16, jnp.bfloat16):
        half = jnp.asarray(W, dtype)
        expected = np.abs(np.linalg.eigvals(np.asarray(half, np.float64))).max()
        got = radius(half)
        assert got.dtype == dtype
        assert float(got) == pytest.approx(expected, rel=float(jnp.finfo(dtype).eps))
    stacked = np.random.default_rng(3).normal(size=(5, N, N))
    expected = np.abs(np.linalg.eigvals(stacked)).max(1)
    np.testing.assert_allclose(jax.jit(jax.vmap(spectral_radius))(stacked), expected, rtol=1e-13)


def test_derivative_by_a_real_leading_eigenvalue():
    W = np.random.default_rng(4).uniform(size=(N, N))
    values, left, right = scipy.linalg.eig(W, left=True)
    i = np.abs(values).argmax()
    u, v = left[:, i].real, right[:, i].real
    np.testing.assert_allclose(jax.grad(radius)(W), np.outer(u, v) / (u @ v), rtol=1e-10)
    beside = scipy.linalg.block_diag(W[:6, :6], np.triu(np.ones((6, 6)), 1))
    assert jnp.isfinite(jax.grad(radius)(beside)).all()  # a block whose powers die


@pytest.mark.parametrize("tool", [spectral_radius, exponential])
@pytest.mark.parametrize(
    "bad",
    [np.ones(3), np.ones((2, 3)), np.ones((2, 2), int), np.ones((2, 2), complex), 1.0, [[1.0]]],
)
def test_what_is_no_square_matrix_of_floats_is_refused(tool, bad):
    with pytest.raises(ValueError, match=r"(W|A): got .*; expected floats \["):
        tool(bad)
    for squarings in (-1 if tool is exponential else 0, 2.5, True):
        with pytest.raises(ValueError, match="squarings: got"):
            tool(np.eye(2), squarings=squarings)


@functools.partial(jax.jit, static_argnames="dtype")
def of_skew(A, dtype):
    return exponential((A - A.T).astype(dtype))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_exponential_at_every_size(dtype):
    """Of skew matrices, whose exponential is orthogonal and known from their eigenvalues."""
    A = np.random.default_rng(5).normal(size=(8, 8))
    for scale in (1e-20, 1e-3, 1.0, 30.0, 3e4):
        S = np.asarray((jnp.asarray(scale * A) - scale * A.T).astype(dtype), np.float64)
        angles, basis = np.linalg.eigh(1j * S)
        expected = (basis * np.exp(-1j * angles) @ basis.conj().T).real
        got = of_skew(scale * A, dtype=dtype)
        # Rounding of the angles, which are known to ε times their size, and of the squarings.
        atol = 50 * float(jnp.finfo(dtype).eps) * max(1, np.abs(angles).max())
        np.testing.assert_allclose(got, expected, atol=atol)
