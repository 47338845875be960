r"""Spectral norms by Lanczos' method, many at once, each with a bound on its error.

σ_max(P)² is the largest eigenvalue λ of G = PᵀP. From a random unit vector v_1, Lanczos builds

.. math:: \beta_j v_{j+1} = G v_j - \alpha_j v_j - \beta_{j-1} v_{j-1},

and the largest eigenvalue θ of the tridiagonal T_m = (α, β) is at most λ. From the other side,
v_{j+1} is p_j(G) v_1 with

.. math:: \beta_j p_j(x) = (x - \alpha_j) p_{j-1}(x) - \beta_{j-1} p_{j-2}(x), \qquad p_0 = 1,

and has length one, so that the part of v_1 along the leading eigenvector is at most 1/p_j(λ). The
part of a random direction in S dimensions is below η with a probability of at most η √(2S/π), and
p_j grows beyond θ. Hence, but for a probability of DOUBT, λ ≤ x for every x > θ where
p_j(x) ≥ √(2S/π) / DOUBT. Steps are taken until x = (1 + tolerance) θ is such a point.

Matrix products alone: no LAPACK, so this runs on every platform, and any number of it at once.

References: Kuczyński and Woźniakowski, SIAM J. Matrix Anal. Appl. 13 (1992); Hochstenbach,
Probabilistic upper bounds for the matrix two-norm, J. Sci. Comput. 57 (2013).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

DOUBT = 1e-9
"""The probability that one norm exceeds its upper bound."""

STEPS_PER_CHECK = 4
FIRST_CHECK = 12
CANDIDATES = 32
_PASSES = 24
_ENDLESS = 1e30  # p_j is not followed beyond; float32 holds it


class LogNorm(NamedTuple):
    """The logarithm of a norm, and how far it may be from the truth.

    Attributes:
      value: at most ln σ_max, but for rounding; -inf for zero, NaN for what is not finite.
      error: ln σ_max ≤ value + error, but for a probability of DOUBT; +inf where nothing is known.
        It is Lanczos' error, without the rounding of the products that P is made of.
    """

    value: Array
    error: Array


def default_tolerance(dtype) -> float:
    """The relative accuracy asked of a norm: 1e-12 in float64, 1e-5 in float32."""
    return 1e-12 if jnp.finfo(dtype).bits == 64 else 1e-5


def start_vector(shape: tuple[int, ...], dtype) -> Array:
    """Random unit vectors `[*lead, S]`, the same one at every leading index and in every call."""
    v = np.random.default_rng(1211).normal(size=shape[-1])
    return jnp.broadcast_to(jnp.asarray(v / np.linalg.norm(v), dtype), shape)


def root_of_largest_eigenvalue(
    gram: Callable[[Array], Array],
    start: Array,
    *,
    rtol: float | None = None,
    max_steps: int | None = None,
) -> LogNorm:
    """ln σ_max(P), one for each leading index, from v -> PᵀP v alone.

    Args:
      gram: `[*lead, S] -> [*lead, S]`, scaled so that σ_max⁴ can be held.
      start: `start_vector((*lead, S), dtype)`.
      rtol: steps are taken until every norm is certain to this relative accuracy;
        `default_tolerance` by default.
      max_steps: but at most so many, 2 S + 16 and no more than 528 by default. Without rounding S
        are enough.

    Returns:
      LogNorm, each part `[*lead]`.
    """
    tolerance = 2 * (default_tolerance(start.dtype) if rtol is None else rtol)
    T = _lanczos(gram, start, tolerance, max_steps)
    theta, _ = T.largest_eigenvalue()
    error = 0.5 * jnp.log1p(T.relative_error(theta, tolerance, start.shape[-1]))
    return LogNorm(0.5 * jnp.log(theta), jnp.where(theta > 0, error, theta))


def steps_taken(gram: Callable[[Array], Array], start: Array, *, rtol: float | None) -> LogNorm:
    """The number of steps in place of a norm and its error, for benchmarks to count."""
    T = _lanczos(gram, start, 2 * (default_tolerance(start.dtype) if rtol is None else rtol), None)
    steps = jnp.broadcast_to(T.m.astype(start.dtype), start.shape[:-1])
    return LogNorm(steps, steps)


class _Tridiagonal(NamedTuple):
    """T_m: α and β, `[max_steps, *lead]`, of which the first m count."""

    m: Array
    alpha: Array
    beta: Array

    def polynomial(self, x: Array) -> Array:
        """max_j p_j(x) where x is above every eigenvalue of T_m, else 0: x `[..., *lead]`."""
        # A β that is all rounding says nothing; it must not make p_j grow.
        noise = 8 * jnp.finfo(x.dtype).eps * x

        def row(j, carry):
            beta_before, d_before, p, largest, above = carry
            beta = self.beta[j]
            d = x - self.alpha[j] - jnp.square(beta_before) / d_before
            above = above & (d > 0)
            d = jnp.where(above, d, 1)
            p = jnp.minimum(p * (d / jnp.maximum(beta, noise)), _ENDLESS)
            return beta, d, p, jnp.maximum(largest, p), above

        ones = jnp.ones_like(x)
        first = (jnp.zeros_like(self.beta[0]), ones, ones, ones, jnp.ones(x.shape, bool))
        *_, largest, above = self._over_rows(row, first)
        return jnp.where(above, largest, 0)

    def largest_eigenvalue(self, tolerance: float = 0.0) -> tuple[Array, Array]:
        """Bounds on θ, from below and from above, to a relative tolerance or to rounding.

        By multisection: `CANDIDATES` points of the bracket are looked at together, since a pass
        over the rows takes about as long for one.
        """
        used = jnp.arange(len(self.alpha), dtype=jnp.int32) < self.m
        used = used.reshape(-1, *[1] * (self.alpha.ndim - 1))
        low = jnp.max(jnp.where(used, self.alpha, 0), 0)
        # XLA's maximum of several numbers, one of them NaN, is not always NaN.
        low = jnp.where(jnp.isfinite(self.alpha[0]), low, jnp.nan)
        high = low + 2 * jnp.max(jnp.where(used, self.beta, 0), 0)
        least = max(tolerance, 2 * float(jnp.finfo(low.dtype).eps))
        between = np.arange(1, CANDIDATES + 1) / (CANDIDATES + 1)
        parts = jnp.asarray(between, low.dtype).reshape(-1, *[1] * low.ndim)

        def narrow(carry):
            low, high, n = carry
            x = low + (high - low) * parts
            above = self.polynomial(x) > 0
            highest_below = jnp.max(jnp.where(above, low, x), 0)
            return highest_below, jnp.min(jnp.where(above, x, high), 0), n + 1

        def unfinished(carry):
            low, high, n = carry
            return (n < _PASSES) & jnp.any(high - low > least * high)

        low, high, _ = jax.lax.while_loop(unfinished, narrow, (low, high, jnp.zeros((), jnp.int32)))
        return low, high

    def _over_rows(self, row, carry):
        """`row(j, carry)` for j < m, which is a number of checks: dispatch costs more than rows."""

        def some_rows(i, carry):
            for j in range(STEPS_PER_CHECK):
                carry = row(STEPS_PER_CHECK * i + j, carry)
            return carry

        return jax.lax.fori_loop(0, self.m // STEPS_PER_CHECK, some_rows, carry)

    def relative_error(self, theta: Array, tolerance: float, S: int) -> Array:
        """The least of tolerance · (1, 4, 16, ..) that λ / θ − 1 is certainly below; or +inf."""
        enough = (2 * S / np.pi) ** 0.5 / DOUBT
        rungs = max(1, int(np.ceil(np.log(100 / tolerance) / np.log(4))))
        errors = jnp.asarray(tolerance * 4.0 ** np.arange(rungs), theta.dtype)
        errors = errors.reshape(-1, *[1] * theta.ndim)
        certain = self.polynomial(theta * (1 + errors)) >= enough
        return jnp.where(certain, errors, jnp.inf).min(0)


def _lanczos(gram, v, tolerance, max_steps) -> _Tridiagonal:
    """Steps from v until the norms of all leading indices are certain, or max_steps are taken."""
    max_steps = 2 * min(v.shape[-1], 256) + 16 if max_steps is None else max_steps
    enough = (2 * v.shape[-1] / np.pi) ** 0.5 / DOUBT
    zeros = jnp.zeros((max_steps, *v.shape[:-1]), v.dtype)

    def step(_, carry):
        T, v, v_before, beta_before = carry
        w = gram(v)
        alpha = (v * w).sum(-1)
        w = w - alpha[..., None] * v - beta_before[..., None] * v_before
        beta = jnp.sqrt(jnp.square(w).sum(-1))
        # At β = 0 the space is exhausted and T splits: zeros follow, not 0 / 0.
        after = w / jnp.where(beta == 0, 1, beta)[..., None]
        T = _Tridiagonal(T.m + 1, T.alpha.at[T.m].set(alpha), T.beta.at[T.m].set(beta))
        return T, after, v, beta

    def some_steps(carry):
        inner, _ = carry
        inner = jax.lax.fori_loop(0, STEPS_PER_CHECK, step, inner)
        T = inner[0]
        _, theta = T.largest_eigenvalue(tolerance / 8)
        x = theta * (1 + jnp.asarray(0.8 * tolerance, v.dtype))
        p = T.polynomial(x)
        return inner, jnp.all((p >= enough) | ~(x > 0))

    def unfinished(carry):
        (T, *_), certain = carry
        return ~certain & (T.m + STEPS_PER_CHECK <= max_steps)

    T = _Tridiagonal(jnp.zeros((), jnp.int32), zeros, zeros)
    first = (T, v, jnp.zeros_like(v), jnp.zeros_like(zeros[0]))
    # Hardly ever are fewer enough.
    unseen = min(FIRST_CHECK, max_steps) // STEPS_PER_CHECK - 1
    first = jax.lax.fori_loop(0, STEPS_PER_CHECK * max(unseen, 0), step, first)
    return jax.lax.while_loop(unfinished, some_steps, (first, jnp.zeros((), bool)))[0][0]
