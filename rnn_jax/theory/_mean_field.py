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

import functools
import math

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.cells.activations import ACTIVATIONS
from rnn_jax.errors import choose
from rnn_jax.theory.arguments import Pointwise, check_pointwise, numbers, within
from rnn_jax.theory.fixed_points import TOLERANCE, fixed_point, resolved
from rnn_jax.theory.gaussian import derivative, mean_over, pair_mean_over
from rnn_jax.theory.quadrature import ONE, OTHER_ONE, OTHER_PAIR, PAIR
from rnn_jax.types import Array

HALVINGS = 128

LOG_DERIVATIVE: dict[Pointwise, Pointwise] = {
    # ln φ' where φ' itself underflows: −2 ln cosh x, and ln σ(x) + ln σ(−x).
    ACTIVATIONS["tanh"].phi: lambda x: 2 * (math.log(2) - jnp.logaddexp(x, -x)),
    ACTIVATIONS["sigmoid"].phi: lambda x: jax.nn.log_sigmoid(x) + jax.nn.log_sigmoid(-x),
}


@flax.struct.dataclass
class MeanField:
    """The fixed point of the length, and what follows for gradients; every field `[...]`.

    Attributes:
      q: the variance of a unit's pre-activation.
      chi: σ_w² ⟨φ'²⟩, the factor a step of the squared norm of a small difference, and of a
        gradient. Below 1 order and vanishing, above 1 chaos and explosion. Where the network dies
        out, q = 0, it is what χ comes to on the way: σ_w²/2 for a rectifier.
      largest_exponent: λ₁ = ½ ln χ, nats per step.
      mean_exponent: of all N Lyapunov exponents, ⟨ln |φ'|⟩ + ln σ_w − ½, nats per step; -inf for
        relu, half of whose units have no derivative, and where φ' of a function of your own
        underflows.
      time_scale: ξ = −1 / ln χ, steps in which the squared norm falls by e; negative where it
        grows, infinite on the critical line.
      converged: whether q and χ are right to one part in a million in float64, in a thousand in
        float32: q solves its equation, is stable and isolated, and a second quadrature agrees.
        False for a length that diverges (relu at σ_w² ≥ 2), at a bifurcation (tanh at σ_w = 1 with
        neither bias nor input), for an activation with kinks elsewhere than at zero, for a χ that
        underflows unless σ_w = 0, and for NaN; do not use the other fields there.
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
    """Return what the wide network comes to: the fixed point q = σ_w² ⟨φ²⟩ + σ_b² + σ_u².

    Differentiable (through the fixed point's equation) in the three numbers, which may be arrays.

    Args:
      weight_std: σ_w, the gain g: √N times the standard deviation of an entry of W.
      bias_std: σ_b, of an entry of b.
      input_std: σ_u, of an entry of U x_t; at each step new and independent.
      activation: φ, one of `ACTIVATIONS` or a function, elementwise.

    Raises:
      ValueError: an unknown activation; a standard deviation that is negative or infinite, outside
        `jit` (inside, every field is NaN and `converged` False).
    """
    phi = _phi(activation)
    return _mean_field(phi, *_drives(weight_std=weight_std, bias_std=bias_std, input_std=input_std))


@functools.partial(jax.jit, static_argnums=0)
def _mean_field(phi, sigma_w, sigma_b, sigma_u):
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


@flax.struct.dataclass
class Correlation:
    """Where two trajectories of one network settle; every field `[...]`.

    Attributes:
      c: the correlation of their pre-activations, from −1 to 1; 1 where both die out (q = 0).
      slope: σ_w² ⟨φ'(u) φ'(v)⟩, the factor a step of a small distance from c.
      time_scale: −1 / ln slope, steps in which that distance falls by e.
      converged: whether the length is, as for `MeanField`, and c is right to one part in a million
        of 1 in float64, in a thousand in float32, and so is the slope: to one part of itself, or,
        where φ' changes its sign, of σ_w² ⟨|φ'(u)| |φ'(v)|⟩. False also where c is 1 and only just
        stable, and where a slope other than that of σ_w = 0 underflows.
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
    """Return the correlation that two trajectories come to from unrelated starts.

    With the same inputs (`input_correlation` 1) it is 1 in the ordered phase, where the network
    forgets its start, and below 1 in the chaotic one. With inputs of correlation 0 it is also the
    autocorrelation of one trajectory, at any lag.

    Args:
      weight_std, bias_std, input_std, activation: as for `mean_field`.
      input_correlation: ρ_u, of the two inputs at one step, from −1 to 1.

    Raises:
      ValueError: as for `mean_field`; an input_correlation outside [−1, 1], outside `jit`.
    """
    phi = _phi(activation)
    *drives, rho_u = numbers(
        weight_std=weight_std,
        bias_std=bias_std,
        input_std=input_std,
        input_correlation=input_correlation,
    )
    names = ("weight_std", "bias_std", "input_std")
    drives = [within(name, std, least=0) for name, std in zip(names, drives, strict=True)]
    return _correlation(phi, *drives, within("input_correlation", rho_u, least=-1, most=1))


@functools.partial(jax.jit, static_argnums=0)
def _correlation(phi, sigma_w, sigma_b, sigma_u, rho_u):
    q, length_converged = _length(phi, sigma_w, sigma_b, sigma_u)
    shared = sigma_b**2 + rho_u * sigma_u**2

    def next_covariance(c, rule=PAIR):
        return sigma_w**2 * pair_mean_over(rule, phi, phi, q, c) + shared

    # The map is convex in c ≥ 0: from below, Newton's steps end at the first fixed point, which is
    # the stable one.
    c, converged = fixed_point(
        next_covariance,
        functools.partial(next_covariance, rule=OTHER_PAIR),
        start=jnp.zeros_like(q),
        limits=(-q, q),
        scale=q,
    )
    dead = q == 0
    dphi = derivative(phi)
    slope, again = (
        sigma_w**2 * pair_mean_over(rule, dphi, dphi, q, c) for rule in (PAIR, OTHER_PAIR)
    )
    size = lambda x: jnp.abs(dphi(x))
    whole = sigma_w**2 * pair_mean_over(PAIR, size, size, q, c)
    right = resolved(slope, again, whole, zero=sigma_w == 0)
    return Correlation(
        c=jnp.where(dead, 1, c / jnp.where(dead, 1, q)),
        slope=slope,
        time_scale=-1 / jnp.log(slope),
        converged=length_converged & (converged | dead) & right,
    )


def critical_line(q: ArrayLike, activation: str | Pointwise = "tanh") -> tuple[Array, Array]:
    r"""Return where order meets chaos, χ = 1, as a curve: (σ_w, √(σ_b² + σ_u²)) for each `q [...]`.

    .. math::
        \sigma_w^2 = 1 / \langle \varphi'^2 \rangle, \qquad
        \sigma_b^2 + \sigma_u^2 = q - \langle \varphi^2 \rangle / \langle \varphi'^2 \rangle

    Bias and input enter as the sum of their variances. NaN where no drive gives that q, both NaN
    where two quadratures of φ'² differ (see `gaussian_mean` for the φ and q of which they don't).

    Raises:
      ValueError: an unknown activation; a q that is negative or infinite, outside `jit`.
    """
    phi = _phi(activation)
    (q,) = numbers(q=q)
    return _critical_line(phi, within("q", q, least=0))


@functools.partial(jax.jit, static_argnums=0)
def _critical_line(phi, q):
    sigma_w, drive_variance = _critical(phi, q)
    again = _critical(phi, q, OTHER_ONE)[0]
    right = jnp.abs(sigma_w - again) <= TOLERANCE[q.dtype.itemsize] * sigma_w
    sigma_w = jnp.where(right & jnp.isfinite(sigma_w), sigma_w, jnp.nan)
    drive_variance = jnp.where(jnp.isnan(sigma_w), jnp.nan, drive_variance)
    # What is left of zero by rounding is zero.
    rounding = 8 * jnp.finfo(q.dtype).eps * q
    drive_variance = jnp.where(jnp.abs(drive_variance) <= rounding, 0, drive_variance)
    return sigma_w, jnp.sqrt(drive_variance)


@flax.struct.dataclass
class CriticalPoint:
    """The point of the critical line for one drive; every field `[...]`.

    Attributes:
      weight_std: the gain σ_w at which χ = 1.
      q: the length there.
      converged: whether there is such a gain and it is right to one part in a million in float64,
        in a thousand in float32.
    """

    weight_std: Array
    q: Array
    converged: Array


def critical_gain(
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Pointwise = "tanh",
) -> CriticalPoint:
    """Return the gain σ_w at which χ = 1 for this bias and input: chaos is above, order below.

    For tanh with neither it is 1; a bias or an input moves it up. Solved by bisection in q, to
    rounding; `converged` is False where the curve of `critical_line` does not pass (relu).

    Raises:
      ValueError: as for `mean_field`.
    """
    phi = _phi(activation)
    return _critical_gain(phi, *_drives(bias_std=bias_std, input_std=input_std))


@functools.partial(jax.jit, static_argnums=0)
def _critical_gain(phi, sigma_b, sigma_u):
    drive_variance = sigma_b**2 + sigma_u**2
    excess = lambda q: _critical(phi, q)[1] - drive_variance

    def bisect(excess, start):
        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            above = excess(middle) >= 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        _, high = jax.lax.fori_loop(0, HALVINGS, halve, (start, _far(drive_variance)))
        return high

    start = jnp.zeros_like(drive_variance)
    q = jax.lax.custom_root(excess, start, bisect, lambda g, y: y / g(jnp.ones_like(y)))
    sigma_w, _ = _critical(phi, q)
    right = _is_critical(phi, q, drive_variance) & _passes(phi, drive_variance)
    return CriticalPoint(sigma_w, q, jax.lax.stop_gradient(right))


def _is_critical(phi, q, drive_variance):
    """Whether what q is off by, by rounding and quadrature, moves σ_w by no more than allowed."""
    at = lambda q, rule=ONE: _critical(phi, q, rule)
    (sigma_w, drive), (by_q, slope) = jax.jvp(at, (q,), (jnp.ones_like(q),))
    sigma_w_again, drive_again = at(q, OTHER_ONE)
    left = jnp.maximum(jnp.abs(drive - drive_variance), jnp.abs(drive_again - drive_variance))
    off = jnp.minimum((left + 8 * jnp.finfo(q.dtype).eps * q) / jnp.abs(slope), q)
    error = jnp.abs(by_q) * off + jnp.abs(sigma_w - sigma_w_again)
    return error <= TOLERANCE[q.dtype.itemsize] * sigma_w


def _passes(phi, drive_variance):
    """Whether the critical line of φ reaches this drive, and not along its whole length."""
    far = _far(drive_variance)
    return _critical(phi, far)[1] > drive_variance + jnp.finfo(far.dtype).eps * 32 * far


def _far(drive_variance):
    """A q beyond that of the critical line."""
    return 1000 + 2 * drive_variance


def _critical(phi, q, rule=ONE):
    """(σ_w, σ_b² + σ_u²) at which q is a fixed point with χ = 1."""
    squared_slope = mean_over(rule, _square(derivative(phi)), q, None)
    return squared_slope**-0.5, q - mean_over(rule, _square(phi), q, None) / squared_slope


def _length(phi, sigma_w, sigma_b, sigma_u):
    """The fixed point q, and whether it is one."""
    drive = sigma_b**2 + sigma_u**2

    def next_length(q, rule=ONE):
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


def _square(f: Pointwise) -> Pointwise:
    return lambda x: jnp.square(f(x))


def _phi(activation: str | Pointwise) -> Pointwise:
    if not callable(activation):
        return choose("activation", activation, ACTIVATIONS).phi
    check_pointwise("activation", activation, jax.dtypes.canonicalize_dtype(float))
    return activation


def _drives(**stds: ArrayLike) -> list[Array]:
    """The standard deviations as arrays, each at least 0."""
    return [within(name, std, least=0) for name, std in zip(stds, numbers(**stds), strict=True)]
