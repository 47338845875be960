r"""Mean-field theory of a wide Elman network: lengths, angles and gradients from three numbers.

.. math::
    h_t = W \varphi(h_{t-1}) + U x_t + b, \qquad
    W_{ij} \sim N(0, \sigma_w^2 / N), \quad b_i \sim N(0, \sigma_b^2), \quad
    (U x_t)_i \sim N(0, \sigma_u^2)

with inputs that are independent at every step. As N → ∞ the units are Gaussian, of variance q and,
for two trajectories of one network, of covariance c:

.. math::
    q \leftarrow \sigma_w^2 \langle \varphi(u)^2 \rangle + \sigma_b^2 + \sigma_u^2, \qquad
    c \leftarrow \sigma_w^2 \langle \varphi(u) \varphi(v) \rangle + \sigma_b^2 + \rho_u \sigma_u^2

Both hold for tied weights, one W at every step: variance and covariance at one time depend only on
those at the time before. A small difference between two trajectories with the same inputs grows in
squared norm by χ = σ_w² ⟨φ'²⟩ per step. The post-activation network has the same pre-activations
and the same exponents.

References: Sompolinsky, Crisanti and Sommers, Chaos in random neural networks (1988); Molgedey,
Schuchhardt and Schuster, Suppressing chaos in neural networks by noise (1992); Poole et al.,
Exponential expressivity in deep neural networks through transient chaos (2016, arXiv 1606.05340).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.cells.activations import ACTIVATIONS
from rnn_jax.errors import choose
from rnn_jax.theory.arguments import Elementwise, check_elementwise, numbers, within
from rnn_jax.theory.fixed_points import fixed_point, resolved
from rnn_jax.theory.gaussian import derivative, mean_over
from rnn_jax.theory.quadrature import ONE, OTHER_ONE
from rnn_jax.types import Array

LOG_DERIVATIVE: dict[Elementwise, Elementwise] = {
    # ln φ' where φ' itself underflows: −2 ln cosh x, and ln σ(x) + ln σ(−x).
    ACTIVATIONS["tanh"].phi: lambda x: 2 * (math.log(2) - jnp.logaddexp(x, -x)),
    ACTIVATIONS["sigmoid"].phi: lambda x: jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x),
}


@flax.struct.dataclass
class MeanField:
    """The fixed point of the length, and the growth of gradients there; every field `[...]`.

    Attributes:
      q: the variance of a unit's pre-activation.
      chi: factor per step of the squared norm of a small difference, and of a gradient,
        χ = σ_w² ⟨φ'²⟩. Below 1 order and vanishing, above 1 chaos and explosion. Where the network
        dies out, q = 0, it is the limit of χ: σ_w²/2 for a rectifier.
      largest_exponent: largest Lyapunov exponent, λ₁ = ½ ln χ, nats per step.
      mean_exponent: mean of all N Lyapunov exponents, ⟨ln |φ'|⟩ + ln σ_w − ½, nats per step; -inf
        for relu, half of whose units have no derivative, and where a custom φ' underflows.
      time_scale: steps in which the squared norm falls by e, ξ = −1 / ln χ; negative where it
        grows, infinite on the critical line.
      converged: whether q and χ are right to 1e-6 in float64, 1e-3 in float32: q solves its
        equation, is stable and isolated, and a second quadrature agrees. False for a length that
        diverges (relu at σ_w² ≥ 2), at a bifurcation (tanh at σ_w = 1 with neither bias nor input),
        for an activation with kinks elsewhere than at zero, for a χ that underflows unless σ_w = 0,
        and for NaN; do not use the other fields there.
    """

    q: Array
    chi: Array
    largest_exponent: Array
    mean_exponent: Array
    time_scale: Array
    converged: Array


def mean_field(
    weight_std: ArrayLike,
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Elementwise = "tanh",
) -> MeanField:
    """Return the stationary state of the wide network: the fixed point q = σ_w² ⟨φ²⟩ + σ_b² + σ_u².

    Differentiable (through the fixed point's equation) in the three numbers, which may be arrays.

    Args:
      weight_std: the gain g, σ_w: √N times the standard deviation of an entry of W.
      bias_std: standard deviation of an entry of b, σ_b.
      input_std: standard deviation of an entry of U x_t, σ_u; independent at each step.
      activation: elementwise φ, one of `ACTIVATIONS` or a function.

    Raises:
      ValueError: an unknown activation; a standard deviation that is negative or infinite, outside
        `jit` (inside, every field is NaN and `converged` False).
    """
    phi = _phi(activation)
    return _mean_field(phi, *_drives(weight_std=weight_std, bias_std=bias_std, input_std=input_std))


@functools.partial(jax.jit, static_argnums=0)
def _mean_field(phi: Callable[[Array], Array], sigma_w: Array, sigma_b: Array, sigma_u: Array):
    q, converged = _length(phi, sigma_w, sigma_b, sigma_u)
    chi, again = (
        sigma_w**2 * mean_over(rule, _square(derivative(phi)), q, None) for rule in (ONE, OTHER_ONE)
    )
    right = resolved(chi, again, chi, zero=sigma_w == 0)
    log_chi = jnp.log(chi)
    log_derivative = LOG_DERIVATIVE.get(phi, lambda x: jnp.log(jnp.abs(derivative(phi)(x))))
    return MeanField(
        q=q,
        chi=chi,
        largest_exponent=0.5 * log_chi,
        mean_exponent=mean_over(ONE, log_derivative, q, None) + jnp.log(sigma_w) - 0.5,
        time_scale=-1 / log_chi,
        converged=converged & right,
    )


def _length(phi: Callable[[Array], Array], sigma_w: Array, sigma_b: Array, sigma_u: Array):
    """Return the fixed point q, and whether it is one."""
    # From σ_w² + drive, above all fixed points where |φ| ≤ 1, Newton's method falls to the largest
    # one, which is stable. From 0 it would stay at q = 0 of a tanh without drive, unstable for
    # σ_w > 1.
    drive = sigma_b**2 + sigma_u**2

    def next_length(q: Array, rule: Any = ONE):
        return sigma_w**2 * mean_over(rule, _square(phi), q, None) + drive

    zero = jnp.zeros_like(drive)
    q, converged = fixed_point(
        next_length,
        functools.partial(next_length, rule=OTHER_ONE),
        start=sigma_w**2 + drive,
        limits=(zero, zero + jnp.inf),
        scale=zero,
    )
    # Below this, with neither bias nor input, the network dies out.
    return jnp.where(q < jnp.finfo(q.dtype).tiny ** 0.5, 0 * q, q), converged


def _square(f: Elementwise) -> Elementwise:
    return lambda x: jnp.square(f(x))


def _phi(activation: str | Elementwise) -> Elementwise:
    if not callable(activation):
        return choose("activation", activation, ACTIVATIONS).phi
    check_elementwise("activation", activation, jax.dtypes.canonicalize_dtype(float))
    return activation


def _drives(**stds: ArrayLike) -> list[Array]:
    """Return the standard deviations as arrays, each at least 0."""
    return [within(name, std, least=0) for name, std in zip(stds, numbers(**stds), strict=True)]
