"""Sensitivity and duration of memories: a linear unit, and an LSTM's forget gate."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory.arguments import numbers, within
from rnn_jax.theory.gaussian import gaussian_mean
from rnn_jax.types import Array


def linear_state_power(factor: ArrayLike) -> Array:
    """Return E[h²] = 1 / (1 − λ²) of h ← λ h + x, x white and of variance 1, for `λ [...]`.

    Raises:
      ValueError: no number; |λ| ≥ 1, where h has no stationary distribution, outside `jit` (inside,
        the power is NaN).

    Reference: Zucchet and Orvieto, Recurrent neural networks: vanishing and exploding gradients
    are not the end of the story (2024), arXiv 2405.21064.
    """
    return 1 / _left(_factor(factor))


def linear_sensitivity_power(factor: ArrayLike) -> Array:
    """Return E[(∂h/∂λ)²] = (1 + λ²) / (1 − λ²)³ of the same unit: `[...]`.

    It grows without bound as λ → 1, though ∂h_t/∂h_k = λ^(t−k) never exceeds 1. Errors and
    reference: as for `linear_state_power`.
    """
    factor = _factor(factor)
    return (1 + factor**2) / _left(factor) ** 3


def normalized_sensitivity_power(factor: ArrayLike) -> Array:
    r"""Return E[(γ ∂h/∂ν)²] with λ = exp(−e^ν) and γ = √(1 − λ²), held constant: `[...]`.

    .. math:: \lambda^2 \ln^2 \lambda \, (1 + \lambda^2) / (1 - \lambda^2)^2

    This is `linear_sensitivity_power` with the input normalization and the exponential
    parametrization of `cells.lru`; as λ → 1 it tends to a half. 0 at λ = 0, the limit.

    Raises:
      ValueError: no number; a λ that is not in [0, 1), outside `jit` (inside, NaN).
    """
    (factor,) = numbers(factor=factor)
    factor = within("factor", factor, least=0, below=1)
    # E[(γ ∂h/∂ν)²] = (1 − λ²) (∂λ/∂ν)² E[(∂h/∂λ)²], ∂λ/∂ν = λ ln λ.
    slope = jnp.where(factor > 0, factor * jnp.log(jnp.where(factor > 0, factor, 1)), 0 * factor)
    return (slope / _left(factor)) ** 2 * (1 + factor**2)


def forget_rate(bias: ArrayLike, variance: ArrayLike = 0.0) -> Array:
    r"""Return ⟨ln σ(b + √q z)⟩: `[...]`, nats per step of ln ∏ f_i along an LSTM's memory c.

    A forget gate with pre-activations N(b, q) keeps this much, for a typical unit; a constant gate,
    q = 0, keeps ln σ(b). −1 / rate is the horizon: steps until 1/e is left.

    Args:
      bias: mean of the pre-activations, b `[...]`.
      variance: their variance over units and time, q.

    Raises:
      ValueError: no number; a negative or infinite variance, outside `jit` (inside, the rate is
        NaN).
    """
    b, q = numbers(bias=bias, variance=variance)
    return gaussian_mean(jax.nn.log_sigmoid, within("variance", q, least=0), b)


def _factor(factor: Any):
    (factor,) = numbers(factor=factor)
    return within("factor", factor, above=-1, below=1)


def _left(factor: Any):
    """Return 1 − λ²."""
    # As a product: of 1 − λ² with λ near 1, the rounding of λ² would be the larger part.
    return (1 - factor) * (1 + factor)
