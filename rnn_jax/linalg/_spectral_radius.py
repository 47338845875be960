"""The spectral radius of a matrix, by squaring."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.errors import check_array, check_integer
from rnn_jax.linalg.similarity import balance, same_component
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, at_least_float32


def spectral_radius(W: Array, *, squarings: int | None = None) -> Array:
    """Return ρ(W) = max |eigenvalue| of `W [H, H]`, by Gelfand's formula ρ = lim ‖Wⁿ‖^(1/n).

    n = 2^squarings is reached by squaring a scaled mantissa, which, unlike an eigenvalue solver
    for non-symmetric matrices, runs on every platform. W is balanced first, and entries on no cycle
    are dropped (`linalg.similarity`): of a triangular matrix ρ is the largest entry of the
    diagonal, however large the others are, and of a matrix without a cycle 0 exactly.

    The error is a few ε for random, stochastic, orthogonal, companion and triangular matrices at
    any scale, and grows with the distance of W from normal: relative to ρ it was within 5 ε κ K²,
    κ the condition number of the eigenvalue and K the largest ‖Wⁿ‖ / ρⁿ over n = 1, 2, 4, ..
    (`benchmarks/flag_coverage_bounds.py`). For a Jordan block of size m in a rotated basis it is of
    the order of ε^(1/(2m−2)) ‖W‖, where rounding of W's entries alone makes it ε^(1/m): 0.06 and
    0.02 for m = 4 in float32.

    Args:
      W: floats; computed in float32 at least.
      squarings: 30 by default in float32, where n^(1/n) is 1 to rounding, and 60 in float64.

    Returns:
      ρ in the dtype of W; NaN where an entry is not finite, and 0 for a matrix of size 0. Its
      derivative is that of a real leading eigenvalue, zero by entries on no cycle, and is wrong
      where a complex pair leads.

    Raises:
      ValueError: a W that is no square matrix of floats, squarings that are no positive integer.
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

    # An exponent for each component. One that is far from normal can have large entries and a small
    # ρ: under one exponent for all, its first squares would flush the component whose ρ is largest.
    def scaled(A: Array, more: Any):
        """Return A · 2^more, the largest of each component in [½, 1), and its exponent."""
        _, e = jnp.frexp(A)
        of_rows = jnp.where(A != 0, e + more, none).max(1)
        of_components = jnp.where(together, of_rows, none).max(1)
        e = jnp.where(of_components > none, of_components, 0).astype(jnp.int32)
        return jnp.ldexp(A, more - e[:, None]), e

    def square(A: Array, _: Any):
        return scaled(jnp.matmul(A, A, precision="highest"), jnp.zeros((), jnp.int32))

    A, e_0 = scaled(A, d[None, :] - d[:, None])
    A, e = jax.lax.scan(square, A, length=squarings)
    # The component of row i in W^(2^j) is its A_j 2^(2^j e_0 + 2^(j-1) e_1 + ... + e_j). Divided by
    # 2^j, the exponent of squaring i counts 2^-i: so does its rounding, and the sum is right to ε.
    # e_0 is put back by ldexp: added to the logarithm it would take digits from it.
    weights = jnp.exp2(-jnp.arange(1, squarings + 1).astype(A.dtype))
    largest = jnp.abs(A).max(1)
    alive = largest > 0
    log2 = jnp.log2(jnp.where(alive, largest, 1)) * weights[-1] + weights @ e.astype(A.dtype)
    rho = jnp.where(alive, jnp.ldexp(jnp.exp2(log2), e_0), 0).max()
    return jnp.where(finite, rho, jnp.nan).astype(W.dtype)
