"""A linear recurrence, unit by unit."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, NormBoundTerms
from rnn_jax.cells._linear import linear
from rnn_jax.cells._structured import zero_state
from rnn_jax.cells.initializers import gaussian, uniform
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class DiagonalParams:
    """`a [H]`, one factor for each unit; `U [H, I]`, `b [H]`."""

    a: Array
    U: Array
    b: Array


@maker
def diagonal(
    hidden_size: int,
    *,
    recurrent_init: Initializer = uniform(0.9, 0.999),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return leaky integrators of the input, each with a factor of its own.

    .. math:: h_t = a \odot h_{t-1} + U x_t + b, \qquad y_t = h_t

    so that ∂h_t/∂h_k = diag(a)^(t−k). Nothing keeps |a| below 1; `lru` does.

    Args:
      hidden_size: number of units, H.
      recurrent_init: initializer of a `[H]`.
      input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an input that does not fit U.

    Reference: Mozer, Induction of multiscale temporal structure (1991).
    """
    H = hidden_size

    def init(key: Key, input_size: int) -> DiagonalParams:
        a_key, U_key = jax.random.split(key)
        return DiagonalParams(
            a=recurrent_init(a_key, (H,), dtype),
            U=input_init(U_key, (H, input_size), dtype),
            b=jnp.zeros(H, dtype),
        )

    return linear(
        init,
        zero_state(H),
        U=lambda params: params.U,
        drive=lambda params, Ux: (Ux + params.b,),
        coefficients=lambda a, Ux: (a, Ux),
        constants=lambda params: params.a,
        norm_bound_terms=lambda params: NormBoundTerms(jnp.diag(params.a), 1.0),
        unitwise=True,
    )
