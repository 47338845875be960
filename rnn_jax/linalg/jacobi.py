r"""Singular values of matrices with rows of very different sizes, each to high relative accuracy.

One-sided Jacobi: rows x_i = u_i 2^{e_i} are rotated in pairs until all are orthogonal; their
lengths are then the singular values. With r = ‖x_j‖ / ‖x_i‖ ≤ 1 and γ the cosine between them,

.. math::
    \tau = \frac{2 \gamma}{\delta + \sqrt{\delta^2 + 4 \gamma^2 r^2}}, \quad \delta = 1 - r^2;
    \qquad x_i \leftarrow x_i + \tau r \, x_j, \quad
    x_j \leftarrow x_j - \tau \|x_j\| \, x_i / \|x_i\|

over √(1 + τ² r²). Rows are stored as mantissas and exponents, and no intermediate is as large as
1 / r, which may be 2^10000.

For X = D T with D diagonal, each value comes out with a relative error of about ε κ(T), whatever D
is (Demmel and Veselić, SIAM J. Matrix Anal. Appl. 13, 1992); LAPACK's SVD gives ε ‖X‖.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.linalg import log_power_of_two, split_exponent
from rnn_jax.types import Array

MAX_SWEEPS = 30
"""Jacobi converges quadratically, in 5 to 10 sweeps; the rest is for matrices that are hard."""


def log_singular_values(U: Array, e: Array) -> tuple[Array, Array]:
    """Return ln σ `[n]` of rows u_i 2^{e_i}, `U [n, S]`, `e [n]`; and the largest |cosine| left.

    In the order of the rows; -inf for a row of zeros, and NaN all over if anything is NaN.
    """
    n, S = U.shape
    U, more = split_exponent(U, (1,))
    e = jnp.where((U == 0).all(1), _SMALLEST, e + more)
    if n % 2:
        U = jnp.concatenate([U, jnp.zeros((1, S), U.dtype)])
        e = jnp.concatenate([e, jnp.full(1, _SMALLEST)])
    m = len(U) // 2
    # Round-robin, as in a tournament: row 0 stays, the others move one place on. The m pairs of a
    # round have no row in common, so one vectorized rotation serves them all; after 2 m − 1 rounds
    # every row has met every other once and is back in its place. Pairs in the order of a double
    # loop would each wait for the one before: 2 m² − m rotations one after the other.
    place = jnp.arange(2 * m)
    top, bottom = place[:m], place[m:]
    moved = jnp.concatenate([top[:1], bottom[:1], top[1:-1], bottom[1:], top[-1:]])
    moved = moved if m > 1 else place
    # A cosine of two orthogonal rows is a sum of S rounded terms of random signs: about √S ε.
    enough = jnp.asarray(4 * S**0.5 * jnp.finfo(U.dtype).eps, U.dtype)

    def meet(_: Any, carry: Any):
        U, e, worst = carry
        U, e, cosine = _turn(U[:m], e[:m], U[m:], e[m:], enough)
        return U[moved], e[moved], jnp.maximum(worst, cosine.max())

    def sweep(carry: Any):
        U, e, _, sweeps = carry
        U, e, worst = jax.lax.fori_loop(0, 2 * m - 1, meet, (U, e, jnp.zeros((), U.dtype)))
        return U, e, worst, sweeps + 1

    def unfinished(carry: Any):
        *_, worst, sweeps = carry
        return (worst > enough) & (sweeps < MAX_SWEEPS)

    first = (U, e, jnp.full((), jnp.inf, U.dtype), 0)
    U, e, worst, _ = jax.lax.while_loop(unfinished, sweep, first)
    length = jnp.sqrt(jnp.square(U).sum(1))
    return (jnp.log(length) + log_power_of_two(e, U.dtype))[:n], worst


# The exponent of a zero row. A quarter of the range, so that differences of two do not overflow.
_SMALLEST = jnp.iinfo(jnp.int32).min // 4


def _turn(a: Array, e_a: Any, b: Any, e_b: Any, enough: Any):
    """Make pairs of rows `[m, S]` orthogonal; return them, their exponents, |cosines| before."""
    length_a, length_b = (jnp.sqrt(jnp.square(x).sum(1)) for x in (a, b))
    log2_ratio = _log2(length_b) - _log2(length_a) + (e_b - e_a).astype(a.dtype)
    # Which row is larger must be decided exactly. XLA computes log2_ratio again for each of its
    # readers and may round it differently: of two rows of one length each could then be taken for
    # the larger, and one row would be stored twice. Powers of two and one comparison round nothing.
    limit = jnp.finfo(a.dtype).maxexp // 2
    swap = jnp.ldexp(length_b, jnp.clip(e_b - e_a, -limit, limit)) > length_a
    unit_a, unit_b = (_over(x, length) for x, length in ((a, length_a), (b, length_b)))
    large, small = _swapped(swap, unit_a, unit_b)
    cosine = (large * small).sum(1)
    ln_ratio = -jnp.abs(log2_ratio) * jnp.log(jnp.asarray(2, a.dtype))
    r, delta = jnp.exp(ln_ratio), -jnp.expm1(2 * ln_ratio)
    root = jnp.sqrt(jnp.square(delta) + jnp.square(2 * cosine * r))
    # Between rows of equal length, δ = 0, τ is the sign of γ: a rotation by 45°, however small γ
    # is. A γ that is rounding alone would turn them in every sweep and never fall; rows with one
    # below enough / 8, far from failing the test of convergence, stay as they are.
    tau = jnp.where(
        jnp.abs(cosine) > enough / 8, 2 * cosine / jnp.where(root > 0, delta + root, 1), 0
    )
    scale = jax.lax.rsqrt(1 + jnp.square(tau * r))[:, None]
    large, small = (
        scale * (large + (tau * jnp.square(r))[:, None] * small),
        scale * (small - tau[:, None] * large),
    )
    unit_a, unit_b = _swapped(swap, large, small)
    (a, more_a), (b, more_b) = (
        split_exponent(x * length[:, None], (1,))
        for x, length in ((unit_a, length_a), (unit_b, length_b))
    )
    return jnp.concatenate([a, b]), jnp.concatenate([e_a + more_a, e_b + more_b]), jnp.abs(cosine)


def _swapped(swap: Any, x: Array, y: Any):
    return jnp.where(swap[:, None], y, x), jnp.where(swap[:, None], x, y)


def _over(x: Array, length: Any):
    return x / jnp.where(length == 0, 1, length)[:, None]


def _log2(length: Any):
    return jnp.log2(jnp.where(length == 0, 1, length))
