"""Long expressive memory."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gates import split_gates
from rnn_jax.cells._two_products import two_products
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_positive
from rnn_jax.types import Array, Initializer


@flax.struct.dataclass
class LEMParams:
    """`W [3H, H]` in the order s r z, `W_y [H, H]`; `U [4H, I]`, `b [4H]` in the order s r z y."""

    W: Array
    W_y: Array
    U: Array
    b: Array


@flax.struct.dataclass
class LEMState:
    """`y`, the output, and `z`, which drives it, each `[*batch, H]`."""

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
      hidden_size: number of units, H.
      dt: largest time step, in (0, 1] for a stable one.
      recurrent_init, input_init, dtype: see `gated`; W_y is drawn as a gate of W is.

    Returns:
      A Cell with state (y, z), each `[*batch, H]`, zero at the start; y is its output.

    Raises:
      ValueError: a hidden size that is not a positive integer, a dt that is not positive, an input
        that does not fit U.

    Reference: Rusch, Mishra, Erichson and Mahoney, Long expressive memory for sequence modeling
    (2022), arXiv 2110.04744.
    """
    check_positive("dt", dt)

    def next_z(_: Any, state: LEMState, srz: Array) -> Array:
        s, _, a = split_gates(srz, 3)
        with jax.named_scope("s"):
            s = dt * jax.nn.sigmoid(s)
        with jax.named_scope("z"):
            return (1 - s) * state.z + s * jnp.tanh(a)

    def pointwise(_: Any, state: LEMState, srz: Array, a: Array) -> tuple[LEMState, Array]:
        with jax.named_scope("r"):
            r = dt * jax.nn.sigmoid(split_gates(srz, 3)[1])
        with jax.named_scope("y"):
            y = (1 - r) * state.y + r * jnp.tanh(a)
        return LEMState(y=y, z=next_z(_, state, srz)), y

    return two_products(
        hidden_size,
        3,
        next_z,
        pointwise,
        params_type=LEMParams,
        second="W_y",
        operand=lambda state: state.y,
        state=lambda zeros: LEMState(y=zeros, z=zeros),
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
    )
