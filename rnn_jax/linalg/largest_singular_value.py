r"""Largest singular values and spectral radii by products with a vector: no LAPACK.

.. math::
    v \leftarrow \frac{W^T W v}{\|W^T W v\|}, \quad \sigma = \|W v\|; \qquad
    w \leftarrow \frac{W w}{\|W w\|}, \quad
    \ln \rho = \lim_{n \to \infty} \frac1n \ln \|W^n w\|

The second is Gelfand's formula with a vector: it holds for complex pairs, and for matrices whose
eigenvalues are all of one modulus, where w itself does not converge.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.errors import check_array, check_size
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, at_least_float32

UNROLLED = 4
"""Iterations up to which there is no loop: for small matrices it would cost more than they do."""


class SingularValue(NamedTuple):
    """The largest singular value as the power method leaves it.

    Attributes:
      sigma: the value σ = ‖W v‖, never above σ_max by more than rounding: `[...]`, in the dtype of
        W. Differentiable with v held fixed, which gives u vᵀ, the derivative of a singular value.
      residual: relative residual ‖WᵀW v − σ² v‖ / σ²: `[...]`. Some singular value s, not
        necessarily the largest, has |s² − σ²| ≤ (residual + n ε) σ², the second term for rounding.
      v: the right singular vector, `[..., n]`.

    sigma and residual are NaN where W has an entry that is not finite. residual and v are of
    float32 at least.
    """

    sigma: Array
    residual: Array
    v: Array


def largest_singular_value(
    W: Array, *, iterations: int = 50, start: Array | None = None
) -> SingularValue:
    """Return σ_max of `W [..., m, n]`, at any scale that its dtype can hold.

    From a random start in n dimensions the expected relative error of σ² after k iterations is at
    most 0.87 ln n / (k − 1) for any W (Kuczyński and Woźniakowski 1992, theorem 3.1); from a given
    start it falls as (σ₂/σ₁)^(4k) where σ₂ < σ₁. From a start near v a few are enough.

    Args:
      W: floats. Half precision is computed in float32.
      iterations: at least one.
      start: `[..., n]`, normalized; a fixed pseudo-random vector by default, and in place of a
        start for which ‖W v‖ is less than half the largest entry of W, as it is in the null space.

    Raises:
      ValueError: no matrix of floats, no positive number of iterations, a start that does not fit.
    """
    check_array("W", W, ("*batch", "m", "n"))
    iterations = check_size("iterations", iterations)
    if start is not None:
        start = check_array("start", start, (*W.shape[:-2], W.shape[-1]))
    return _largest_singular_value(W, iterations, start)


@compiled("iterations")
def _largest_singular_value(W: Array, iterations: int, start: Array | None) -> SingularValue:
    known = jnp.isfinite(W).all((-2, -1))
    # A power of two is taken out: squares and products of what is left are in range. The iteration
    # runs on `held`, without a gradient: only the last ‖W v‖ is differentiated, v held fixed. That
    # is exact at a singular vector, where σ does not change with v to first order.
    m, scale = scaled(at_least_float32(jnp.where(known[..., None, None], W, 0)), (-2, -1))
    held = jax.lax.stop_gradient(m)
    v = generic_vector(m)
    if start is not None:
        start = start.astype(m.dtype)
        largest = jnp.abs(held).max((-2, -1), initial=0)
        # σ is at least the largest entry of W, so that a start with ‖W v‖ below half of that is far
        # from the leading vector, as after a jump of W in training: in the null space it would
        # never leave, and the generic vector is the better start.
        serves = jnp.isfinite(start).all(-1) & (norm(_times(held, start)) >= largest / 2)
        v = jnp.where(serves[..., None], start, v)

    def again(_: Any, v: Array):
        return unit(_times_transposed(held, _times(held, v)), v)

    v = jax.lax.fori_loop(0, iterations, again, v, unroll=iterations <= UNROLLED)
    sigma = norm(_times(m, v))
    apart = _times_transposed(held, _times(held, v)) - jnp.square(sigma)[..., None] * v
    residual = jnp.where(sigma > 0, norm(apart) / jnp.where(sigma > 0, jnp.square(sigma), 1), 0)
    or_nan = lambda value: jnp.where(known, value, jnp.nan)
    return SingularValue(
        or_nan(sigma * scale).astype(W.dtype), jax.lax.stop_gradient(or_nan(residual)), v
    )


def mean_log_growth(W: Array, w: Array, *, iterations: int) -> tuple[Array, Array]:
    """Return (1/n) ln ‖Wⁿ w‖ and Wⁿ w / ‖Wⁿ w‖ for `W [..., n, n]` and unit `w [..., n]`.

    In float32 at least. Where W w = 0 the growth is that of the smallest normal number, and w
    stays. NaN for a W with an entry that is not finite.
    """
    tiny = jnp.log(jnp.finfo(at_least_float32(W).dtype).tiny)
    known = jnp.isfinite(W).all((-2, -1))
    m, scale = scaled(at_least_float32(jnp.where(known[..., None, None], W, 0)), (-2, -1))
    log_scale = jnp.log(scale)
    w = w.astype(m.dtype)

    def again(_: Any, carry: Any):
        w, total = carry
        grown = _times(m, w)
        length = norm(grown)
        dead = tiny - log_scale
        log = jnp.where(length > 0, jnp.log(jnp.where(length > 0, length, 1)), dead)
        return unit(grown, w), total + log

    start = (w, jnp.zeros(m.shape[:-2], m.dtype))
    w, total = jax.lax.fori_loop(0, iterations, again, start, unroll=iterations <= UNROLLED)
    return jnp.where(known, total / iterations + log_scale, jnp.nan), w


def generic_vector(W: Array) -> Array:
    """Return a pseudo-random unit vector `[..., n]`, always the same one, in float32 at least."""
    w = jax.random.normal(jax.random.key(0), W.shape[-1:], at_least_float32(W).dtype)
    return jnp.broadcast_to(w / norm(w), (*W.shape[:-2], W.shape[-1]))


def unit(x: Array, otherwise: Array) -> Array:
    """Return x / ‖x‖ over the last axis, and `otherwise` where x = 0."""
    length = norm(x)[..., None]
    return jnp.where(length == 0, otherwise, x / jnp.where(length == 0, 1, length))


def norm(x: Array) -> Array:
    """Return ‖x‖₂ over the last axis, with derivative zero at x = 0, for x of any size."""
    m, scale = scaled(x, (-1,))
    square = jnp.sum(jnp.square(m), -1)
    # Two selects: the derivative of √ is infinite at 0, and 0 · ∞ = NaN in the branch not taken.
    return jnp.where(square == 0, 0, jnp.sqrt(jnp.where(square == 0, 1, square))) * scale


def scaled(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Return x / s and s, a power of two near the largest |x| over `axes`, held constant.

    s is 1 where x is zero, and both s and 1/s are normal numbers.
    """
    # Unlike `split_exponent`, s is a float: a norm is put back by one product, with a derivative.
    limit = jnp.finfo(x.dtype).maxexp - 3
    largest = jnp.abs(jax.lax.stop_gradient(x)).max(axes, keepdims=True, initial=0)
    e = jnp.frexp(jnp.where(largest > 0, largest, 1))[1]
    e = jnp.clip(e, -limit, limit)
    one = jnp.ones((), x.dtype)
    return x * jnp.ldexp(one, -e), jnp.squeeze(jnp.ldexp(one, e), axes)


def _times(W: Array, v: Array) -> Array:
    return jnp.einsum("...mn,...n->...m", W, v)


def _times_transposed(W: Array, u: Array) -> Array:
    return jnp.einsum("...mn,...m->...n", W, u)
