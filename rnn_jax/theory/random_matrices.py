"""Lyapunov exponents that the theory of random matrices gives in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.errors import check_size
from rnn_jax.types import Array


def gaussian_product_exponents(size: int, std: ArrayLike = 1.0) -> Array:
    r"""Of products of independent real matrices with entries N(0, σ²/n): `[n]`, nats per step.

    .. math:: \lambda_i = \tfrac12 \left[ \ln(2 \sigma^2 / n) + \psi((n - i + 1) / 2) \right]

    ψ the digamma function; largest first.

    Args:
      size: n.
      std: σ, a scalar.

    Raises:
      ValueError: a size that is not a positive integer.

    Reference: Newman, The distribution of Lyapunov exponents: exact results for random matrices,
    Communications in Mathematical Physics 103 (1986).
    """
    check_size("size", size)
    std = jnp.asarray(std, jnp.result_type(std, float))
    i = jnp.arange(1, size + 1).astype(std.dtype)
    return 0.5 * (jnp.log(2 * std**2 / size) + jax.scipy.special.digamma((size - i + 1) / 2))


def fraction_of_exponents_below(s: ArrayLike, weight_std: ArrayLike) -> Array:
    r"""Of x ← W φ(x), φ'(0) = 1, with gain g < 1: the fraction of exponents below s.

    .. math:: P(\lambda < s) = \min(1, e^{2 s} / g^2)

    The network dies out, its step Jacobian is W, and the eigenvalues of W fill a disk of radius g
    evenly.

    Args:
      s: `[...]`, nats per step.
      weight_std: g, √N times the standard deviation of an entry of W.

    Reference: Girko, Circular law (1985).
    """
    dtype = jnp.result_type(s, weight_std, float)
    s, g = (jnp.asarray(number, dtype) for number in (s, weight_std))
    return jnp.minimum(1, jnp.exp(2 * s) / g**2)
