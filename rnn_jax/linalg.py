"""Products over leading axes, and norms that neither under- nor overflow."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rnn_jax.compiled import compiled
from rnn_jax.errors import check_array, check_axes, check_dtype, check_integer
from rnn_jax.similarity import balance, same_component
from rnn_jax.types import Array, at_least_float32


def matvec(W: Array, x: Array) -> Array:
    """W x over the leading axes of x: `[O, I], [*batch, I] -> [*batch, O]`."""
    W = check_array("W", W, ("O", "I"), kind="inexact")
    x = check_array("x", x, ("*batch", W.shape[1]), kind="inexact")
    return jax.lax.dot_general(x, W, (((x.ndim - 1,), (1,)), ((), ())))


def times(transposed: Array, x: Array) -> Array:
    """`matvec` from Wᵀ, for many leading axes: `[I, O], [*lead, I] -> [*lead, O]`."""
    transposed = check_array("transposed", transposed, ("I", "O"), kind="inexact")
    x = check_array("x", x, ("*lead", len(transposed)), kind="inexact")
    # Over one leading axis: XLA's dot, and the one that its gradient becomes, are slower over two.
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1]) if x.ndim > 2 else x
    return (rows @ transposed).reshape(*x.shape[:-1], transposed.shape[1])


def row_major_transpose(W: Array) -> Array:
    """Wᵀ `[n, m]` of `W [m, n]`, moved in memory rather than read the other way round."""
    W = check_array("W", W, ("m", "n"), kind="inexact")
    return jax.lax.optimization_barrier(W.T)


def split_exponent(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """x = m · 2^e with the largest |m| over `axes` in [½, 1): `m` like x, int32 `e` without `axes`.

    Scaling by a power of two is exact, so a product of mantissas is, bit for bit, what it would
    be in a float of unlimited range. e = 0 where x is zero or not finite.
    """
    x = check_array("x", x, ("*axes",))
    axes = check_axes("axes", axes, x)
    largest = jnp.max(jnp.abs(x), axis=axes, keepdims=True, initial=0)
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
    e = check_array("e", e, ("*axes",), kind="integer")
    dtype = check_dtype("dtype", dtype)
    return e.astype(dtype) * jnp.log(jnp.asarray(2, dtype))


def log_norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Log ‖x‖₂ over `axes` (Frobenius if there are several), for any x that its dtype can hold.

    -inf at x = 0.
    """
    m, e = split_exponent(x, axes)
    m = at_least_float32(m)
    log = 0.5 * jnp.log(jnp.sum(jnp.square(m), axis=axes)) + log_power_of_two(e, m.dtype)
    return log.astype(x.dtype)


def spectral_norm(W: Array) -> Array:
    """λ_W, the largest singular value of `W [..., m, n]`: `[...]`.

    On the CPU with jaxlib older than 0.12, keep two batches that do not depend on each other out
    of one jitted program: LAPACK's threads can wait for each other forever.

    Half precision is computed in float32. A matrix of size 0 has norm 0.

    Raises:
      ValueError: what is no matrix of floats or complex numbers.
    """
    W = check_array("W", W, ("*batch", "m", "n"), kind="inexact")
    if 0 in W.shape[-2:]:
        return jnp.zeros(W.shape[:-2], W.real.dtype)
    sigma = jnp.linalg.svd(at_least_float32(W), compute_uv=False)[..., 0]
    return sigma.astype(W.real.dtype)


def log_spectral_norm(A: Array) -> Array:
    """Log of the largest singular value of `A [..., m, n]`: `[...]`. NaN where A is not finite.

    Raises:
      ValueError: what is no matrix of floats.
    """
    A = check_array("A", A, ("*batch", "m", "n"))
    m, e = split_exponent(A, (-2, -1))
    finite = jnp.isfinite(m).all((-2, -1))
    sigma = spectral_norm(jnp.where(finite[..., None, None], m, 0))
    return jnp.where(finite, jnp.log(sigma) + log_power_of_two(e, A.dtype), jnp.nan)


def spectral_radius(W: Array, *, squarings: int | None = None) -> Array:
    """Return ρ(W) = max |eigenvalue| of `W [H, H]`, by Gelfand's formula ρ = lim ‖Wⁿ‖^(1/n).

    n = 2^squarings is reached by squaring a scaled mantissa, which, unlike an eigenvalue solver
    for non-symmetric matrices, runs on every platform. What a choice of units, or an entry on no
    cycle, adds to ‖W‖ is taken away before (`rnn_jax.similarity`), and each block that is then
    left has an exponent of its own: of a triangular matrix ρ is the largest entry of the diagonal,
    however large the others are, and of a matrix without a cycle 0 exactly.

    A few ε off for random, stochastic, orthogonal, companion and triangular matrices at any scale.
    In general rounding is magnified as W lies far from normal: relative to ρ the error was within
    5 ε κ K², κ the condition number of the eigenvalue and K the largest ‖Wⁿ‖ / ρⁿ over n = 1, 2, 4,
    .. (`benchmarks/flag_coverage_bounds.py`): of the order of ε^(1/(2m−2)) ‖W‖ for a Jordan block
    of size m in a rotated basis, where rounding of W's entries alone makes it ε^(1/m); 0.06 and
    0.02 for m = 4 in float32.

    Args:
      W: floats; computed in float32 at least.
      squarings: 30 by default in float32, where n^(1/n) is 1 to rounding, and 60 in float64.

    Returns:
      ρ in the dtype of W; NaN where an entry is not finite, and 0 for a matrix of size 0. Its
      derivative is that of a real leading eigenvalue, zero by entries on no cycle, and is wrong
      where a complex pair leads.

    Raises:
      ValueError: a W that is no square matrix of floats, squarings that are no integer from 0.
    """
    check_array("W", W, ("H", "H"))
    enough = 60 if jnp.finfo(W.dtype).bits > 32 else 30
    squarings = check_integer("squarings", enough if squarings is None else squarings)
    return _spectral_radius(W, squarings) if len(W) else jnp.zeros((), W.dtype)


@compiled("squarings")
def _spectral_radius(W: Array, squarings: int) -> Array:
    finite = jnp.isfinite(W).all()
    A = at_least_float32(jnp.where(finite, W, 0))
    together = same_component(A)
    A = jnp.where(together, A, 0)
    d = balance(jax.lax.stop_gradient(A))

    none = jnp.iinfo(jnp.int32).min

    def scaled(A, more):
        """A · 2^more with the largest of each block in [½, 1), and the exponent taken from it."""
        _, e = jnp.frexp(A)
        of_rows = jnp.where(A != 0, e + more, none).max(1)
        of_blocks = jnp.where(together, of_rows, none).max(1)
        e = jnp.where(of_blocks > none, of_blocks, 0).astype(jnp.int32)
        return jnp.ldexp(A, more - e[:, None]), e

    def square(A, _):
        return scaled(jnp.matmul(A, A, precision="highest"), jnp.zeros((), jnp.int32))

    A, e_0 = scaled(A, d[None, :] - d[:, None])
    A, e = jax.lax.scan(square, A, length=squarings)
    # The block of row i in W^(2^j) is its A_j 2^(2^j e_0 + 2^(j-1) e_1 + ... + e_j).
    weights = jnp.exp2(-jnp.arange(1, squarings + 1).astype(A.dtype))
    largest = jnp.abs(A).max(1)
    alive = largest > 0
    log2 = jnp.log2(jnp.where(alive, largest, 1)) * weights[-1] + weights @ e.astype(A.dtype)
    rho = jnp.where(alive, jnp.ldexp(jnp.exp2(log2), e_0), 0).max()
    return jnp.where(finite, rho, jnp.nan).astype(W.dtype)


def exponential(A: Array, *, squarings: int | None = None) -> Array:
    """Return e^A for `A [n, n]`, by Taylor's series of A / 2^s, squared s times.

    Matrix products alone, unlike `jax.scipy.linalg.expm`, whose solver is LAPACK's on the CPU: see
    `spectral_norm` on two of those at once. The error is about ε ‖A‖₁ ‖e^A‖, which rounding in A
    makes of it too.

    Args:
      A: floats; computed in float32 at least.
      squarings: the most that are taken, 24 by default in float32 and 32 in float64. Those that A
        does not need cost nothing outside of `vmap`.

    Returns:
      e^A in the dtype of A; NaN throughout where ‖A‖₁ is 2^(squarings − 1) or more, or not finite.

    Raises:
      ValueError: an A that is no square matrix of floats, squarings that are no integer from 0.
    """
    check_array("A", A, ("n", "n"))
    enough = 32 if jnp.finfo(A.dtype).bits > 32 else 24
    squarings = check_integer("squarings", enough if squarings is None else squarings, least=0)
    return _exponential(A, squarings)


@compiled("squarings")
def _exponential(A: Array, squarings: int) -> Array:
    exact = at_least_float32(A)
    identity = jnp.eye(len(A), dtype=exact.dtype)
    norm = jnp.abs(jax.lax.stop_gradient(exact)).sum(0).max(initial=0)
    s = jnp.where(norm < 0.5, 0, jnp.frexp(norm)[1] + 1)
    within = jnp.isfinite(norm) & (s <= squarings)
    s = jnp.where(within, s, 0).astype(jnp.int32)
    B = jnp.where(within, exact, 0) * jnp.ldexp(jnp.ones((), exact.dtype), -s)

    # ‖B‖₁ < ½, so that the first term left out is below 0.5^15 / 15! = 2e-17.
    def term(series, n):
        return identity + B @ series / n, None

    series, _ = jax.lax.scan(term, identity, jnp.arange(14, 0, -1).astype(exact.dtype))

    def square(power, n):
        return jax.lax.cond(n < s, lambda P: P @ P, lambda P: P, power), None

    power = jax.lax.scan(square, series, jnp.arange(squarings, dtype=jnp.int32))[0]
    return jnp.where(within, power, jnp.nan).astype(A.dtype)
