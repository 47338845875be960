r"""What a wide Elman network does to lengths, angles and gradients, from three numbers.

.. math::
    h_t = W \varphi(h_{t-1}) + U x_t + b, \qquad
    W_{ij} \sim N(0, \sigma_w^2 / N), \quad b_i \sim N(0, \sigma_b^2), \quad
    (U x_t)_i \sim N(0, \sigma_u^2)

with inputs that are new at every step. As N → ∞ the units are Gaussian, of variance q and, for
two trajectories of one network, of covariance c:

.. math::
    q \leftarrow \sigma_w^2 \langle \varphi(u)^2 \rangle + \sigma_b^2 + \sigma_u^2, \qquad
    c \leftarrow \sigma_w^2 \langle \varphi(u) \varphi(v) \rangle + \sigma_b^2 + \rho_u \sigma_u^2

Both hold for one W that stays the same at every step: variance and covariance at one time depend
on those at the time before alone. A small difference between two trajectories with the same
inputs grows in squared norm by χ = σ_w² ⟨φ'²⟩ a step. The post-activation network has the same
pre-activations, and the same exponents.

References: Sompolinsky, Crisanti and Sommers, Chaos in random neural networks (1988); Molgedey,
Schuchhardt and Schuster, Suppressing chaos in neural networks by noise (1992); Poole et al.,
Exponential expressivity in deep neural networks through transient chaos (2016, arXiv 1606.05340).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.cells.activations import ACTIVATIONS
from rnn_jax.errors import choose
from rnn_jax.theory.gaussian import Pointwise, derivative, gaussian_mean, gaussian_pair_mean
from rnn_jax.types import Array

ITERATIONS = 128

LOG_DERIVATIVE: dict[str, Pointwise] = {
    # ln φ' where φ' itself underflows: −2 ln cosh x, and ln σ(x) + ln σ(−x).
    "tanh": lambda x: 2 * (math.log(2) - jnp.logaddexp(x, -x)),
    "sigmoid": lambda x: jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x),
}


@flax.struct.dataclass
class MeanField:
    """The fixed point of the length, and what follows for gradients; every field `[...]`.

    Attributes:
      q: the variance of a unit's pre-activation.
      chi: σ_w² ⟨φ'²⟩, the factor a step of the squared norm of a small difference, and of a
        gradient. Below 1 order and vanishing, above 1 chaos and explosion.
      largest_exponent: λ₁ = ½ ln χ, nats per step.
      mean_exponent: of all N Lyapunov exponents, ⟨ln |φ'|⟩ + ln σ_w − ½, nats per step; -inf for
        relu, half of whose units have no derivative.
      time_scale: ξ = −1 / ln χ, steps in which the squared norm falls by e; negative where it
        grows, infinite on the critical line.
      converged: whether q solves its equation to rounding and is stable and isolated. False for a
        length that diverges (relu at σ_w² ≥ 2) and at a bifurcation (tanh at σ_w = 1 with neither
        bias nor input); do not use the other fields there.
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
    activation: str | Pointwise = "tanh",
) -> MeanField:
    """The wide network at its fixed point of the length, q = σ_w² ⟨φ²⟩ + σ_b² + σ_u².

    Differentiable (through the fixed point's equation) in the three numbers, which may be arrays.

    Args:
      weight_std: σ_w, the gain g: √N times the standard deviation of an entry of W.
      bias_std: σ_b, of an entry of b.
      input_std: σ_u, of an entry of U x_t; at each step new and independent.
      activation: φ, one of `ACTIVATIONS` or a function, number by number.

    Raises:
      ValueError: an unknown activation.
    """
    phi = _phi(activation)
    sigma_w, sigma_b, sigma_u = same_dtype(weight_std, bias_std, input_std)
    q, converged = _length(phi, sigma_w, sigma_b, sigma_u)
    chi = sigma_w**2 * gaussian_mean(_square(derivative(phi)), q)
    log_chi = jnp.log(chi)
    log_derivative = LOG_DERIVATIVE.get(activation) if isinstance(activation, str) else None
    log_derivative = log_derivative or (lambda x: jnp.log(jnp.abs(derivative(phi)(x))))
    return MeanField(
        q=q,
        chi=chi,
        largest_exponent=0.5 * log_chi,
        mean_exponent=gaussian_mean(log_derivative, q) + jnp.log(sigma_w) - 0.5,
        time_scale=-1 / log_chi,
        converged=converged,
    )


@flax.struct.dataclass
class Correlation:
    """Where two trajectories of one network settle; every field `[...]`.

    Attributes:
      c: the correlation of their pre-activations, from 0 to 1; 1 where both die out (q = 0).
      slope: σ_w² ⟨φ'(u) φ'(v)⟩, the factor a step of a small distance from c.
      time_scale: −1 / ln slope, steps in which that distance falls by e.
      converged: as for `MeanField`, of the length and of c.
    """

    c: Array
    slope: Array
    time_scale: Array
    converged: Array


def correlation(
    weight_std: ArrayLike,
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Pointwise = "tanh",
    *,
    input_correlation: ArrayLike = 1.0,
) -> Correlation:
    """The correlation that two trajectories with different starts come to, from unrelated starts.

    With the same inputs (`input_correlation` 1) it is 1 in the ordered phase, where the network
    forgets its start, and below 1 in the chaotic one. With inputs of correlation 0 it is also the
    autocorrelation of one trajectory, at any lag.

    The other arguments and the errors are those of `mean_field`.
    """
    phi = _phi(activation)
    sigma_w, sigma_b, sigma_u, rho_u = same_dtype(
        weight_std, bias_std, input_std, input_correlation
    )
    q, length_converged = _length(phi, sigma_w, sigma_b, sigma_u)
    shared = sigma_b**2 + rho_u * sigma_u**2

    def next_covariance(c):
        return sigma_w**2 * gaussian_pair_mean(phi, q, c) + shared

    # The map is convex in c ≥ 0: from below, Newton's steps end at the first fixed point, which is
    # the stable one.
    c, converged = fixed_point(next_covariance, jnp.zeros_like(q), q, q)
    slope = sigma_w**2 * gaussian_pair_mean(derivative(phi), q, c)
    dead = q == 0
    return Correlation(
        c=jnp.where(dead, 1, c / jnp.where(dead, 1, q)),
        slope=slope,
        time_scale=-1 / jnp.log(slope),
        converged=length_converged & converged,
    )


def critical_line(q: ArrayLike, activation: str | Pointwise = "tanh") -> tuple[Array, Array]:
    r"""Where order meets chaos, χ = 1, as a curve: (σ_w, √(σ_b² + σ_u²)) for each `q [...]`.

    .. math::
        \sigma_w^2 = 1 / \langle \varphi'^2 \rangle, \qquad
        \sigma_b^2 + \sigma_u^2 = q - \langle \varphi^2 \rangle / \langle \varphi'^2 \rangle

    Bias and input enter as the sum of their variances. NaN where no drive gives that q.

    Raises:
      ValueError: an unknown activation.
    """
    (q,) = same_dtype(q)
    sigma_w, drive_variance = _critical(_phi(activation), q)
    # What is left of zero by rounding is zero.
    rounding = 8 * jnp.finfo(q.dtype).eps * q
    drive_variance = jnp.where(jnp.abs(drive_variance) <= rounding, 0, drive_variance)
    return sigma_w, jnp.sqrt(drive_variance)


@flax.struct.dataclass
class CriticalPoint:
    """`weight_std`, the gain at which χ = 1, and its `q`; `converged` says whether there is one."""

    weight_std: Array
    q: Array
    converged: Array


def critical_gain(
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Pointwise = "tanh",
) -> CriticalPoint:
    """The gain σ_w at which χ = 1 for this bias and input: chaos is above, order below.

    For tanh with neither it is 1; a bias or an input moves it up. Solved by bisection in q, to
    rounding; `converged` is False where the curve of `critical_line` does not pass (relu).

    Raises:
      ValueError: an unknown activation.
    """
    phi = _phi(activation)
    sigma_b, sigma_u = same_dtype(bias_std, input_std)
    drive_variance = sigma_b**2 + sigma_u**2
    excess = lambda q: _critical(phi, q)[1] - drive_variance

    def bisect(excess, start):
        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            above = excess(middle) >= 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        highest = 100 + 2 * drive_variance
        _, high = jax.lax.fori_loop(0, ITERATIONS, halve, (start, highest))
        return high

    start = jnp.zeros_like(drive_variance)
    q = jax.lax.custom_root(excess, start, bisect, lambda g, y: y / g(jnp.ones_like(y)))
    left = jnp.abs(excess(q))
    rounding = 32 * jnp.finfo(q.dtype).eps * (q + drive_variance + 1)
    return CriticalPoint(_critical(phi, q)[0], q, (left <= rounding) & _passes(phi, drive_variance))


def _passes(phi, drive_variance):
    """Whether the critical line of φ reaches this drive, and not along its whole length."""
    far = 100 + 2 * drive_variance
    return _critical(phi, far)[1] > drive_variance + jnp.finfo(far.dtype).eps * 32 * far


def _critical(phi, q):
    """(σ_w, σ_b² + σ_u²) at which q is a fixed point with χ = 1."""
    squared_slope = gaussian_mean(_square(derivative(phi)), q)
    return squared_slope**-0.5, q - gaussian_mean(_square(phi), q) / squared_slope


def _length(phi, sigma_w, sigma_b, sigma_u):
    """The fixed point q, and whether it is one."""
    drive = sigma_b**2 + sigma_u**2

    def next_length(q):
        return sigma_w**2 * gaussian_mean(_square(phi), q) + drive

    start, zero = sigma_w**2 + drive, jnp.zeros_like(drive)
    q, converged = fixed_point(next_length, start, zero + jnp.inf, zero)
    # Below this, with neither bias nor input, the network dies out.
    return jnp.where(q < jnp.finfo(q.dtype).tiny ** 0.5, 0 * q, q), converged


def fixed_point(
    function: Callable[[Array], Array], start: Array, highest: Array, scale: Array
) -> tuple[Array, Array]:
    """x = F(x) in [0, highest], number by number, by Newton's method; and whether it was found.

    Where F rises by 1 or more a step x ← F(x) is taken instead, so that an unstable fixed point is
    left behind. Found means that the equation holds to rounding, of x or of `scale`, and that F
    rises by less than 1.
    """

    def newton(residual, start):
        def step(carry):
            x, _, n = carry
            r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
            x_next = x - jnp.where(slope < 0, r / jnp.where(slope < 0, slope, -1), -r)
            x_next = jnp.clip(x_next, 0, highest)
            return x_next, jnp.abs(x_next - x), n + 1

        def moving(carry):
            x, moved, n = carry
            return jnp.any(moved > jnp.finfo(x.dtype).eps * x) & (n < ITERATIONS)

        return jax.lax.while_loop(moving, step, (start, start + jnp.inf, 0))[0]

    residual = lambda x: function(x) - x
    solve_tangent = lambda g, y: y / g(jnp.ones_like(y))
    x = jax.lax.custom_root(residual, start, newton, solve_tangent)

    r, slope = jax.jvp(residual, (x,), (jnp.ones_like(x),))
    eps = jnp.finfo(x.dtype).eps
    converged = (
        (jnp.abs(r) <= 64 * eps * jnp.maximum(x, scale)) & (slope < -(eps**0.5)) & jnp.isfinite(x)
    )
    return x, jax.lax.stop_gradient(converged)


def _square(f: Pointwise) -> Pointwise:
    return lambda x: jnp.square(f(x))


def _phi(activation: str | Pointwise) -> Pointwise:
    if callable(activation):
        return activation
    return choose("activation", activation, ACTIVATIONS).phi


def same_dtype(*numbers: ArrayLike) -> list[Array]:
    """As floating arrays of one dtype and shape."""
    dtype = jnp.result_type(*numbers, float)
    return jnp.broadcast_arrays(*(jnp.asarray(number, dtype) for number in numbers))
