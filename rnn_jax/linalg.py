"""Products over leading axes, and norms that neither under- nor overflow."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rnn_jax.types import Array


def matvec(W: Array, x: Array) -> Array:
    """W x over the leading axes of x: `[O, I], [*batch, I] -> [*batch, O]`."""
    return jax.lax.dot_general(x, W, (((x.ndim - 1,), (1,)), ((), ())))


def times(transposed: Array, x: Array) -> Array:
    """`matvec` from Wᵀ, for many leading axes: `[I, O], [*lead, I] -> [*lead, O]`."""
    # Over one leading axis: XLA's dot, and the one that its gradient becomes, are slower over two.
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim > 2 else x
    return (rows @ transposed).reshape(*x.shape[:-1], transposed.shape[1])


def row_major_transpose(W: Array) -> Array:
    """Wᵀ `[n, m]` of `W [m, n]`, moved in memory rather than read the other way round."""
    return jax.lax.optimization_barrier(W.T)


def split_exponent(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """x = m · 2^e with the largest |m| over `axes` in [½, 1): `m` like x, int32 `e` without `axes`.

    Scaling by a power of two is exact, so a product of mantissas is, bit for bit, what it would
    be in a float of unlimited range. e = 0 where x is zero or not finite.
    """
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True)
    _, e = jnp.frexp(largest)
    e = jnp.where(jnp.isfinite(largest) & (largest > 0), e, 0).astype(jnp.int32)
    # Two powers of two, for one of them may be out of range. jnp.ldexp(x, -e) on all of x, which
    # XLA does not vectorize, takes seven times as long.
    half = e // 2
    one = jnp.ones((), x.dtype)
    m = x * jnp.ldexp(one, -half) * jnp.ldexp(one, half - e)
    return m, jnp.squeeze(e, axes)


def log_power_of_two(e: Array, dtype: jnp.dtype) -> Array:
    """Log 2^e for integer `e`."""
    return e.astype(dtype) * jnp.log(jnp.asarray(2, dtype))


def log_norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Log ‖x‖₂ over `axes` (Frobenius if there are several), for any x that its dtype can hold.

    -inf at x = 0.
    """
    m, e = split_exponent(x, axes)
    return 0.5 * jnp.log(jnp.sum(jnp.square(m), axis=axes)) + log_power_of_two(e, x.dtype)


def spectral_norm(W: Array) -> Array:
    """λ_W, the largest singular value of `W [..., m, n]`: `[...]`.

    On the CPU with jaxlib older than 0.12, keep two batches that do not depend on each other out
    of one jitted program: LAPACK's threads can wait for each other forever.
    """
    return jnp.linalg.svd(W, compute_uv=False)[..., 0]


def scaled_spectral_norm(A: Array) -> tuple[Array, Array]:
    """Return m and int32 e, `[...]` of the norm m 2^e of `A [..., m, n]`; m is NaN where A is."""
    m, e = split_exponent(A, (-2, -1))
    finite = jnp.isfinite(m).all((-2, -1))
    sigma = spectral_norm(jnp.where(finite[..., None, None], m, 0))
    return jnp.where(finite, sigma, jnp.nan), e


def log_spectral_norm(A: Array) -> Array:
    """Log of the largest singular value of `A [..., m, n]`: `[...]`. NaN where A is not finite."""
    m, e = scaled_spectral_norm(A)
    return jnp.log(m) + log_power_of_two(e, A.dtype)


def spectral_radius(W: Array, *, squarings: int = 30) -> Array:
    """ρ(W) = max |eigenvalue| of `W [H, H]`, by Gelfand's formula ρ = lim ‖Wⁿ‖^(1/n).

    n = 2^squarings is reached by squaring a scaled mantissa, which, unlike an eigenvalue solver
    for non-symmetric matrices, runs on every platform.
    """

    def square(A, _):
        return split_exponent(A @ A, (-2, -1))

    A, e_0 = split_exponent(W, (-2, -1))
    A, e = jax.lax.scan(square, A, length=squarings)
    # W^(2^j) = A_j 2^(2^j e_0 + 2^(j-1) e_1 + ... + e_j); then divide the exponent by 2^j.
    weights = jnp.exp2(-jnp.arange(1, squarings + 1).astype(W.dtype))
    log2_norm = jnp.log2(jnp.max(jnp.abs(A))) * weights[-1]
    return jnp.exp2(e_0.astype(W.dtype) + jnp.sum(e.astype(W.dtype) * weights) + log2_norm)


def exponential(A: Array, *, squarings: int = 12) -> Array:
    """e^A for `A [n, n]` with ‖A‖₁ below 2^(squarings − 1), by Taylor's series of A / 2^s, squared.

    Matrix products alone, unlike `jax.scipy.linalg.expm`, whose solver is LAPACK's on the CPU: see
    `spectral_norm` on two of those at once.
    """
    identity = jnp.eye(len(A), dtype=A.dtype)
    _, e = jnp.frexp(jnp.abs(jax.lax.stop_gradient(A)).sum(0).max())
    s = jnp.clip(e + 1, 0, squarings).astype(jnp.int32)
    B = A * jnp.ldexp(jnp.ones((), A.dtype), -s)

    # ‖B‖₁ < ½, so that the first term left out is below 0.5^15 / 15! = 2e-17.
    def term(series, n):
        return identity + B @ series / n, None

    series, _ = jax.lax.scan(term, identity, jnp.arange(14, 0, -1).astype(A.dtype))

    def square(power, n):
        return jnp.where(n < s, power @ power, power), None

    return jax.lax.scan(square, series, jnp.arange(squarings, dtype=jnp.int32))[0]
