r"""Upper bounds on the norms of sums of diagonals around matrices, without LAPACK.

.. math:: \Bigl\| \sum_q \operatorname{diag}(\alpha_q) W_q \Bigr\|_2
    \le \Bigl( \max_n \sum_q \frac{\alpha_{qn}^2}{u_q} \cdot \sum_q u_q \omega_q^2 \Bigr)^{1/2},
    \qquad \|W_q\|_2 \le \omega_q, \quad u_q > 0,

by Cauchy and Schwarz. u_q = max_n |α_qn| / ω_q gives the triangle inequality, Σ max |α_q| ω_q; the
best u is tighter where α_q and α_p are seldom large in the same unit.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.linalg import split_exponent
from rnn_jax.linalg.largest_singular_value import scaled
from rnn_jax.types import Array

ITERATIONS = 30
SQUARINGS = 50


def norm_of_sum(alpha: Array, omega: Array) -> Array:
    r"""Return the right-hand side at nearly its best u: `[..., q, n], [..., q] -> [...]`.

    The least right-hand side is max_π Σ_q ω_q (Σ_n π_n α_qn²)^½ over distributions π on the units,
    where u_q = (Σ_n π_n α_qn²)^½ / ω_q. No bound by α and ω alone is tighter, since some W_q reach
    it (theorem 3 of `docs/bounds.md`). π is found by multiplicative steps; each has a u, whose
    right-hand side is a bound, converged or not.
    """
    largest = jnp.abs(alpha).max(-1)
    triangle = jnp.where(largest > 0, largest * jnp.where(largest > 0, omega, 0), largest).sum(-1)
    # Near overflow the triangle inequality is the answer, infinite or not.
    known = triangle <= jnp.finfo(alpha.dtype).max / 8
    # The largest of each α_q and of all ω_q becomes about one, so that squares stay in range.
    used = (known[..., None] & (largest > 0) & (omega > 0))[..., None]
    alpha, of_alpha = scaled(jnp.where(used, alpha, 0), (-1,))
    square = jnp.square(alpha)
    omega, scale = scaled(jnp.where(used[..., 0], omega * of_alpha, 0), (-1,))

    def at(root: Any):
        """Return Σ_q α_qn² / u_q `[..., n]` for u_q = root_q / ω_q, and the bound."""
        over_u = omega / jnp.where(used[..., 0], root, 1)
        per_unit = (over_u[..., None] * square).sum(-2)
        return per_unit, jnp.sqrt(per_unit.max(-1) * (root * omega).sum(-1))

    def improve(_: Any, carry: Any):
        weights, best = carry
        # No weight falls to zero: where all units with α_qn > 0 had none, u_q would be zero and the
        # right-hand side infinite.
        weights = weights / weights.max(-1, keepdims=True) + 1e-6
        weights = weights / weights.sum(-1, keepdims=True)
        per_unit, bound = at(jnp.sqrt((square * weights[..., None, :]).sum(-1)))
        return weights * (1e-30 + jnp.square(per_unit)), jnp.minimum(best, bound)

    start = jnp.ones_like(square[..., 0, :]), jnp.full_like(scale, jnp.inf)
    best = jnp.minimum(scale * jax.lax.fori_loop(0, ITERATIONS, improve, start)[1], triangle)
    # What is not zero is not bounded by zero.
    tiny = jnp.where(used.any((-2, -1)), jnp.finfo(alpha.dtype).tiny, 0)
    return jnp.where(known, jnp.maximum(best, tiny), triangle)


def root_norm(gram: Array) -> Array:
    """Return ‖W‖₂ from `gram` = WᵀW `[..., H, H]`, too small by no more than rounding: `[...]`.

    ‖G‖₂ ≤ ‖Gⁿ‖_F^(1/n) ≤ H^(1/2n) ‖G‖₂, with n = 2^50 by squaring a scaled mantissa.
    """
    # Squaring, and not the power method on a vector: a vector's norm is below ‖W‖₂ until it has
    # converged, and a bound must not be. Exponents are summed as in `spectral_radius`.

    def square(A: Array, _: Any):
        return split_exponent(jnp.matmul(A, A, precision="highest"), (-2, -1))

    A, e_0 = split_exponent(gram, (-2, -1))
    A, e = jax.lax.scan(square, A, length=SQUARINGS)
    halves = jnp.exp2(-jnp.arange(1, SQUARINGS + 1).astype(gram.dtype))
    last = 0.5 * jnp.log2(jnp.sum(jnp.square(A), (-2, -1))) * halves[-1]
    below_one = (e_0 % 2).astype(gram.dtype) + jnp.tensordot(halves, e.astype(gram.dtype), 1) + last
    # e_0 apart, by ldexp: added to the logarithm it would take digits from it.
    return jnp.ldexp(jnp.exp2(0.5 * below_one), e_0 // 2)
