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
    S, dtype = start.shape[-1], start.dtype
    tolerance = 2 * (default_tolerance(dtype) if rtol is None else rtol)
    max_steps = 2 * min(S, 256) + 16 if max_steps is None else max_steps
    T = _lanczos(gram, start, tolerance, max_steps)
    theta = T.largest_eigenvalue()
    error = 0.5 * jnp.log1p(T.relative_error(theta, tolerance, S))
    return LogNorm(0.5 * jnp.log(theta), jnp.where(theta > 0, error, theta))


class _Tridiagonal(NamedTuple):
    """T_m: α and β, `[max_steps, *lead]`, of which the first m count."""

    m: Array
    alpha: Array
    beta: Array

    def polynomial(self, x: Array) -> tuple[Array, Array]:
        """Whether x is above every eigenvalue of T_m, and there max_j p_j(x), else 0."""
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
        first = (jnp.zeros_like(x), ones, ones, ones, jnp.ones(x.shape, bool))
        *_, largest, above = jax.lax.fori_loop(0, self.m, row, first)
        return above, jnp.where(above, largest, 0)

    def largest_eigenvalue(self) -> Array:
        """θ by bisection, from below."""
        used = jnp.arange(len(self.alpha)).reshape(-1, *[1] * (self.alpha.ndim - 1)) < self.m
        alpha = jnp.where(used, self.alpha, 0)
        low = jnp.max(alpha, 0)
        high = low + 2 * jnp.max(jnp.where(used, self.beta, 0), 0)

        def halve(_, bracket):
            low, high = bracket
            middle = (low + high) / 2
            above, _ = self.polynomial(middle)
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        return jax.lax.fori_loop(0, jnp.finfo(low.dtype).nmant + 3, halve, (low, high))[0]

    def relative_error(self, theta: Array, tolerance: float, S: int) -> Array:
        """The least of tolerance · (1, 4, 16, ..) that λ / θ − 1 is certainly below; or +inf."""
        enough = (2 * S / np.pi) ** 0.5 / DOUBT
        error = jnp.full_like(theta, jnp.inf)
        rungs = max(1, int(np.ceil(np.log(100 / tolerance) / np.log(4))))

        def rung(i, error):
            e = tolerance * jnp.exp2(2 * (rungs - 1 - i).astype(theta.dtype))
            _, p = self.polynomial(theta * (1 + e))
            return jnp.where(p >= enough, e, error)

        return jax.lax.fori_loop(0, rungs, rung, error)


def _lanczos(gram, v, tolerance, max_steps) -> _Tridiagonal:
    """Steps from v until the norms of all leading indices are certain, or max_steps are taken."""
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
        theta = T.largest_eigenvalue()
        _, p = T.polynomial(theta * (1 + jnp.asarray(tolerance, v.dtype)))
        return inner, jnp.all((p >= enough) | ~(theta > 0))

    def unfinished(carry):
        (T, *_), certain = carry
        return ~certain & (T.m + STEPS_PER_CHECK <= max_steps)

    T = _Tridiagonal(jnp.zeros((), jnp.int32), zeros, zeros)
    first = ((T, v, jnp.zeros_like(v), jnp.zeros_like(zeros[0])), jnp.zeros((), bool))
    return jax.lax.while_loop(unfinished, some_steps, first)[0][0]
