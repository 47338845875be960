"""Elman's networks: hidden-to-hidden recurrence, in the two forms that the literature uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cells.checks import check_input, check_size, choose
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Cell, Initializer, Recurrence


class Activation(NamedTuple):
    """φ and sup |φ'|."""

    phi: Callable[[Array], Array]
    sup_derivative: float


ACTIVATIONS = {
    "tanh": Activation(jnp.tanh, 1.0),
    "sigmoid": Activation(jax.nn.sigmoid, 0.25),
    "relu": Activation(jax.nn.relu, 1.0),
    "identity": Activation(lambda a: a, 1.0),
}


@flax.struct.dataclass
class ElmanParams:
    """`W [H, H]`, `U [H, I]`, `b [H]`."""

    W: Array
    U: Array
    b: Array


def elman(
    hidden_size: int,
    activation: str = "tanh",
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""The network of Elman (1990), post-activation.

    .. math::
        a_t = b + W h_{t-1} + U x_t, \qquad h_t = \varphi(a_t), \qquad y_t = h_t

    so that J_t = ∂h_t/∂h_{t-1} = diag[φ'(a_t)] W.

    Args:
      hidden_size: H.
      activation: φ, one of `ACTIVATIONS`.
      recurrent_init: draws W; `orthogonal(gain)` puts every singular value at `gain`.
      input_init: draws U. b starts at zero.
      dtype: of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, zero at the start.

    Raises:
      ValueError: a hidden size that is not a positive integer, an unknown activation, an input
        that does not fit U.

    Reference: Elman, Finding structure in time, Cognitive Science 14 (1990).
    """
    phi, sup_derivative = choose("activation", activation, ACTIVATIONS)

    def step(params: ElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        check_input(x, params.U)
        h = phi(params.b + matvec(params.W, h) + matvec(params.U, x))
        return h, h

    return _cell(hidden_size, step, sup_derivative, recurrent_init, input_init, dtype)


def elman_preactivation(
    hidden_size: int,
    activation: str = "tanh",
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""The pre-activation form, whose state is what `elman` calls a_t.

    .. math::
        h_t = b + W \varphi(h_{t-1}) + U x_t, \qquad y_t = \varphi(h_t)

    so that J_t = ∂h_t/∂h_{t-1} = W diag[φ'(h_{t-1})]. With the same parameters, and
    initial states with h^post = φ(h^pre), it gives the outputs and gradients of `elman`.

    The arguments and errors are those of `elman`. Departure: Pascanu et al. write the bias with
    U x_t and the lecture leaves it out; it starts at zero here.

    Reference: Pascanu, Mikolov and Bengio (2013), arXiv 1211.5063, equation 2.
    """
    phi, sup_derivative = choose("activation", activation, ACTIVATIONS)

    def step(params: ElmanParams, h: Array, x: Array) -> tuple[Array, Array]:
        check_input(x, params.U)
        h = params.b + matvec(params.W, phi(h)) + matvec(params.U, x)
        return h, phi(h)

    return _cell(hidden_size, step, sup_derivative, recurrent_init, input_init, dtype)


def _cell(H, step, sup_derivative, recurrent_init, input_init, dtype) -> Cell:
    check_size("hidden_size", H)

    def init(key, input_size):
        check_size("input_size", input_size, least=0)
        W_key, U_key = jax.random.split(key)
        return ElmanParams(
            W=recurrent_init(W_key, (H, H), dtype),
            U=input_init(U_key, (H, input_size), dtype),
            b=jnp.zeros(H, dtype),
        )

    def initial_state(params, batch=()):
        return jnp.zeros((*batch, H), params.W.dtype)

    def recurrence(params):
        return Recurrence(params.W, sup_derivative)

    return Cell(init, initial_state, step, recurrence)
