"""Lipschitz recurrent networks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._structured import AffineParams, affine_init, structured, zero_state
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_number, check_positive
from rnn_jax.types import Array, Initializer


@maker
def lipschitz(
    hidden_size: int,
    *,
    beta: float = 0.65,
    gamma: float = 0.001,
    dt: float = 0.03,
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return a linear part, stable by construction, beside a nonlinear one, by Euler's method.

    .. math::
        h_t = h_{t-1} + \epsilon\, [A h_{t-1} + \tanh(B h_{t-1} + U x_t + b)], \qquad y_t = h_t, \\
        A, B = (1 - \beta)(W + W^\top) + \beta (W - W^\top) - \gamma I

    each of A and B from its own half of `W [2H, H]`. β = 1 leaves imaginary eigenvalues shifted by
    −γ, β = ½ leaves W itself.

    Args:
      hidden_size: number of units, H.
      beta: share of the antisymmetric part, β, in [½, 1].
      gamma: diffusion, γ, at least 0.
      dt: step of Euler's method, ε.
      recurrent_init, input_init, dtype: see `gated`; each half of W is drawn by itself.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, a β outside [½, 1], a γ below 0, a
        dt that is not positive, an input that does not fit U.

    Reference: Erichson, Azencot, Queiruga, Hodgkinson and Mahoney, Lipschitz recurrent neural
    networks (2021), arXiv 2006.12070. Departure: β and γ are the same for A and B.
    """
    check_positive("dt", dt)
    check_number("gamma", gamma, least=0)
    remedy = "Pass 1 for antisymmetric, 0.5 for W itself."
    check_number("beta", beta, least=0.5, most=1, remedy=remedy)
    H = hidden_size
    init = affine_init(stacked(recurrent_init, 2), input_init, (2 * H, H), H, dtype)

    def mixed(W: Array) -> Array:
        return W - (2 * beta - 1) * W.T - gamma * jnp.eye(H, dtype=W.dtype)

    def A_and_B(params: AffineParams) -> Array:
        return jnp.concatenate([mixed(W) for W in jnp.split(params.W, 2)])

    def drive(params: AffineParams, Ux: Array) -> tuple[Array]:
        d = Ux + params.b
        return (jnp.concatenate([jnp.zeros_like(d), d], axis=-1),)

    def pointwise(_: Any, h: Array, a: Array) -> tuple[Array, Array]:
        Ah, d = split_gates(a, 2)
        with jax.named_scope("h"):
            h = h + dt * (Ah + jnp.tanh(d))
        return h, h

    products = (Product(A_and_B, lambda _, h: h),)
    structure = Structure(lambda params: params.U, drive, products, pointwise, unitwise=True)
    return structured(init, zero_state(H), structure)
