"""Elman's network with an orthogonal recurrent matrix, for as long as it is trained."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._elman import postactivation
from rnn_jax.cells._structured import AffineParams
from rnn_jax.cells.activations import ActivationLike
from rnn_jax.cells.initializers import gaussian, rotations
from rnn_jax.cells.maker import maker
from rnn_jax.linalg import exponential
from rnn_jax.types import Array, Initializer, at_least_float32


@maker
def orthogonal_rnn(
    hidden_size: int,
    activation: ActivationLike = "tanh",
    *,
    recurrent_init: Initializer = rotations(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return h_t = φ(Q h_{t-1} + U x_t + b), Q = exp(W − Wᵀ) orthogonal whatever W is.

    .. math::
        h_t = \varphi(b + e^{W - W^\top} h_{t-1} + U x_t), \qquad y_t = h_t

    Every Q of determinant 1 is reached, λ_W = 1 holds throughout training, and the optimizer works
    on W without constraint. With the identity for φ the norm of a gradient is preserved.

    The arguments and errors are those of `elman`; `recurrent_init` draws W.

    Reference: Lezcano-Casado and Martínez-Rubio, Cheap orthogonal constraints in neural networks
    (2019), arXiv 1901.08428. Departure: they use the modReLU. Where ‖W − Wᵀ‖₁ is above 2³¹,
    so that no float32 resolves the angles, Q is that of W times a smaller power of two.
    """

    def Q(params: AffineParams) -> Array:
        W = at_least_float32(params.W)
        return exponential_of_skew(W - W.T).astype(params.W.dtype)

    return postactivation(hidden_size, activation, Q, recurrent_init, input_init, dtype)


SQUARINGS = (4, 8)
"""Number of groups of squarings, and squarings in each; Q is orthogonalized after a group."""


def exponential_of_skew(A: Array) -> Array:
    """Return Q = e^A for A = −Aᵀ `[n, n]` of any norm, orthogonal to a few roundings."""
    # By scaling and squaring: e^A = (e^B)^(2^s) with ‖B‖₁ < ½. Each squaring doubles the distance
    # of Q from the orthogonal matrices; one step of Newton and Schulz, Q (3 I − Qᵀ Q) / 2, squares
    # it. So a step after every few squarings keeps λ_W = 1 to rounding, and gradients with it,
    # however far W has been trained.
    groups, each = SQUARINGS
    identity = jnp.eye(len(A), dtype=A.dtype)
    _, e = jnp.frexp(jnp.abs(jax.lax.stop_gradient(A)).sum(0).max())
    s = jnp.maximum(e + 1, 0).astype(jnp.int32)
    half = s // 2  # of the scaling, for 2^-s may be out of range
    one = jnp.ones((), A.dtype)
    B = A * jnp.ldexp(one, -half) * jnp.ldexp(one, half - s)

    def group(Q: Array, first: Any):
        for n in range(each):
            Q = jnp.where(first + n < s, Q @ Q, Q)
        return Q + 0.5 * Q @ (identity - Q.T @ Q)

    def body(Q: Array, first: Any):
        return jax.lax.cond(first < s, group, lambda Q, _: Q, Q, first), None

    starts = jnp.arange(0, groups * each, each, dtype=jnp.int32)
    Q = exponential(B, squarings=0)
    return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), Q, starts)[0]
