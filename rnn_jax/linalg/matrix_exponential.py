"""The exponential of a matrix, by scaling and squaring."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.errors import check_array, check_integer
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, at_least_float32


def exponential(A: Array, *, squarings: int | None = None) -> Array:
    """Return e^A for `A [n, n]`, by Taylor's series of A / 2^s, squared s times.

    Only matrix products are used, unlike `jax.scipy.linalg.expm`, whose solver is LAPACK's on the
    CPU (see `spectral_norm`). The error is about ε ‖A‖₁ ‖e^A‖, as large as that of rounding A.

    Args:
      A: floats; computed in float32 at least.
      squarings: the most that are taken, 24 by default in float32 and 32 in float64. Outside
        `vmap` those that A does not need cost nothing.

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
    # A static number of squarings in a scan, each under a cond, where a while_loop would do: that
    # has no reverse mode. Where A is out of reach, e^0 is computed in its place, whose derivative
    # is finite, and NaN put over it.
    norm = jnp.abs(jax.lax.stop_gradient(exact)).sum(0).max(initial=0)
    s = jnp.where(norm < 0.5, 0, jnp.frexp(norm)[1] + 1)
    within = jnp.isfinite(norm) & (s <= squarings)
    s = jnp.where(within, s, 0).astype(jnp.int32)
    B = jnp.where(within, exact, 0) * jnp.ldexp(jnp.ones((), exact.dtype), -s)

    # ‖B‖₁ < ½, so that the first term left out is below 0.5^15 / 15! = 2e-17.
    def term(series: Any, n: Any):
        return identity + B @ series / n, None

    series, _ = jax.lax.scan(term, identity, jnp.arange(14, 0, -1).astype(exact.dtype))

    def square(power: Any, n: Any):
        return jax.lax.cond(n < s, lambda P: P @ P, lambda P: P, power), None

    power = jax.lax.scan(square, series, jnp.arange(squarings, dtype=jnp.int32))[0]
    return jnp.where(within, power, jnp.nan).astype(A.dtype)
