r"""M = Q R by matrix products alone: what keeps a frame of tangent vectors from collapsing.

Columns are halved recursively (block Gram-Schmidt), which leaves nearly all of the work to large
matrix products; up to 32 columns are orthonormalized by Cholesky-QR,

.. math:: M^\top M = R^\top R, \qquad Q = M R^{-1},

once more with Q in place of M until Q is orthonormal to rounding: once where M is well-conditioned,
three times where it is as ill-conditioned as its numbers can be (Fukaya et al. 2020).

No LAPACK is called. On the CPU its QR takes several times as long as these products, and batched
LAPACK calls that run at the same time can wait for each other forever (see `linalg.spectral_norm`).

Whatever M is, M = Q R to rounding. QᵀQ − I is about 100 ε, or ε κ(M) at worst, as after modified
Gram-Schmidt.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rnn_jax.linalg import row_major_transpose, split_exponent
from rnn_jax.types import Array

COLUMNS_AT_ONCE, MOST_PASSES = 32, 4
LITTLE = 0.1
"""Of a column's size, below which what Gram-Schmidt leaves is orthogonalized once more."""


@jax.custom_jvp
def orthonormalize(M: Array) -> tuple[Array, Array]:
    r"""Q `[S, K]` with orthonormal columns and R `[K, K]` upper triangular, of `M [S, K]`, K ≤ S.

    The diagonal of R is positive. Columns that depend on earlier ones to rounding leave a R_ii of
    about ε ‖M‖ and a column of Q that is noise, a column of zeros leaves zeros. The columns after
    noise are orthogonal to those of their own 32, but not to the ones before these.

    Reference: Fukaya, Kannan, Nakatsukasa, Yamamoto and Yanagisawa, Shifted Cholesky QR for
    computing the QR factorization of ill-conditioned matrices (2020), arXiv 1809.11085.

    Derivatives of every order and direction; with C = Qᵀ Ṁ R⁻¹, split as C = Ω + T, Ω antisymmetric
    and T upper triangular,

    .. math:: \dot Q = Q \Omega + (I - Q Q^\top) \dot M R^{-1}, \qquad \dot R = T R.
    """
    K = M.shape[1]
    if K <= COLUMNS_AT_ONCE:
        return _repeated_cholesky_qr(M)
    half = COLUMNS_AT_ONCE * math.ceil(K / COLUMNS_AT_ONCE / 2)
    Q_1, R_11 = orthonormalize(M[:, :half])
    rest, R_12 = _project_out(Q_1, M[:, half:])
    Q_2, R_22 = orthonormalize(rest)
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


def _project_out(Q: Array, M: Array) -> tuple[Array, Array]:
    """M − Q C, and C = QᵀM; once more where little was left of a column, for that is rounding."""
    Q_T = row_major_transpose(Q)
    C = Q_T @ M
    rest = M - Q @ C

    def again(rest, C):
        more = Q_T @ rest
        return rest - Q @ more, C + more

    size = lambda A: jnp.abs(A).max(0)
    lost = (size(rest) < LITTLE * size(M)).any()
    return jax.lax.cond(lost, again, lambda rest, C: (rest, C), rest, C)


def _repeated_cholesky_qr(M: Array) -> tuple[Array, Array]:
    """Passes of M = Q R, Q = m 2^e in columns of like size and G = mᵀm, until QᵀQ = I."""
    identity = jnp.eye(M.shape[1], dtype=M.dtype)
    enough = 4 * COLUMNS_AT_ONCE * jnp.finfo(M.dtype).eps

    def scaled(Q):
        m, e = split_exponent(Q, (0,))
        return m, e, row_major_transpose(m) @ m

    def not_orthonormal(carry):
        _, e, G, _, passes = carry
        away = jnp.abs(jnp.ldexp(G, e[:, None] + e) - identity).max()
        return (passes == 0) | ((passes < MOST_PASSES) & (away > enough))

    def again(carry):
        m, e, G, R, passes = carry
        R_next, R_inverse = _cholesky(G)
        return *scaled(m @ R_inverse), jnp.ldexp(R_next, e) @ R, passes + 1

    m, e, _, R, _ = jax.lax.while_loop(not_orthonormal, again, (*scaled(M), identity, 0))
    return m * jnp.ldexp(jnp.ones((), M.dtype), e), R


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
    return jnp.triu(A[:, :K]), row_major_transpose(A[:, K:])
