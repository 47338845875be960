"""Lyapunov exponents of random matrices in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.errors import check_size, invalid
from rnn_jax.theory.arguments import numbers, within
from rnn_jax.types import Array


def gaussian_product_exponents(size: int, std: ArrayLike = 1.0) -> Array:
    r"""Return the exponents of products of independent real matrices of N(0, σ²/n): `[n]`.

    .. math:: \lambda_i = \tfrac12 \left[ \ln(2 \sigma^2 / n) + \psi((n - i + 1) / 2) \right]

    in nats per step, largest first; ψ is the digamma function.

    Args:
      size: rows of a matrix, n.
      std: √n times the standard deviation of an entry, σ, a scalar; at 0 every exponent is -inf.

    Raises:
      ValueError: a size that is not a positive integer; a std that is not one number, or is
        negative or infinite, outside `jit` (inside, the exponents are NaN).

    Reference: Newman, The distribution of Lyapunov exponents: exact results for random matrices,
    Communications in Mathematical Physics 103 (1986).
    """
    size = check_size("size", size)
    (sigma,) = numbers(std=std)
    if sigma.ndim:
        raise invalid("std", std, "one number", "Add ln σ to the exponents of σ = 1.")
    sigma = within("std", sigma, least=0)
    half = jnp.arange(size, 0, -1).astype(sigma.dtype) / 2
    digamma = jax.scipy.special.digamma(half)
    return jnp.log(sigma) + 0.5 * (jnp.log(jnp.asarray(2 / size, sigma.dtype)) + digamma)


def fraction_of_exponents_below(s: ArrayLike, weight_std: ArrayLike) -> Array:
    r"""Return the fraction of exponents below s, of x ← W φ(x) with φ'(0) = 1 and gain g < 1.

    .. math:: P(\lambda < s) = \min(1, e^{2 s} / g^2)

    The network dies out, its step Jacobian is W, and the eigenvalues of W fill a disk of radius g
    evenly.

    Args:
      s: thresholds, `[...]`, nats per step.
      weight_std: the gain g in (0, 1), √N times the standard deviation of an entry of W.

    Raises:
      ValueError: no number; a gain outside (0, 1), outside `jit` (inside, the fraction is NaN).

    Reference: Girko, Circular law (1985).
    """
    s, g = numbers(s=s, weight_std=weight_std)
    s, g = within("s", s, infinite=True), within("weight_std", g, above=0, below=1)
    return jnp.minimum(1, jnp.exp(2 * (s - jnp.log(g))))
