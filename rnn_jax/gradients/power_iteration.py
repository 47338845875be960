r"""Largest singular values and spectral radii by products with a vector: no LAPACK.

.. math::
    v \leftarrow \frac{W^T W v}{\|W^T W v\|}, \quad \sigma = \|W v\|; \qquad
    w \leftarrow \frac{W w}{\|W w\|}, \quad
    \ln \rho = \lim_{n \to \infty} \frac1n \ln \|W^n w\|

The second is Gelfand's formula with a vector: it holds for complex pairs, and for matrices all of
whose eigenvalues are of one modulus, where w itself never settles.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

UNROLLED = 4
"""Iterations up to which no loop is made: over small matrices it would cost more than they do."""


class SingularValue(NamedTuple):
    """The end of an iteration.

    Attributes:
      sigma: ‖W v‖, never above σ_max by more than rounding: `[...]`. Differentiable, v held fixed,
        which gives u vᵀ, the derivative of a singular value.
      residual: ‖WᵀW v − σ² v‖ / σ²; some singular value s has |s² − σ²| ≤ residual · σ²: `[...]`.
      v: the right vector, `[..., n]`.
    """

    sigma: Array
    residual: Array
    v: Array


def largest_singular_value(
    W: Array, *, iterations: int = 50, start: Array | None = None
) -> SingularValue:
    """σ_max of `W [..., m, n]`.

    From a random start in n dimensions the expected relative error of σ² after k iterations is at
    most 0.87 ln n / (k − 1) for any W (Kuczyński and Woźniakowski 1992, theorem 3.1); from a given
    start it falls as (σ₂/σ₁)^(4k) where the second singular value is apart. A start near v makes a
    few enough.

    Args:
      start: `[..., n]`, normalized; a fixed pseudo-random vector by default.
    """
    held = jax.lax.stop_gradient(W)
    v = generic_vector(W) if start is None else start

    def again(_, v):
        return unit(_times_transposed(held, _times(held, v)), v)

    v = jax.lax.fori_loop(0, iterations, again, v, unroll=iterations <= UNROLLED)
    sigma = norm(_times(W, v))
    apart = _times_transposed(held, _times(held, v)) - jnp.square(sigma)[..., None] * v
    residual = jnp.where(sigma > 0, norm(apart) / jnp.where(sigma > 0, jnp.square(sigma), 1), 0)
    return SingularValue(sigma, jax.lax.stop_gradient(residual), v)


def mean_log_growth(W: Array, w: Array, *, iterations: int) -> tuple[Array, Array]:
    """(1/n) ln ‖Wⁿ w‖ and Wⁿ w / ‖Wⁿ w‖ for `W [..., n, n]` and unit `w [..., n]`.

    Where W w = 0 the growth is that of the smallest normal number, and w stays.
    """
    tiny = jnp.finfo(W.dtype).tiny

    def again(_, carry):
        w, total = carry
        grown = _times(W, w)
        return unit(grown, w), total + jnp.log(jnp.maximum(norm(grown), tiny))

    start = (w, jnp.zeros(W.shape[:-2], W.dtype))
    w, total = jax.lax.fori_loop(0, iterations, again, start, unroll=iterations <= UNROLLED)
    return total / iterations, w


def generic_vector(W: Array) -> Array:
    """A unit vector `[..., n]` that no matrix has reason to be orthogonal to, always the same."""
    w = jax.random.normal(jax.random.key(0), W.shape[-1:], W.dtype)
    return jnp.broadcast_to(w / norm(w), (*W.shape[:-2], W.shape[-1]))


def unit(x: Array, otherwise: Array) -> Array:
    """x / ‖x‖ over the last axis, and `otherwise` where x = 0."""
    length = norm(x)[..., None]
    return jnp.where(length > 0, x / jnp.where(length > 0, length, 1), otherwise)


def norm(x: Array) -> Array:
    """‖x‖₂ over the last axis, with derivative zero at x = 0."""
    square = jnp.sum(jnp.square(x), -1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _times(W: Array, v: Array) -> Array:
    return jnp.einsum("...mn,...n->...m", W, v)


def _times_transposed(W: Array, u: Array) -> Array:
    return jnp.einsum("...mn,...m->...n", W, u)
