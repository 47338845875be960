"""Networks with a time constant: leaky integrators and their continuous-time form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell
from rnn_jax.cells._gated import gated
from rnn_jax.cells.activations import ActivationLike, activation_of
from rnn_jax.cells.initializers import gaussian, orthogonal
from rnn_jax.cells.maker import maker
from rnn_jax.errors import check_number, check_positive, invalid, is_traced
from rnn_jax.types import Array, Initializer


@maker
def leaky(
    hidden_size: int,
    leak: float = 0.1,
    activation: ActivationLike = "tanh",
    *,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return leaky integrator units around Elman's network.

    .. math:: h_t = (1 - \alpha) h_{t-1} + \alpha\, \varphi(b + W h_{t-1} + U x_t), \qquad y_t = h_t

    Args:
      hidden_size: number of units, H.
      leak: leak rate, α in (0, 1]; 1 is `elman`, and 1/α is the time constant in steps.
      activation: φ, a name of `ACTIVATIONS`, an elementwise function, or an `Activation`.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, a leak outside (0, 1], an unknown
        activation, an input that does not fit U.

    Reference: Jaeger, Lukoševičius, Popovici and Siewert, Optimization and applications of echo
    state networks with leaky-integrator neurons (2007).
    """
    phi = activation_of("activation", activation, dtype).phi
    check_number("leak", leak, above=0, most=1, remedy="Pass 1 for a network without leak.")

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("h"):
            h = (1 - leak) * h + leak * phi(a)
        return h, h

    return gated(
        hidden_size,
        1,
        pointwise,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )


@maker
def continuous_time(
    hidden_size: int,
    activation: ActivationLike = "tanh",
    *,
    dt: float = 0.1,
    tau: float = 1.0,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the rate network of theoretical neuroscience, by Euler's method.

    .. math::
        \tau \dot h = -h + W \varphi(h) + U x + b, \qquad
        h_t = h_{t-1} + \tfrac{dt}{\tau} (-h_{t-1} + W \varphi(h_{t-1}) + U x_t + b), \qquad
        y_t = \varphi(h_t)

    With dt = τ it is `elman_preactivation`.

    Args:
      hidden_size: number of units, H.
      activation: φ, a name of `ACTIVATIONS`, an elementwise function, or an `Activation`.
      dt: length of a step, in the unit of time of `tau`.
      tau: time constant, τ, at least dt.
      recurrent_init, input_init, dtype: see `gated`.

    Returns:
      A Cell with state h `[*batch, H]`, initially zero.

    Raises:
      ValueError: a hidden size that is not a positive integer, times that are not positive or a
        step longer than τ, an unknown activation, an input that does not fit U.

    References: Sompolinsky, Crisanti and Sommers, Chaos in random neural networks (1988); Funahashi
    and Nakamura, Approximation of dynamical systems by continuous time recurrent neural networks
    (1993).
    """
    phi = activation_of("activation", activation, dtype).phi
    check_positive("dt", dt)
    check_positive("tau", tau)
    if not is_traced(dt) and not is_traced(tau) and dt > tau:
        raise invalid("dt", dt, f"at most tau = {tau}", "A longer step overshoots the fixed point.")
    rate = dt / tau

    def pointwise(h: Array, a: Array) -> tuple[Array, Array]:
        with jax.named_scope("h"):
            h = h + rate * (a - h)
        with jax.named_scope("y"):
            return h, phi(h)

    return gated(
        hidden_size,
        1,
        pointwise,
        fed_back=phi,
        recurrent_init=recurrent_init,
        input_init=input_init,
        dtype=dtype,
        unitwise=True,
    )
