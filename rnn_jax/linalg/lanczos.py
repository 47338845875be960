r"""Spectral norms by Lanczos' method, many at once, each with a bound on its error.

σ_max(P)² is the largest eigenvalue λ of G = PᵀP. From a random unit vector v_1, Lanczos builds

.. math:: \beta_j v_{j+1} = G v_j - \alpha_j v_j - \beta_{j-1} v_{j-1},

and the largest eigenvalue θ of the tridiagonal T_m = (α, β) is at most λ. From the other side,
v_{j+1} is p_j(G) v_1 with

.. math:: \beta_j p_j(x) = (x - \alpha_j) p_{j-1}(x) - \beta_{j-1} p_{j-2}(x), \qquad p_0 = 1,

and has length one, so that the part of v_1 along the leading eigenvector is at most 1/p_j(λ). The
part of a random direction in S dimensions is below η with a probability of at most η √(2S/π), and
p_j grows beyond θ. Hence, but for a probability of FAILURE_PROBABILITY, λ ≤ x for every x > θ where
p_j(x) ≥ √(2S/π) / FAILURE_PROBABILITY. Steps are taken until x = (1 + tolerance) θ is such a point.

Only matrix products are used, no LAPACK: this runs on every platform, and many norms at once.

References: Kuczyński and Woźniakowski, SIAM J. Matrix Anal. Appl. 13 (1992); Hochstenbach,
Probabilistic upper bounds for the matrix two-norm, J. Sci. Comput. 57 (2013).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.linalg.norms import LogNorm
from rnn_jax.types import Array

FAILURE_PROBABILITY = 1e-6
"""The probability that one norm exceeds its upper bound."""

STEPS_PER_CHECK, FIRST_CHECK = 4, 12
"""Lanczos steps between two looks at the bracket, and before the first."""

POINTS = 16
"""Points of a bracket at which p_j is evaluated together: 4 bits a turn, where halving takes 1."""


def default_tolerance(dtype: Any) -> float:
    """Return the relative accuracy asked of a norm: 1e-12 in float64, 1e-5 in float32."""
    return 1e-12 if jnp.finfo(dtype).bits == 64 else 1e-5


def start_vector(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return random unit vectors `[*lead, S]`, the same one at every index and in every call."""
    # The bound asks for a start that P knows nothing of; one fixed draw is that for any P that was
    # not made from it, and results are reproducible.
    v = np.random.default_rng(1211).normal(size=shape[-1])
    return jnp.broadcast_to(jnp.asarray(v / np.linalg.norm(v), dtype), shape)


def root_of_largest_eigenvalue(
    gram: Callable[[Array], Array],
    start: Array,
    *,
    rtol: float | None = None,
    max_steps: int | None = None,
) -> LogNorm:
    """Return ln σ_max(P), one for each leading index, from v -> PᵀP v alone.

    Args:
      gram: the map v -> PᵀP v, `[*lead, S] -> [*lead, S]`, scaled so that σ_max⁴ is in range.
      start: `start_vector((*lead, S), dtype)`.
      rtol: relative accuracy asked of every norm; `default_tolerance` by default.
      max_steps: the most steps that are taken; 2 S + 16, and no more than 528, by default. Without
        rounding S would be enough.

    Returns:
      LogNorm, each part `[*lead]`.
    """
    _, bracket = _lanczos(gram, start, rtol, max_steps)
    value = _without_derivative(0.5 * jnp.log(bracket.low))
    # Rounding can have the two cross.
    width = 0.5 * jnp.log(jnp.maximum(bracket.high / bracket.low, 1))
    error = jnp.where(bracket.certain, width, jnp.inf)
    return LogNorm(value, jnp.where(bracket.low > 0, error, bracket.low))


@jax.custom_jvp
def _without_derivative(x: Array) -> Array:
    """Return `x`, with a tangent of NaN: that of the points of a bracket would be wrong."""
    return x


@_without_derivative.defjvp
def _nan(primals: Any, tangents: Any):
    return primals[0], jnp.nan * tangents[0]


def steps_taken(gram: Callable[[Array], Array], start: Array, *, rtol: float | None) -> LogNorm:
    """Return the number of steps in place of a norm and its error, for benchmarks to count."""
    T, _ = _lanczos(gram, start, rtol, None)
    steps = jnp.broadcast_to(T.m.astype(start.dtype), start.shape[:-1])
    return LogNorm(steps, steps)


class _Bracket(NamedTuple):
    """Bounds low ≤ θ ≤ λ, and λ ≤ high where `certain`: each `[*lead]`."""

    low: Array
    high: Array
    certain: Array

    def is_within(self, tolerance: float) -> Array:
        """Return whether the bracket is done: certain and narrow, or zero, or NaN."""
        narrow = self.certain & (self.high <= (1 + tolerance) * self.low)
        return narrow | ~(self.high > 0)


class _Tridiagonal(NamedTuple):
    """The tridiagonal matrix T_m: α and β, `[max_steps, *lead]`, of which the first m count."""

    m: Array
    alpha: Array
    beta: Array

    def first_bracket(self) -> _Bracket:
        """Return the bracket from max α to far beyond all circles of Gershgorin."""
        # α_j is a diagonal entry of T_m and so at most θ; θ ≤ max α + 2 max β by Gershgorin. Four
        # times that, since λ may lie beyond θ.
        used = jnp.arange(len(self.alpha), dtype=jnp.int32) < self.m
        used = used.reshape(-1, *[1] * (self.alpha.ndim - 1))
        alpha, beta = (jnp.max(jnp.where(used, x, 0), 0) for x in (self.alpha, self.beta))
        # XLA's maximum of several numbers, one of them NaN, is not always NaN.
        low = jnp.where(jnp.isfinite(self.alpha[0]), alpha, jnp.nan)
        return _Bracket(low, 4 * (low + 2 * beta), jnp.zeros(low.shape, bool))

    def narrowed(self, bracket: _Bracket, tolerance: float, enough: float) -> _Bracket:
        """Return brackets as narrow as T_m allows, by `POINTS` points of each at a time."""
        # p_j(x) has three answers: negative, x is below θ; at least `enough`, λ ≤ x for certain; in
        # between, T_m is too short to tell. The bracket shrinks to the edges of that gap, and a
        # turn that does not halve it has reached them, or the spacing of floats.
        fractions = jnp.asarray(np.arange(1, POINTS + 1) / POINTS, bracket.low.dtype)
        parts = fractions.reshape(-1, *[1] * bracket.low.ndim)

        def narrow(carry: Any):
            before, _ = carry
            x = before.low + (before.high - before.low) * parts
            p = self.polynomial(x, before.high, enough)
            certain = p >= enough
            after = _Bracket(
                jnp.max(jnp.where(p > 0, before.low, x), 0),
                jnp.min(jnp.where(certain, x, before.high), 0),
                certain.any(0) | before.certain,
            )
            shrinks = after.high - after.low < 0.5 * (before.high - before.low)
            return after, jnp.any(shrinks & ~after.is_within(tolerance))

        return jax.lax.while_loop(lambda carry: carry[1], narrow, (bracket, jnp.ones((), bool)))[0]

    def polynomial(self, x: Array, scale: Array, enough: float) -> Array:
        """Return p_j(x) `[n, *lead]` at the first j where it is `enough` or negative, or at m."""
        # Where x is below θ, p_j is negative at some j (Sturm's sequence).
        # At β_j = 0 the space is exhausted, T_m splits, and p_{j+1} would be infinite. A β that is
        # rounding alone is no evidence that λ is below x, and must not make p_j grow: it is raised
        # to the size of its rounding. p stops at its first decision; beyond, it would overflow,
        # and, where x is below θ, change its sign again.
        info = jnp.finfo(x.dtype)
        inverse = 1 / jnp.maximum(self.beta, jnp.maximum(8 * info.eps * scale, info.tiny))
        squared = jnp.square(self.beta)

        def row(j: Any, carry: Any):
            # A recurrence of ratios, d_j = β_j p_j / p_{j-1}, the pivots of x − T_m. Differences of
            # p_{j-1} and p_{j-2} would be computed by XLA again for each reader, and rounded
            # differently: their sign, which decides, could then differ between two readers.
            p, d_before, squared_before = carry
            d = x - self.alpha[j] - squared_before / d_before
            undecided = (p > 0) & (p < enough)
            return jnp.where(undecided, p * (d * inverse[j]), p), d, squared[j]

        def some_rows(i: Any, carry: Any):
            for j in range(STEPS_PER_CHECK):  # dispatch costs more than rows
                carry = row(STEPS_PER_CHECK * i + j, carry)
            return carry

        first = (jnp.ones_like(x), jnp.ones_like(x), jnp.zeros_like(scale))
        return jax.lax.fori_loop(0, self.m // STEPS_PER_CHECK, some_rows, first)[0]


def _lanczos(
    gram: Any, start: Array, rtol: float | None, max_steps: Any
) -> tuple[_Tridiagonal, _Bracket]:
    """Take steps until the norms of all leading indices are certain, or max_steps are taken."""
    S = start.shape[-1]
    tolerance = 2 * (default_tolerance(start.dtype) if rtol is None else rtol)
    max_steps = 2 * min(S, 256) + 16 if max_steps is None else max_steps
    enough = (2 * S / np.pi) ** 0.5 / FAILURE_PROBABILITY
    zeros = jnp.zeros((max_steps, *start.shape[:-1]), start.dtype)

    # The v_j are not orthogonalized again. They lose their orthogonality once θ has converged, and
    # T_m then has copies of eigenvalues that it has found; the largest is right all the same (Paige
    # 1976), and nothing but the largest is read. It only takes more than S steps at times.
    def step(_: Any, carry: Any):
        T, v, v_before, beta_before = carry
        w = gram(v)
        alpha = (v * w).sum(-1)
        w = w - alpha[..., None] * v - beta_before[..., None] * v_before
        beta = jnp.sqrt(jnp.square(w).sum(-1))
        # At β = 0 the next v is zero, and all that follows; 0 / 0 would make it NaN.
        after = w / jnp.where(beta == 0, 1, beta)[..., None]
        T = _Tridiagonal(T.m + 1, T.alpha.at[T.m].set(alpha), T.beta.at[T.m].set(beta))
        return T, after, v, beta

    def some_steps(carry: Any):
        inner, bracket = carry
        inner = jax.lax.fori_loop(0, STEPS_PER_CHECK, step, inner)
        return inner, inner[0].narrowed(bracket, tolerance, enough)

    def unfinished(carry: Any):
        (T, *_), bracket = carry
        return ~jnp.all(bracket.is_within(tolerance)) & (T.m + STEPS_PER_CHECK <= max_steps)

    T = _Tridiagonal(jnp.zeros((), jnp.int32), zeros, zeros)
    inner = (T, start, jnp.zeros_like(start), jnp.zeros_like(zeros[0]))
    # Fewer than FIRST_CHECK steps are hardly ever enough: until then brackets are not computed.
    unseen = min(FIRST_CHECK, max_steps) // STEPS_PER_CHECK
    inner = jax.lax.fori_loop(0, STEPS_PER_CHECK * max(unseen, 1), step, inner)
    bracket = inner[0].narrowed(inner[0].first_bracket(), tolerance, enough)
    (T, *_), bracket = jax.lax.while_loop(unfinished, some_steps, (inner, bracket))
    return T, bracket
