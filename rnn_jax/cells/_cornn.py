"""Coupled oscillators."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import AffineParams, structured
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, check_size
from rnn_jax.types import Array, Initializer, Key, Params


@flax.struct.dataclass
class OscillatorState:
    """`y`, the places, and `z`, the velocities, `[*batch, H]`."""

    y: Array
    z: Array


@maker
def cornn(
    hidden_size: int,
    *,
    dt: float = 0.042,
    gamma: float = 2.7,
    epsilon: float = 4.7,
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return damped oscillators that drive each other: ÿ = tanh(W [y; ẏ] + U x + b) − γ y − ε ẏ.

    .. math::
        z_t = z_{t-1} + dt\, [\tanh(W [y_{t-1}; z_{t-1}] + U x_t + b)
            - \gamma y_{t-1} - \epsilon z_{t-1}], \qquad
        y_t = y_{t-1} + dt\, z_t

    Args:
      hidden_size: H.
      dt: the step; the defaults are the paper's for sequential images.
      gamma: γ, the squared frequency.
      epsilon: ε, the damping.
      recurrent_init: draws W `[H, 2H]`.
      input_init: draws U. b starts at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state (y, z), each `[*batch, H]`, zero at the start; y is its output.

    Raises:
      ValueError: a hidden size that is not a positive integer, constants that are not positive, an
        input that does not fit U.

    Reference: Rusch and Mishra, Coupled oscillatory recurrent neural network (2021), arXiv
    2010.00951, with the damping taken at z_{t-1}.
    """
    check_size("hidden_size", hidden_size)
    for name, value in (("dt", dt), ("gamma", gamma), ("epsilon", epsilon)):
        check_positive(name, value)
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, U_key = jax.random.split(key)
        return AffineParams(
            W=recurrent_init(W_key, (H, 2 * H), dtype),
            U=input_init(U_key, (H, input_size), dtype),
            b=jnp.zeros(H, dtype),
        )

    def initial_state(params: Params, batch: Any = ()):
        zeros = jnp.zeros((*batch, H), params.W.dtype)
        return OscillatorState(y=zeros, z=zeros)

    def pointwise(_: Any, state: OscillatorState, a: Array) -> tuple[OscillatorState, Array]:
        z = state.z + dt * (jnp.tanh(a) - gamma * state.y - epsilon * state.z)
        y = state.y + dt * z
        return OscillatorState(y=y, z=z), y

    structure = Structure(
        U=lambda params: params.U,
        drive=lambda params, Ux: (Ux + params.b,),
        products=(
            Product(lambda params: params.W, lambda _, s: jnp.concatenate([s.y, s.z], axis=-1)),
        ),
        pointwise=pointwise,
        unitwise=True,
    )
    return structured(init, initial_state, structure)
