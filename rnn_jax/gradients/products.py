r"""All products of consecutive matrices, each as two factors.

P_{t,k} = J_t ··· J_{k+1} is A_t B_k with A_t = J_t ··· J_{s+1} and B_k = J_s ··· J_{k+1} for any s
in between. Halve the sequence at s: the products across s are all pairs of T/2 matrices A and T/2
matrices B. Halve the halves, and so on: T log₂ T matrix products are behind all T²/2 pairs, and a
norm of A_t B_k asks for A_t B_k only as it acts on a few vectors.

Matrices are carried as mantissas and exponents, so that nothing under- or overflows. Rounding
changes P_{t,k} by about ε max_s ‖A_t‖ ‖B_k‖, as it does one product after the other.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.gradients.spectral import LogNorm, root_of_largest_eigenvalue, start_vector
from rnn_jax.linalg import log_power_of_two, split_exponent
from rnn_jax.types import Array


class Scaled(NamedTuple):
    """Matrices m · 2^e, `m [..., R, C]` with largest entries in [½, 1), int32 `e [...]`."""

    m: Array
    e: Array


class Rectangles(NamedTuple):
    """n times all products A_i B_j.

    Attributes:
      A: `[n, p, R, S]`.
      B: `[n, q, S, C]`.
      t: `[n, p]`, the state that A leads to.
      k: `[n, q]`, the state that B leads from; t and k are beyond T where there is no such state.
    """

    A: Scaled
    B: Scaled
    t: np.ndarray
    k: np.ndarray


def halvings(jacobians: Array):
    """Every (t, k) with t > k exactly once, in about log₂ T + 1 Rectangles.

    Yields Rectangles of `jacobians [T, S, S]`; p and q are about T / 2, T / 4, .., 1 and 1.
    """
    T, S, _ = jacobians.shape
    identity = jnp.eye(S, dtype=jacobians.dtype)
    # Step T is none: it makes odd numbers even, and its pairs fall outside every table.
    J = jnp.concatenate([jacobians, identity[None]])
    steps = np.arange(T)[None]
    while steps.shape[1] > 1:
        if steps.shape[1] % 2:
            steps = np.pad(steps, ((0, 0), (0, 1)), constant_values=T)
        first, second = np.split(steps, 2, axis=1)
        A, B = from_anchor(J[second]), to_anchor(J[first])
        yield Rectangles(A, B, *_states(second, first, T))
        steps = np.concatenate([first, second])
    eye = Scaled(
        jnp.broadcast_to(identity, (len(steps), 1, S, S)), jnp.zeros(steps.shape, jnp.int32)
    )
    A = Scaled(*split_exponent(J[steps], (-2, -1)))
    yield Rectangles(A, eye, *_states(steps, steps, T))


def _states(last, first, T) -> tuple[np.ndarray, np.ndarray]:
    beyond = lambda steps, states: np.where(steps == T, T + 1, states)
    return beyond(last, last + 1), beyond(first, first)


def from_anchor(J: Array) -> Scaled:
    """J_i ··· J_1 for i = 1 .. p, `[n, p, S, S]`."""
    return _running(J, lambda J, product: J @ product, reverse=False)


def to_anchor(J: Array) -> Scaled:
    """J_q ··· J_j for j = 1 .. q, `[n, q, S, S]`."""
    return _running(J, lambda J, product: product @ J, reverse=True)


def _running(J, times, reverse) -> Scaled:
    n, _, S, _ = J.shape

    def multiply(carry, J):
        product, exponent = carry
        product, e = split_exponent(times(J, product), (-2, -1))
        exponent = exponent + e
        return (product, exponent), (product, exponent)

    eye = jnp.broadcast_to(jnp.eye(S, dtype=J.dtype), (n, S, S))
    _, (m, e) = jax.lax.scan(
        multiply, (eye, jnp.zeros(n, jnp.int32)), J.swapaxes(0, 1), reverse=reverse
    )
    return Scaled(m.swapaxes(0, 1), e.swapaxes(0, 1))


def spectral_log_norms(A: Array, B: Array, rtol: float | None = None) -> LogNorm:
    """ln ‖A_i B_j‖₂ of `A [n, p, R, S]` and `B [n, q, S, C]`: each part `[n, p, q]`."""
    n, p, _, _ = A.shape
    _, q, _, C = B.shape
    start = start_vector((n, q, p, C), A.dtype)
    # ‖A B start‖ is ‖A B‖ to within a factor of about √C, and A B may be far smaller than A and B.
    Bv, e = split_exponent(start @ B.mT, (-1,))
    _, f = split_exponent(Bv.swapaxes(1, 2) @ A.mT, (-1,))
    exponent = e.swapaxes(1, 2) + f
    scale = jnp.ldexp(jnp.ones((), A.dtype), -exponent)[..., None]

    def gram(v):
        # Laid out so that each of the p + q matrices meets all of its vectors at once.
        u = (scale * (v @ B.mT).swapaxes(1, 2)) @ A.mT
        return (scale * (u @ A)).swapaxes(1, 2) @ B

    value, error = (
        part.swapaxes(1, 2) for part in root_of_largest_eigenvalue(gram, start, rtol=rtol)
    )
    return LogNorm(value + log_power_of_two(exponent, A.dtype), error)
