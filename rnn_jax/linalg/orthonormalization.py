r"""QR decomposition by matrix products alone, for frames of tangent vectors.

Columns are halved recursively (block Gram-Schmidt), so that nearly all of the work is in large
matrix products; up to 32 columns are orthonormalized by Cholesky-QR,

.. math:: M^\top M = R^\top R, \qquad Q = M R^{-1},

once more with Q in place of M until Q is orthonormal to rounding: once where M is well-conditioned,
several times where it is ill-conditioned (Fukaya et al. 2020). Then Q is tried on a random vector.
Where it is not quite orthonormal, all columns are corrected at once; where it is not at all, or
columns depend on each other, Gram-Schmidt takes them one by one.

A column of which no more than rounding is left once the columns before it are projected out counts
as dependent on them. Its R_ii is zero and its column of Q too: rounding has no direction. The
columns after it are then those that they would be without it.

No LAPACK is called. On the CPU its QR takes several times as long as these products, and batched
LAPACK calls that run at the same time can wait for each other forever (see `linalg.spectral_norm`).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_array, invalid
from rnn_jax.linalg import row_major_transpose, split_exponent
from rnn_jax.linalg.exponents import column_exponents, scale_columns
from rnn_jax.linalg.scaled import exact_unless
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array

COLUMNS_AT_ONCE, MOST_PASSES = 32, 8
REORTHOGONALIZE_BELOW = 0.3
"""A column of which Gram-Schmidt leaves less than this share is orthogonalized once more."""
SMALLEST_SHARE = 1e-3
"""A column of which less than this share is left is finished by the next pass of Cholesky-QR."""
ILL_CONDITIONED = 1e5
"""Condition of R in a pass from which M R⁻¹ is not trusted."""
FAR = 40
"""Exponents from which columns are scaled."""
REFINE_FROM = 10
"""Condition of R in a pass from which Q = M R⁻¹ is refined, so that Q R is M to rounding."""
MAGNIFIED = 1e3
"""Condition of R, of all passes together, from which M R⁻¹ is projected once more."""
PROJECTIONS = 3
"""Projections of a column; two are enough if those before are orthonormal to rounding."""
ENOUGH = 20_000
"""Largest entry of (QᵀQ − I) z, in ε, that passes, for a vector z of signs."""


def orthonormalize(M: Array) -> tuple[Array, Array]:
    r"""Return Q `[S, K]` with orthonormal columns, or zeros, and R `[K, K]` of `M [S, K]`, K ≤ S.

    M = Q R to rounding, column by column, whatever the rank, the condition and the scale of M, as
    far as R is in its dtype's range. R is upper triangular. R_ii is positive and column i of Q of
    length 1, orthogonal to all others; or both are zero, where the columns before it leave less
    than 2 ε √(S + K) of column i. QᵀQ − I, but for these, is some ε, and at most some 20,000 ε. NaN
    where M is not finite.

    Reference: Fukaya, Kannan, Nakatsukasa, Yamamoto and Yanagisawa, Shifted Cholesky QR for
    computing the QR factorization of ill-conditioned matrices (2020), arXiv 1809.11085.

    Derivatives of every order and direction; with C = Qᵀ Ṁ R⁻¹, split as C = Ω + T, Ω antisymmetric
    and T upper triangular,

    .. math:: \dot Q = Q \Omega + (I - Q Q^\top) \dot M R^{-1}, \qquad \dot R = T R.

    A dependent column is taken to stay dependent.

    Raises:
      ValueError: no matrix of floats, or more columns than rows.
    """
    check_array("M", M, ("S", "K"))
    if M.shape[1] > M.shape[0]:
        remedy = "In S dimensions no more than S columns are orthonormal."
        raise invalid("M", M, "K ≤ S columns", remedy)
    if M.shape[1] == 0:
        return M, jnp.zeros((0, 0), M.dtype)
    return _compiled(M)


@compiled()
def _compiled(M: Array) -> tuple[Array, Array]:
    return _orthonormalize(M)


@jax.custom_jvp
def _orthonormalize(M: Array) -> tuple[Array, Array]:
    S, K = M.shape
    # Of a column near either end of the range sums would overflow, or small parts be flushed.
    # Scaling is exact but costs a pass over M; within 2^±40 nothing that counts is lost.
    e = column_exponents(M)
    far = (jnp.abs(e) > FAR).any()
    M = jax.lax.cond(far, scale_columns, lambda M, e: M, M, -e)
    Q, R, _, worst = _recursive(M)
    ill = worst > ILL_CONDITIONED
    dependent = _hardly_any(R, share_of_rounding(S, K, float(jnp.finfo(M.dtype).eps)))
    fits = ~(dependent.any() | ill) & (_failure(Q, R) <= ENOUGH * jnp.finfo(M.dtype).eps)

    # Three ways, each slower and surer than the one before: products alone, nearly always enough;
    # all columns before the first dependent one corrected together; and Gram-Schmidt column by
    # column from there on, or from column 0 where R is ill-conditioned or correction hopeless.
    def with_care(M: Array, Q: Array, R: Array, dependent: Array, ill: Array):
        # Columns from here on are taken one by one.
        first = jnp.where(dependent.any(), jnp.argmax(dependent), K).astype(jnp.int32)
        first = jnp.where(ill, 0, first)
        Q, R, hopeless = _corrected(*_leading(Q, R, first))
        first = jnp.where(hopeless, 0, first)
        return _one_by_one(M, *_leading(Q, R, first), first)

    Q, R = exact_unless(fits, (Q, R), with_care, M, Q, R, dependent, ill)
    return Q, jax.lax.cond(far, scale_columns, lambda R, e: R, R, e)


def share_of_rounding(S: int, K: int, eps: float) -> float:
    """Return what may be left, by rounding alone, of a column that depends on those before it."""
    return 2 * math.sqrt(S + K) * eps


def _leading(Q: Array, R: Array, count: Array) -> tuple[Array, Array]:
    """Return Q and R with zeros for all but the first columns."""
    kept = jnp.arange(Q.shape[1], dtype=jnp.int32) < count
    return jnp.where(kept, Q, 0), jnp.where(kept, R, 0)


def _hardly_any(R: Array, rounding: float) -> Array:
    """Return whether R_jj is at most `rounding` times a column of R that is not zero, `[K]`."""
    largest = jnp.abs(R).max(0)
    return (R.diagonal() <= jnp.asarray(rounding, R.dtype) * largest) & (largest > 0)


@_orthonormalize.defjvp
def _orthonormalize_jvp(primals: Any, tangents: Any):
    (M,), (dM,) = primals, tangents
    Q, R = _orthonormalize(M)
    # R of a dependent column has no inverse. Its column of R is taken as that of I, and its motion
    # as zero: the solve is regular, and the other columns move as if it were not there.
    dependent = jnp.diagonal(R) == 0
    moves = jnp.where(dependent, 0, dM)
    regular = jnp.where(dependent, jnp.eye(len(R), dtype=R.dtype), R)
    dM_Rinv = jax.lax.linalg.triangular_solve(regular, moves, left_side=False)
    C = Q.T @ dM_Rinv
    below = jnp.tril(C, -1)
    Omega = below - below.T
    # A dependent column m = Q r keeps R_jj = 0; the rest of r is Qᵀ m, in which Q turns.
    turns = Omega.T @ R + Q.T @ dM
    dR = jnp.where(dependent, jnp.triu(turns, 1), (C - Omega) @ R)
    return (Q, R), (Q @ (Omega - C) + dM_Rinv, dR)


def _recursive(M: Array) -> tuple[Array, Array, Array, Array]:
    """Return Q, R, the worst condition of a panel, and that of a single pass over one."""
    K = M.shape[1]
    if K <= COLUMNS_AT_ONCE:
        return _repeated_cholesky_qr(M)
    half = COLUMNS_AT_ONCE * math.ceil(K / COLUMNS_AT_ONCE / 2)
    Q_1, R_11, panels_1, passes_1 = _recursive(M[:, :half])
    rest, R_12 = _project_out(Q_1, M[:, half:])
    Q_2, R_22, panels_2, passes_2 = _recursive(rest)

    def straightened(Q_2: Array, R_12: Array):
        # `rest` is orthogonal to Q_1 up to some ε of its size. Q_2 = rest R_22⁻¹ magnifies that by
        # the condition of R_22, so that a second projection, now of unit columns, has to follow.
        C = row_major_transpose(Q_1) @ Q_2
        return Q_2 - Q_1 @ C, R_12 + C @ R_22

    Q_2, R_12 = jax.lax.cond(panels_2 > MAGNIFIED, straightened, lambda Q, R: (Q, R), Q_2, R_12)
    zero = jnp.zeros((K - half, half), M.dtype)
    R = jnp.concatenate([jnp.concatenate([R_11, R_12], 1), jnp.concatenate([zero, R_22], 1)])
    panels, passes = jnp.maximum(panels_1, panels_2), jnp.maximum(passes_1, passes_2)
    return jnp.concatenate([Q_1, Q_2], 1), R, panels, passes


def _project_out(Q: Array, M: Array) -> tuple[Array, Array]:
    """Return M − Q C and C = QᵀM, projected twice where little is left of a column."""
    # What is left is orthogonal to Q up to ε of the column that was there before: relative to what
    # is left that is ε / share. A second projection starts from what is left, and so is right to ε
    # of it (Kahan's "twice is enough"). At a share of 0.3 one projection is a factor of three off.
    Q_T = row_major_transpose(Q)
    C = Q_T @ M
    rest = M - Q @ C

    def again(rest: Array, C: Array):
        more = Q_T @ rest
        return rest - Q @ more, C + more

    size = lambda A: jnp.abs(A).max(0)
    lost = (size(rest) < REORTHOGONALIZE_BELOW * size(M)).any()
    return jax.lax.cond(lost, again, lambda rest, C: (rest, C), rest, C)


def _repeated_cholesky_qr(M: Array) -> tuple[Array, Array, Array, Array]:
    """Repeat M = Q R, Q = m 2^e in columns of like size and G = mᵀm, until QᵀQ = I."""
    # A pass leaves QᵀQ − I of about ε cond(M)², the condition of G: rounding for a condition up to
    # 10, and below 1 up to ε^-½, so that two passes do. Beyond, G is indefinite by rounding,
    # `_cholesky` raises its small pivots, and a pass takes about 1 / SMALLEST_SHARE off the
    # condition: in float32 three passes do for 1e7.
    identity = jnp.eye(M.shape[1], dtype=M.dtype)
    enough = 4 * COLUMNS_AT_ONCE * jnp.finfo(M.dtype).eps

    def scaled(Q: Array):
        m, e = split_exponent(Q, (0,))
        return m, e, row_major_transpose(m) @ m

    def not_orthonormal(carry: Any):
        _, e, G, *_, passes = carry
        target = jnp.where(G.diagonal() == 0, 0, identity)
        away = jnp.abs(jnp.ldexp(G, e[:, None] + e) - target).max()
        return (passes == 0) | ((passes < MOST_PASSES) & (away > enough))

    def again(carry: Any):
        m, e, G, R, condition, worst, passes = carry
        R_next, R_inverse = _cholesky(G)
        now = jnp.abs(R_next).max() * jnp.abs(R_inverse).max()
        R = jnp.ldexp(R_next, e) @ R
        worst = jnp.maximum(worst, now)

        def refined(Q: Array) -> Array:
            # m R⁻¹ R differs from m by ε times the condition of R: what is missing is added.
            return Q + (m - Q @ R_next) @ R_inverse

        Q = jax.lax.cond(now > REFINE_FROM, refined, lambda Q: Q, m @ R_inverse)
        return *scaled(Q), R, condition * now, worst, passes + 1

    one = jnp.ones((), M.dtype)
    first = (*scaled(M), identity, one, one, 0)
    m, e, G, R, condition, worst, _ = jax.lax.while_loop(not_orthonormal, again, first)
    R = jnp.where((G.diagonal() == 0) & (identity == 1), 0, R)
    return m * jnp.ldexp(one, e), R, condition, worst


def _cholesky(G: Array) -> tuple[Array, Array]:
    """Return R and R⁻¹ of `G [K, K]` = Rᵀ R, by eliminating [G | I] into [R | R⁻ᵀ].

    A pivot below `SMALLEST_SHARE` squared is raised to it, and R_jk = 0 for all k > j: eliminating
    by what is mostly rounding would magnify that without bound. R stays invertible, M = Q R holds
    for Q = M R⁻¹ all the same, and the next pass sees what is left of the column.
    """
    K = len(G)
    largest = jnp.maximum(G.diagonal().max(), 1)  # at least ¼ but for columns of zeros
    least = jnp.asarray(SMALLEST_SHARE**2, G.dtype) * largest
    i, columns = jnp.arange(K)[:, None], jnp.arange(2 * K)

    def eliminate(A: Array, j: Any):
        # Masks over all of A rather than slices: XLA fuses them into one loop, six times as fast.
        clear = ~(A[j, j] <= least)  # so that NaN goes on
        pivot = jnp.where(clear, A[j, j], least)
        scale = jax.lax.rsqrt(pivot)
        row = jnp.where(clear | (columns >= K), A[j], 0)
        row = jnp.where(columns == j, pivot, row) * scale
        factors = jnp.where(clear, A[:, j] * scale, 0)
        rest = A - factors[:, None] * row
        return jnp.where(i < j, A, jnp.where(i == j, row, rest)), None

    A, _ = jax.lax.scan(eliminate, jnp.concatenate([G, jnp.eye(K, dtype=G.dtype)], 1), i[:, 0])
    return jnp.triu(A[:, :K]), row_major_transpose(A[:, K:])


def _corrected(Q: Array, R: Array) -> tuple[Array, Array, Array]:
    """Return Q (I − U) and (I − U)⁻¹ R, QᵀQ = I + U + Uᵀ, repeated; and whether it is hopeless."""
    # Newton's method for QᵀQ = I, with U upper triangular so that R stays so: what is left is of
    # the order of U², and Q R, which is M, does not change. For ‖U‖ < ε^⅛, 0.14 in float32, the
    # series below is right to rounding, and three turns bring U² to ε; beyond it is hopeless.
    eps = jnp.finfo(Q.dtype).eps
    alive = (R.diagonal() != 0).astype(Q.dtype)

    def correct(carry: Any):
        Q, R, *_, corrections = carry
        E = row_major_transpose(Q) @ Q - jnp.diag(alive)
        U = jnp.triu(E, 1) + jnp.diag(E.diagonal() / 2)
        # (I − U)⁻¹ = (I + U) (I + U²) (I + U⁴), but for U⁸, which is below rounding.
        power, hopeless = U, jnp.sqrt(jnp.square(U).sum()) > eps ** (1 / 8)
        for _ in range(3):
            R, power = R + power @ R, power @ power
        Q = Q - Q @ U
        return Q, R, _failure(Q, R), hopeless, corrections + 1

    def crooked(carry: Any):
        *_, away, hopeless, corrections = carry
        return ~hopeless & (away > ENOUGH * eps) & (corrections < 3)

    first = (Q, R, _failure(Q, R), jnp.zeros((), bool), 0)
    Q, R, away, hopeless, _ = jax.lax.while_loop(crooked, correct, first)
    return Q, R, hopeless | (away > ENOUGH * eps)


def _failure(Q: Array, R: Array) -> Array:
    """Return the largest entry of (QᵀQ − I) z, z one random vector of signs."""
    # Two products with a vector, where QᵀQ would cost as much as all else. Random signs do not let
    # the error E cancel: (E z)_i is about ‖row i of E‖, and rarely far below.
    alive = (R.diagonal() != 0).astype(Q.dtype)
    z = jnp.asarray(np.random.default_rng(7).choice([-1.0, 1.0], len(R)), Q.dtype) * alive
    return jnp.abs((Q @ z) @ Q - z).max(initial=0)


def _one_by_one(M: Array, Q: Array, R: Array, first: Array) -> tuple[Array, Array]:
    """Take columns from `first` on by Gram-Schmidt, thrice each: accurate for any M, and slow."""
    S, K = M.shape
    rounding = jnp.asarray(share_of_rounding(S, K, float(jnp.finfo(M.dtype).eps)), M.dtype)

    def add(carry: Any):
        j, Q, R = carry
        rest, c = _outside(Q, M[:, j])
        left = _length(rest)
        independent = ~(left <= rounding * _length(M[:, j]))  # so that NaN goes on
        left = jnp.where(independent, left, 0)
        q = jnp.where(independent, rest / jnp.where(independent, left, 1), 0)
        r = jnp.where(jnp.arange(K, dtype=jnp.int32) == j, left, c)
        return j + 1, Q.at[:, j].set(q), R.at[:, j].set(r)

    return jax.lax.while_loop(lambda carry: carry[0] < K, add, (first, Q, R))[1:]


def renewed(Q: Array, wanted: Array) -> Array:
    """Return `Q [S, K]` with fixed random directions, orthogonal to all, where `wanted [K]`."""

    def add(carry: Any):
        Q, wanted = carry
        j = jnp.argmax(wanted)
        noise = jax.random.fold_in(jax.random.key(11), j)
        rest, _ = _outside(Q, jax.random.normal(noise, Q.shape[:1], Q.dtype))
        return Q.at[:, j].set(rest / _length(rest)), wanted.at[j].set(False)

    return jax.lax.while_loop(lambda carry: carry[1].any(), add, (Q, wanted))[0]


def _outside(Q: Array, m: Array) -> tuple[Array, Array]:
    """Return the part of `m [S]` orthogonal to the columns of Q, and its coefficients, `[K]`."""
    rest, c = m, jnp.zeros_like(m, shape=Q.shape[1])
    for _ in range(PROJECTIONS):
        more = rest @ Q
        rest, c = rest - Q @ more, c + more
    return rest, c


def _length(m: Array) -> Array:
    return jnp.sqrt(jnp.square(m).sum())
