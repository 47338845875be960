"""Elman's networks: hidden-to-hidden recurrence, in the two forms that the literature uses."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells.activations import ActivationLike, activation_of
from rnn_jax.cells.initializers import gaussian, identity, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Params


@maker
def elman(
    hidden_size: int,
    activation: ActivationLike = "tanh",
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the network of Elman (1990), post-activation.

    .. math::
        a_t = b + W h_{t-1} + U x_t, \qquad h_t = \varphi(a_t), \qquad y_t = h_t

    so that J_t = ∂h_t/∂h_{t-1} = diag[φ'(a_t)] W.

    Args:
      hidden_size: number of units, H.
      activation: φ, a name of `ACTIVATIONS`, an elementwise function, or an `Activation`.
      recurrent_init: initializer of W; `orthogonal(gain)` puts every singular value at `gain`.
      input_init: initializer of U. b starts at zero.
      dtype: dtype of the parameters, and with them of the state.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, an unknown activation, an input
        that does not fit U.

    Reference: Elman, Finding structure in time, Cognitive Science 14 (1990).
    """
    W = lambda params: params.W
    return postactivation(hidden_size, activation, W, recurrent_init, input_init, dtype)


@maker
def elman_preactivation(
    hidden_size: int,
    activation: ActivationLike = "tanh",
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the pre-activation form, whose state is the a_t of `elman`.

    .. math::
        h_t = b + W \varphi(h_{t-1}) + U x_t, \qquad y_t = \varphi(h_t)

    so that J_t = ∂h_t/∂h_{t-1} = W diag[φ'(h_{t-1})]. With the same parameters, and
    initial states with h^post = φ(h^pre), it gives the outputs and gradients of `elman`.

    The arguments and errors are those of `elman`. Departure: Pascanu et al. write the bias with
    U x_t and the lecture leaves it out; it starts at zero here.

    Reference: Pascanu, Mikolov and Bengio (2013), arXiv 1211.5063, equation 2.
    """
    found = activation_of("activation", activation, dtype)

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("y"):
            return a, found.phi(a)

    return gated(
        hidden_size,
        1,
        pointwise,
        fed_back=found.phi,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        norm_bound_terms=found.norm_bound_terms(lambda params: params.W),
        unitwise=True,
    )


@maker
def irnn(
    hidden_size: int,
    *,
    scale: float = 1.0,
    input_init: Initializer = gaussian(0.001),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return Elman's network of rectified units that starts at the identity.

    .. math:: h_t = \max(0, b + W h_{t-1} + U x_t), \qquad W_0 = \mathrm{scale} \cdot I

    At the start, with scale 1 and no input, h_t = max(0, h_{t-1}): a state with no negative entry
    is carried through unchanged, and ∂h_t/∂h_{t-1} = I where its entries are positive. From h = 0,
    where the cell starts, the derivative of relu is 0, and nothing is passed back until inputs have
    made units positive. The other arguments and the errors are those of `elman`.

    Args:
      hidden_size: number of units, H.
      scale: initial diagonal of W; the paper takes 0.01 where long memory hinders, as in speech.
      input_init: initializer of U, N(0, 0.001²) in the paper.
      dtype: dtype of the parameters, and with them of the state.

    Reference: Le, Jaitly and Hinton, A simple way to initialize recurrent networks of rectified
    linear units (2015), arXiv 1504.00941.
    """
    recurrent_init = identity(scale)
    return elman(
        hidden_size, "relu", recurrent_init=recurrent_init, input_init=input_init, dtype=dtype
    )


def postactivation(
    hidden_size: int,
    activation: ActivationLike,
    matrix: Callable[[Params], Array],
    recurrent_init: Initializer,
    input_init: Initializer,
    dtype: DTypeLike,
) -> Cell:
    """Return h_t = φ(b + M h_{t-1} + U x_t), whose M is `matrix(params)`."""
    found = activation_of("activation", activation, dtype)

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("h"):
            h = found.phi(a)
        return h, h

    return gated(
        hidden_size,
        1,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        effective=matrix,
        norm_bound_terms=found.norm_bound_terms(matrix),
        unitwise=True,
    )
