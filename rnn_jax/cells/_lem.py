"""Long expressive memory."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import split_blocks, structured
from rnn_jax.cells.initializers import gaussian, stacked
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive, check_size
from rnn_jax.types import Array, Initializer, Key, Params


@flax.struct.dataclass
class LEMParams:
    """`W [3H, H]` in the order s r z, `W_y [H, H]`; `U [4H, I]`, `b [4H]` in the order s r z y."""

    W: Array
    W_y: Array
    U: Array
    b: Array


@flax.struct.dataclass
class LEMState:
    """`y`, which is shown, and `z`, which drives it, `[*batch, H]`."""

    y: Array
    z: Array


@maker
def lem(
    hidden_size: int,
    *,
    dt: float = 1.0,
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return two coupled layers of units, each with a time step that input and state choose.

    .. math::
        s, r = dt\,\sigma(U x_t + W y_{t-1} + b), \\
        z_t = (1 - s) \odot z_{t-1} + s \odot \tanh(U_z x_t + W_z y_{t-1} + b_z), \\
        y_t = (1 - r) \odot y_{t-1} + r \odot \tanh(U_y x_t + W_y z_t + b_y)

    Args:
      hidden_size: H.
      dt: the largest time step, in (0, 1] for a stable step.
      recurrent_init: draws W_y and each block of W.
      input_init: draws each block of U. b starts at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state (y, z), each `[*batch, H]`, zero at the start; y is its output.

    Raises:
      ValueError: a hidden size that is not a positive integer, a dt that is not positive, an input
        that does not fit U.

    Reference: Rusch, Mishra, Erichson and Mahoney, Long expressive memory for sequence modeling
    (2022), arXiv 2110.04744.
    """
    check_size("hidden_size", hidden_size)
    check_positive("dt", dt)
    H = hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, y_key, U_key = jax.random.split(key, 3)
        return LEMParams(
            W=stacked(recurrent_init, 3)(W_key, (3 * H, H), dtype),
            W_y=recurrent_init(y_key, (H, H), dtype),
            U=stacked(input_init, 4)(U_key, (4 * H, input_size), dtype),
            b=jnp.zeros(4 * H, dtype),
        )

    def initial_state(params: Params, batch: Any = ()):
        zeros = jnp.zeros((*batch, H), params.W.dtype)
        return LEMState(y=zeros, z=zeros)

    def drive(params: LEMParams, Ux: Array) -> tuple[Array, ...]:
        return tuple(jax.lax.split(Ux + params.b, [3 * H, H], axis=Ux.ndim - 1))

    def next_z(_: Any, state: LEMState, srz: Array) -> Array:
        s, _, a = split_blocks(srz, 3)
        s = dt * jax.nn.sigmoid(s)
        return (1 - s) * state.z + s * jnp.tanh(a)

    def pointwise(_: Any, state: LEMState, srz: Array, a: Array) -> tuple[LEMState, Array]:
        r = dt * jax.nn.sigmoid(split_blocks(srz, 3)[1])
        y = (1 - r) * state.y + r * jnp.tanh(a)
        return LEMState(y=y, z=next_z(_, state, srz)), y

    products = (
        Product(lambda params: params.W, lambda _, state: state.y),
        Product(lambda params: params.W_y, next_z),
    )
    structure = Structure(lambda params: params.U, drive, products, pointwise, unitwise=True)
    return structured(init, initial_state, structure)
