"""Norms of vectors and matrices that neither under- nor overflow."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from rnn_jax.errors import check_array
from rnn_jax.linalg.exponents import log_power_of_two, split_exponent
from rnn_jax.types import Array, at_least_float32


def log_norm(x: Array, axes: tuple[int, ...]) -> Array:
    """Return ln ‖x‖₂ over `axes` (Frobenius if several), for any finite x; -inf at x = 0."""
    m, e = split_exponent(x, axes)
    m = at_least_float32(m)
    log = 0.5 * jnp.log(jnp.sum(jnp.square(m), axis=axes)) + log_power_of_two(e, m.dtype)
    return log.astype(x.dtype)


def spectral_norm(W: Array) -> Array:
    """Return λ_W, the largest singular value of `W [..., m, n]`: `[...]`.

    On the CPU with jaxlib older than 0.12, keep two batches that do not depend on each other out
    of one jitted program: LAPACK's threads can wait for each other forever.

    Half precision is computed in float32. A matrix of size 0 has norm 0.

    Raises:
      ValueError: no matrix of floats or complex numbers.
    """
    W = check_array("W", W, ("*batch", "m", "n"), kind="inexact")
    if 0 in W.shape[-2:]:
        return jnp.zeros(W.shape[:-2], W.real.dtype)
    sigma = jnp.linalg.svd(at_least_float32(W), compute_uv=False)[..., 0]
    return sigma.astype(W.real.dtype)


def log_spectral_norm(A: Array) -> Array:
    """Return ln of the largest singular value of `A [..., m, n]`, NaN where A is not finite.

    Raises:
      ValueError: no matrix of floats.
    """
    A = check_array("A", A, ("*batch", "m", "n"))
    # LAPACK does not say what its SVD makes of inf and NaN, so that none reaches it.
    m, e = split_exponent(A, (-2, -1))
    finite = jnp.isfinite(m).all((-2, -1))
    sigma = spectral_norm(jnp.where(finite[..., None, None], m, 0))
    return jnp.where(finite, jnp.log(sigma) + log_power_of_two(e, A.dtype), jnp.nan)


class LogNorm(NamedTuple):
    """The logarithm of a norm, and a bound on its error.

    Attributes:
      value: the logarithm, -inf for a zero matrix, NaN for one that is not finite.
      error: ln ‖P‖ lies within value ± error; +inf where nothing is known. Lanczos' method alone,
        `root_of_largest_eigenvalue`, errs to one side, value ≤ ln σ_max ≤ value + error but for a
        probability of FAILURE_PROBABILITY; tools for products of Jacobians add rounding.
    """

    value: Array
    error: Array
