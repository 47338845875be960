"""What a memory costs, and how long one lasts: a linear unit, and an LSTM's forget gate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory.gaussian import gaussian_mean
from rnn_jax.types import Array


def linear_state_power(factor: Array) -> Array:
    """E[h²] = 1 / (1 − λ²) of h ← λ h + x with white x of variance 1, |λ| < 1: `[...]`.

    Reference: Zucchet and Orvieto, Recurrent neural networks: vanishing and exploding gradients
    are not the end of the story (2024), arXiv 2405.21064.
    """
    return 1 / (1 - factor**2)


def linear_sensitivity_power(factor: Array) -> Array:
    """E[(∂h/∂λ)²] = (1 + λ²) / (1 − λ²)³ of the same unit: `[...]`.

    It grows without bound as λ → 1, though ∂h_t/∂h_k = λ^(t−k) never exceeds 1. Reference: as for
    `linear_state_power`.
    """
    return (1 + factor**2) / (1 - factor**2) ** 3


def normalized_sensitivity_power(factor: Array) -> Array:
    r"""E[(γ ∂h/∂ν)²] with λ = exp(−e^ν) and γ = √(1 − λ²), held constant: `[...]`.

    .. math:: \lambda^2 \ln^2 \lambda \, (1 + \lambda^2) / (1 - \lambda^2)^2

    What input normalization and the exponential parametrization of `cells.lru` leave of
    `linear_sensitivity_power` on the way to λ = 1: a half.
    """
    # E[(γ ∂h/∂ν)²] = (1 − λ²) (∂λ/∂ν)² E[(∂h/∂λ)²], ∂λ/∂ν = λ ln λ.
    slope = factor * jnp.log(factor)
    return (1 - factor**2) * slope**2 * linear_sensitivity_power(factor)


def forget_rate(bias: ArrayLike, variance: ArrayLike = 0.0) -> Array:
    r"""⟨ln σ(b + √q z)⟩: `[...]`, nats per step of ln ∏ f_i along an LSTM's memory c.

    A forget gate with pre-activations N(b, q) keeps this much, for a typical unit; at q = 0 it is
    ln σ(b), a gate that stands still. −1 / rate is the horizon: steps until 1/e is left.

    Args:
      bias: b `[...]`.
      variance: q of the pre-activations about b, over units and time.
    """
    dtype = jnp.result_type(bias, variance, float)
    b, q = (jnp.asarray(number, dtype) for number in (bias, variance))
    return gaussian_mean(jax.nn.log_sigmoid, q, b)
