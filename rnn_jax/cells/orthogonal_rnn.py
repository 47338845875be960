"""Elman's network with an orthogonal recurrent matrix, for as long as it is trained."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cells.activations import ACTIVATIONS
from rnn_jax.cells.initializers import gaussian, rotations
from rnn_jax.cells.structured import AffineParams, gated
from rnn_jax.errors import choose
from rnn_jax.linalg import exponential
from rnn_jax.types import Array, Cell, Initializer, Recurrence, at_least_float32


def orthogonal_rnn(
    hidden_size: int,
    activation: str = "tanh",
    *,
    recurrent_init: Initializer = rotations(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""h_t = φ(Q h_{t-1} + U x_t + b) with Q = exp(W − Wᵀ), orthogonal whatever W is.

    .. math::
        h_t = \varphi(b + e^{W - W^\top} h_{t-1} + U x_t), \qquad y_t = h_t

    Every Q of determinant 1 is reached, λ_W = 1 holds throughout training, and the optimizer works
    on W without constraint. With the identity for φ the norm of a gradient stays what it is.

    The arguments and errors are those of `elman`; `recurrent_init` draws W.

    Reference: Lezcano-Casado and Martínez-Rubio, Cheap orthogonal constraints in neural networks
    (2019), arXiv 1901.08428. Departure: they use the modReLU.
    """
    phi, sup_derivative = choose("activation", activation, ACTIVATIONS)

    def Q(params: AffineParams) -> Array:
        generator = at_least_float32(params.W - params.W.T)
        return exponential(generator).astype(params.W.dtype)

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        h = phi(a)
        return h, h

    return gated(
        hidden_size,
        1,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        effective=Q,
        recurrence=lambda params: Recurrence(Q(params), sup_derivative),
        unitwise=True,
    )
