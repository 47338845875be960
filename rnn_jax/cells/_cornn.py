"""Coupled oscillators, in discrete time."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import affine_init, structured, zero_state
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive
from rnn_jax.types import Array, Initializer


@flax.struct.dataclass
class OscillatorState:
    """`y`, the positions, and `z`, the velocities, each `[*batch, H]`."""

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
    r"""Return coupled damped oscillators: ÿ = tanh(W [y; ẏ] + U x + b) − γ y − ε ẏ.

    .. math::
        z_t = z_{t-1} + dt\, [\tanh(W [y_{t-1}; z_{t-1}] + U x_t + b)
            - \gamma y_{t-1} - \epsilon z_{t-1}], \qquad
        y_t = y_{t-1} + dt\, z_t

    Args:
      hidden_size: number of units, H.
      dt: length of a step; the defaults are the paper's for sequential images.
      gamma: squared frequency, γ.
      epsilon: damping, ε.
      recurrent_init, input_init, dtype: see `gated`; W is `[H, 2H]`.

    Returns:
      A Cell with state (y, z), each `[*batch, H]`, zero at the start; y is its output.

    Raises:
      ValueError: a hidden size that is not a positive integer, constants that are not positive, an
        input that does not fit U.

    Reference: Rusch and Mishra, Coupled oscillatory recurrent neural network (2021), arXiv
    2010.00951, with the damping taken at z_{t-1}.
    """
    for name, value in (("dt", dt), ("gamma", gamma), ("epsilon", epsilon)):
        check_positive(name, value)
    H = hidden_size
    init = affine_init(recurrent_init, input_init, (H, 2 * H), H, dtype)

    def pointwise(_: Any, state: OscillatorState, a: Array) -> tuple[OscillatorState, Array]:
        with jax.named_scope("z"):
            z = state.z + dt * (jnp.tanh(a) - gamma * state.y - epsilon * state.z)
        with jax.named_scope("y"):
            y = state.y + dt * z
        return OscillatorState(y=y, z=z), y

    y_and_z = lambda _, state: jnp.concatenate([state.y, state.z], axis=-1)
    structure = Structure(
        U=lambda params: params.U,
        drive=lambda params, Ux: (Ux + params.b,),
        products=(Product(lambda params: params.W, y_and_z),),
        pointwise=pointwise,
        unitwise=True,
    )
    start = zero_state(H, state=lambda zeros: OscillatorState(y=zeros, z=zeros))
    return structured(init, start, structure)
