"""Mean-field correlation of two trajectories of one network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory._mean_field import _length, _phi
from rnn_jax.theory.arguments import Elementwise, numbers, within
from rnn_jax.theory.fixed_points import fixed_point, resolved
from rnn_jax.theory.gaussian import derivative, pair_mean_over
from rnn_jax.theory.quadrature import OTHER_PAIR, PAIR
from rnn_jax.types import Array


@flax.struct.dataclass
class Correlation:
    """The stationary correlation of two trajectories of one network; every field `[...]`.

    Attributes:
      c: correlation of their pre-activations, from −1 to 1; 1 where both die out (q = 0).
      slope: factor per step of a small distance from c, σ_w² ⟨φ'(u) φ'(v)⟩.
      time_scale: steps in which that distance falls by e, −1 / ln slope.
      converged: whether the length is, as for `MeanField`, and c is right to 1e-6 in float64, 1e-3
        in float32, and the slope to as much of itself or, where φ' changes its sign, of
        σ_w² ⟨|φ'(u)| |φ'(v)|⟩. False also where c is 1 and only just stable, and where a slope
        other than that of σ_w = 0 underflows.
    """

    c: Array
    slope: Array
    time_scale: Array
    converged: Array


def correlation(
    weight_std: ArrayLike,
    bias_std: ArrayLike = 0.0,
    input_std: ArrayLike = 0.0,
    activation: str | Elementwise = "tanh",
    *,
    input_correlation: ArrayLike = 1.0,
) -> Correlation:
    """Return the stationary correlation of two trajectories with unrelated initial states.

    With the same inputs (`input_correlation` 1) it is 1 in the ordered phase, where the network
    forgets its start, and below 1 in the chaotic one. With inputs of correlation 0 it is also the
    autocorrelation of one trajectory, at any lag.

    Args:
      weight_std, bias_std, input_std, activation: as for `mean_field`.
      input_correlation: correlation of the two inputs at one step, ρ_u, from −1 to 1.

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
def _correlation(
    phi: Callable[[Array], Array], sigma_w: Array, sigma_b: Array, sigma_u: Array, rho_u: Any
):
    q, length_converged = _length(phi, sigma_w, sigma_b, sigma_u)
    shared = sigma_b**2 + rho_u * sigma_u**2

    def next_covariance(c: Array, rule: Any = PAIR):
        return sigma_w**2 * pair_mean_over(rule, phi, phi, q, c) + shared

    # The map is convex in c ≥ 0, for ⟨φ φ⟩ is a power series in c/q with coefficients ≥ 0. From 0
    # Newton's steps then rise to the first fixed point and never pass it. That is the stable one:
    # the map comes from above the diagonal there, and crosses it with a slope below 1. c = q is
    # always a fixed point for equal inputs; starting at it would say "ordered" in chaos, too.
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
    # A slope ⟨φ' φ'⟩ may be a small difference of large parts, of which no digit is certain; two
    # quadratures of it are compared on the scale of ⟨|φ'| |φ'|⟩.
    size = lambda x: jnp.abs(dphi(x))
    whole = sigma_w**2 * pair_mean_over(PAIR, size, size, q, c)
    right = resolved(slope, again, whole, zero=sigma_w == 0)
    return Correlation(
        c=jnp.where(dead, 1, c / jnp.where(dead, 1, q)),
        slope=slope,
        time_scale=-1 / jnp.log(slope),
        converged=length_converged & (converged | dead) & right,
    )
