r"""M = Q R by matrix products alone: what keeps a frame of tangent vectors from collapsing.

Columns are halved recursively (block Gram-Schmidt), which leaves nearly all of the work to large
matrix products; up to 32 columns are orthonormalized by Cholesky-QR, twice:

.. math:: M^\top M = R^\top R, \qquad Q = M R^{-1}.

No LAPACK is called. On the CPU its QR takes several times as long as these products, and batched
LAPACK calls that run at the same time can wait for each other forever (see `linalg.spectral_norm`).

Where M is ill-conditioned, QᵀQ − I is about ε κ(M), as after modified Gram-Schmidt, and M = Q R
holds to rounding all the same. Lyapunov exponents ask for no more: what is missing in ln R_ii at
one time is made up for at the next, since only the product of all R is a growth rate.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rnn_jax.linalg import split_exponent
from rnn_jax.types import Array

COLUMNS_AT_ONCE = 32


@jax.custom_jvp
def orthonormalize(M: Array) -> tuple[Array, Array]:
    r"""Q `[S, K]` with orthonormal columns and R `[K, K]` upper triangular, of `M [S, K]`, K ≤ S.

    The diagonal of R is positive. Columns that depend on earlier ones to rounding leave a R_ii of
    about ε ‖M‖ and a column of Q that is noise, or zero.

    Derivatives of every order and direction; with C = Qᵀ Ṁ R⁻¹, split as C = Ω + T, Ω antisymmetric
    and T upper triangular,

    .. math:: \dot Q = Q \Omega + (I - Q Q^\top) \dot M R^{-1}, \qquad \dot R = T R.
    """
    K = M.shape[1]
    if K <= COLUMNS_AT_ONCE:
        Q, R_1 = _cholesky_qr(M)
        Q, R_2 = _cholesky_qr(Q)
        return Q, R_2 @ R_1
    half = COLUMNS_AT_ONCE * math.ceil(K / COLUMNS_AT_ONCE / 2)
    Q_1, R_11 = orthonormalize(M[:, :half])
    R_12 = Q_1.T @ M[:, half:]
    Q_2, R_22 = orthonormalize(M[:, half:] - Q_1 @ R_12)
    zero = jnp.zeros((K - half, half), M.dtype)
    R = jnp.concatenate([jnp.concatenate([R_11, R_12], 1), jnp.concatenate([zero, R_22], 1)])
    return jnp.concatenate([Q_1, Q_2], 1), R


@orthonormalize.defjvp
def _orthonormalize_jvp(primals, tangents):
    (M,), (dM,) = primals, tangents
    Q, R = orthonormalize(M)
    dM_Rinv = jax.lax.linalg.triangular_solve(R, dM, left_side=False)
    C = Q.T @ dM_Rinv
    below = jnp.tril(C, -1)
    Omega = below - below.T
    return (Q, R), (Q @ (Omega - C) + dM_Rinv, (C - Omega) @ R)


def _cholesky_qr(M: Array) -> tuple[Array, Array]:
    """One pass of M = Q R for a few columns; QᵀQ − I is about ε κ(M)²."""
    scaled, e = split_exponent(M, (0,))
    R, R_inverse = _cholesky(scaled.T @ scaled)
    return scaled @ R_inverse, jnp.ldexp(R, e[None, :])


def _cholesky(G: Array) -> tuple[Array, Array]:
    """R and R⁻¹ of `G [K, K]` = Rᵀ R, by eliminating [G | I] into [R | R⁻ᵀ].

    A pivot below rounding is raised to it: G then counts as slightly more than it is, R is
    invertible, and M = Q R for Q = M R⁻¹ as ever.
    """
    K = len(G)
    largest = jnp.maximum(G.diagonal().max(), 1)  # at least ¼ but for columns of zeros
    least = jnp.asarray(K * jnp.finfo(G.dtype).eps, G.dtype) * largest
    i, columns = jnp.arange(K)[:, None], jnp.arange(2 * K)

    def eliminate(A, j):
        # Masks over all of A, where slices would do: XLA makes one loop of them, six times as fast.
        pivot = jnp.maximum(A[j, j], least)
        row = jnp.where(columns == j, pivot, A[j]) * jax.lax.rsqrt(pivot)
        factors = A[:, j] * jax.lax.rsqrt(pivot)
        rest = A - factors[:, None] * row
        return jnp.where(i < j, A, jnp.where(i == j, row, rest)), None

    A, _ = jax.lax.scan(eliminate, jnp.concatenate([G, jnp.eye(K, dtype=G.dtype)], 1), i[:, 0])
    return jnp.triu(A[:, :K]), A[:, K:].T
