"""Antisymmetric networks: Euler's method on a flow that is at the edge of stability."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._gated import gated
from rnn_jax.cells._structured import AffineParams, affine_init, structured, zero_state
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_number, check_positive
from rnn_jax.types import Array, Initializer


@maker
def antisymmetric(
    hidden_size: int,
    *,
    dt: float = 0.1,
    gamma: float = 0.01,
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the antisymmetric network.

    .. math::
        h_t = h_{t-1} + \epsilon \tanh((W - W^\top - \gamma I) h_{t-1} + U x_t + b), \qquad
        y_t = h_t

    The eigenvalues of W − Wᵀ are imaginary, so that the flow neither grows nor decays at its
    linearization; γ makes Euler's method stable.

    Args:
      hidden_size: number of units, H.
      dt: step of Euler's method, ε.
      gamma: diffusion, γ, at least 0.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, a dt that is not positive, a γ below
        0, an input that does not fit U.

    Reference: Chang, Chen, Haber and Chi, AntisymmetricRNN (2019), arXiv 1902.09689.
    """
    check_positive("dt", dt)
    check_number("gamma", gamma, least=0)

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("h"):
            h = h + dt * jnp.tanh(a)
        return h, h

    return gated(
        hidden_size,
        1,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        effective=lambda params: skew(params.W, gamma),
        unitwise=True,
    )


@maker
def antisymmetric_gated(
    hidden_size: int,
    *,
    dt: float = 0.1,
    gamma: float = 0.01,
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the antisymmetric network with an input gate that shares its recurrent matrix.

    .. math::
        e = (W - W^\top - \gamma I) h_{t-1}, \qquad z = \sigma(e + U_z x_t + b_z), \\
        h_t = h_{t-1} + \epsilon\, z \odot \tanh(e + U_n x_t + b_n), \qquad y_t = h_t

    U and b have their rows in the order z n. The arguments, state, errors and reference are those
    of `antisymmetric`.
    """
    check_positive("dt", dt)
    check_number("gamma", gamma, least=0)
    H = hidden_size
    init = affine_init(recurrent_init, stacked(input_init, 2), (H, H), 2 * H, dtype)

    def drive(params: AffineParams, Ux: Array) -> tuple[Array, ...]:
        z, n = jax.lax.split(Ux + params.b, [H, H], axis=Ux.ndim - 1)
        return jnp.zeros_like(z), z, n

    def pointwise(_: Any, h: Array, e: Array, z: Array, n: Array) -> tuple[Array, Array]:
        with jax.named_scope("z"):
            z = jax.nn.sigmoid(e + z)
        with jax.named_scope("n"):
            n = jnp.tanh(e + n)
        with jax.named_scope("h"):
            h = h + dt * z * n
        return h, h

    products = (Product(lambda params: skew(params.W, gamma), lambda _, h: h),)
    structure = Structure(lambda params: params.U, drive, products, pointwise, unitwise=True)
    return structured(init, zero_state(H), structure)


def skew(W: Array, gamma: float) -> Array:
    """Return W − Wᵀ − γ I."""
    return W - W.T - gamma * jnp.eye(len(W), dtype=W.dtype)
