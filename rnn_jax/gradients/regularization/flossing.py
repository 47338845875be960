r"""Gradient flossing: Lyapunov exponents as something to train.

.. math:: \mathcal{L} = \sum_{i \le K} (\lambda_i - \lambda^*)^2

with λ_i the K largest exponents of a short trajectory. At λ* = 0 tangent vectors, and with them
gradients, keep their length in K directions while they cross it.
"""

from __future__ import annotations

import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_number
from rnn_jax.gradients.lyapunov.lyapunov_spectrum import lyapunov_spectrum
from rnn_jax.types import Array, Key, Params, State


def flossing(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    num_exponents: int,
    target: float = 0.0,
    interval: int = 1,
    warmup: int = 0,
    key: Key | None = None,
) -> Array:
    r"""Return Σ over the K largest exponents of (λ_i − target)², its mean over examples: a scalar.

    Directions that die, and those that are lost in rounding, are left out: nothing that moves a
    little revives them. NaN where a trajectory is not finite.

    Differentiable through the trajectory, the step Jacobians and Q R, under `jit` and `vmap`. Add
    it to a loss, or hand it to `add_penalty`.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      num_exponents: K, from 1 to S.
      target: λ*, nats per step.
      interval: steps from one orthonormalization to the next. Few of them cost less; the frame must
        not have collapsed to rounding by then, which its spread, e^{(λ_1 − λ_K) interval}, tells.
      warmup: first steps that are taken, but not counted.
      key: key of the Gaussian initial frame; the same one every time by default.

    Raises:
      ValueError: num_exponents, warmup or interval out of range; what `unroll` raises.

    Reference: Engelken, Gradient flossing: improving gradient descent through dynamic control of
    Jacobians (2023), arXiv 2312.17306.
    """
    check_number("target", target)
    spectrum = lyapunov_spectrum(
        cell,
        params,
        xs,
        initial_state,
        num_exponents=num_exponents,
        warmup=warmup,
        key=key,
        interval=interval,
        blocks=1,
    )
    exponents = spectrum.exponents
    lost = jnp.isneginf(exponents) | (jnp.isposinf(spectrum.rounding) & ~jnp.isnan(exponents))
    away = jnp.where(lost, 0, exponents - jnp.asarray(target, exponents.dtype))
    return jnp.square(away).sum(0).mean()
