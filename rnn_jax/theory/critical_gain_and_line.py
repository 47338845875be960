"""The critical line χ = 1 between order and chaos, in mean-field theory."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory._mean_field import _drives, _phi, _square
from rnn_jax.theory.arguments import Elementwise, numbers, within
from rnn_jax.theory.fixed_points import TOLERANCE
from rnn_jax.theory.gaussian import derivative, mean_over
from rnn_jax.theory.quadrature import ONE, OTHER_ONE
from rnn_jax.types import Array

HALVINGS = 128


def critical_line(q: ArrayLike, activation: str | Elementwise = "tanh") -> tuple[Array, Array]:
    r"""Return the critical line χ = 1 as a curve: (σ_w, √(σ_b² + σ_u²)) for each `q [...]`.

    .. math::
        \sigma_w^2 = 1 / \langle \varphi'^2 \rangle, \qquad
        \sigma_b^2 + \sigma_u^2 = q - \langle \varphi^2 \rangle / \langle \varphi'^2 \rangle

    Bias and input enter as the sum of their variances. The second is NaN where no drive gives that
    q, both are where two quadratures of φ'² differ (see `gaussian_mean`).

    Raises:
      ValueError: an unknown activation; a q that is negative or infinite, outside `jit`.
    """
    phi = _phi(activation)
    (q,) = numbers(q=q)
    return _critical_line(phi, within("q", q, least=0))


@functools.partial(jax.jit, static_argnums=0)
def _critical_line(phi: Callable[[Array], Array], q: Array):
    sigma_w, drive_variance = _critical(phi, q)
    again = _critical(phi, q, OTHER_ONE)[0]
    right = jnp.abs(sigma_w - again) <= TOLERANCE[q.dtype.itemsize] * sigma_w
    sigma_w = jnp.where(right & jnp.isfinite(sigma_w), sigma_w, jnp.nan)
    drive_variance = jnp.where(jnp.isnan(sigma_w), jnp.nan, drive_variance)
    # q − ⟨φ²⟩/⟨φ'²⟩ is zero for a rectifier at any q, and rounded to either side of it: to zero, or
    # to a root that is NaN.
    rounding = 8 * jnp.finfo(q.dtype).eps * q
    drive_variance = jnp.where(jnp.abs(drive_variance) <= rounding, 0, drive_variance)
    return sigma_w, jnp.sqrt(drive_variance)


@flax.struct.dataclass
class CriticalPoint:
    """The point of the critical line for one drive; every field `[...]`.

    Attributes:
      weight_std: the gain σ_w at which χ = 1.
      q: the length there.
      converged: whether there is such a gain and it is right to 1e-6 in float64, 1e-3 in float32.
    """

    weight_std: Array
    q: Array
    converged: Array


def critical_gain(
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Elementwise = "tanh",
) -> CriticalPoint:
    """Return the gain σ_w at which χ = 1 for this bias and input: chaos is above, order below.

    For tanh with neither it is 1; a bias or an input moves it up. Solved by bisection in q, to
    rounding; `converged` is False where `critical_line` has no such point (relu).

    Raises:
      ValueError: as for `mean_field`.
    """
    phi = _phi(activation)
    return _critical_gain(phi, *_drives(bias_std=bias_std, input_std=input_std))


@functools.partial(jax.jit, static_argnums=0)
def _critical_gain(phi: Callable[[Array], Array], sigma_b: Array, sigma_u: Array):
    # Along the line the drive grows with q, so that there is one q for a drive. Bisection, not
    # Newton's method: without drive the root for tanh is q = 0, where the drive on the line is
    # flat, 4/3 q³. 128 halvings reach 1e-36 from above, or the spacing of floats elsewhere.
    drive_variance = sigma_b**2 + sigma_u**2
    excess = lambda q: _critical(phi, q)[1] - drive_variance

    def bisect(excess: Any, start: Array):
        def halve(_: Any, bracket: Any):
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


def _is_critical(phi: Callable[[Array], Array], q: Array, drive_variance: Array):
    """Return whether the error of q moves σ_w by no more than `TOLERANCE`."""
    # The drive is off by `left`, rounding included, q so by left / |slope| but by no more than q,
    # and σ_w by its own slope times that. At q = 0 the slope is zero, and it is q that limits.
    at = lambda q, rule=ONE: _critical(phi, q, rule)
    (sigma_w, drive), (by_q, slope) = jax.jvp(at, (q,), (jnp.ones_like(q),))
    sigma_w_again, drive_again = at(q, OTHER_ONE)
    left = jnp.maximum(jnp.abs(drive - drive_variance), jnp.abs(drive_again - drive_variance))
    off = jnp.minimum((left + 8 * jnp.finfo(q.dtype).eps * q) / jnp.abs(slope), q)
    error = jnp.abs(by_q) * off + jnp.abs(sigma_w - sigma_w_again)
    return error <= TOLERANCE[q.dtype.itemsize] * sigma_w


def _passes(phi: Callable[[Array], Array], drive_variance: Array):
    """Return whether φ's critical line passes this drive, rather than having it at every q."""
    far = _far(drive_variance)
    return _critical(phi, far)[1] > drive_variance + jnp.finfo(far.dtype).eps * 32 * far


def _far(drive_variance: Array):
    """Return a q beyond that of the critical line."""
    # For φ bounded by 1 with a bounded slope, ⟨φ²⟩/⟨φ'²⟩ grows as √q, so that the drive at this q
    # is above the drive asked for.
    return 1000 + 2 * drive_variance


def _critical(phi: Callable[[Array], Array], q: Array, rule: Any = ONE):
    """Return (σ_w, σ_b² + σ_u²) at which q is a fixed point with χ = 1."""
    squared_slope = mean_over(rule, _square(derivative(phi)), q, None)
    return squared_slope**-0.5, q - mean_over(rule, _square(phi), q, None) / squared_slope
