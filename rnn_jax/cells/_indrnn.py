"""Independently recurrent units."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Structure
from rnn_jax.cells._structured import structured, zero_state
from rnn_jax.cells.activations import ActivationLike, activation_of
from rnn_jax.cells.initializers import gaussian, uniform
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class IndRNNParams:
    """`w [H]`, one recurrent weight for each unit; `U [H, I]`, `b [H]`."""

    w: Array
    U: Array
    b: Array


@maker
def indrnn(
    hidden_size: int,
    activation: ActivationLike = "relu",
    *,
    recurrent_init: Initializer = uniform(0.0, 1.0),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return units with one recurrent weight each, to themselves.

    .. math:: h_t = \varphi(b + w \odot h_{t-1} + U x_t), \qquad y_t = h_t

    so that ∂h_t/∂h_k is diagonal, Π diag[φ'(a_i) w], and w can be chosen by how long each unit is
    to remember.

    Args:
      hidden_size: number of units, H.
      activation: φ, a name of `ACTIVATIONS`, an elementwise function, or an `Activation`.
      recurrent_init: initializer of w `[H]`.
      input_init: initializer of U. b starts at zero.
      dtype: dtype of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an unknown activation, an input
        that does not fit U.

    Reference: Li, Li, Cook, Zhu and Gao, Independently recurrent neural network (2018), arXiv
    1803.04831.
    """
    found = activation_of("activation", activation, dtype)

    def init(key: Key, input_size: int) -> IndRNNParams:
        w_key, U_key = jax.random.split(key)
        return IndRNNParams(
            w=recurrent_init(w_key, (hidden_size,), dtype),
            U=input_init(U_key, (hidden_size, input_size), dtype),
            b=jnp.zeros(hidden_size, dtype),
        )

    def pointwise(w: Array, h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("h"):
            h = found.phi(a + w * h)
        return h, h

    structure = Structure(
        U=lambda params: params.U,
        drive=lambda params, Ux: (Ux + params.b,),
        products=(),
        pointwise=pointwise,
        constants=lambda params: params.w,
        unitwise=True,
    )
    norm_bound_terms = found.norm_bound_terms(lambda params: jnp.diag(params.w))
    return structured(init, zero_state(hidden_size), structure, norm_bound_terms)
