"""The laboratory's numbers of trained networks: decay rate, horizon, largest exponent."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.norms import rate_of
from rnn_jax.cell import Cell
from rnn_jax.cells import from_function
from rnn_jax.gradients import lyapunov_spectrum, product_bound, product_log_norms, step_jacobians
from rnn_jax.types import Array, Params

WINDOW, SEQUENCES = 50, 4
NORM_RTOL = 0.01
"""To which norms are found: 0.01 nats, and a fifth of the time where singular values crowd."""


def measure(
    cell: Cell,
    networks: Mapping[str, Params],
    xs: Array,
    *,
    window: int = WINDOW,
    sequences: int = SEQUENCES,
) -> dict[str, dict[str, np.ndarray]]:
    """Return what gradients do in each network along the first sequences.

    Args:
      cell: cell of all networks.
      networks: parameters by the name of a phase, `[members, ...]`.
      xs: sequences, `[T, B, I]`.
      window: most steps over which norms of ∂s_t/∂s_k are measured: their number grows as its
        square.
      sequences: those, from the first one on, whose numbers are averaged.

    Returns:
      Numbers by phase, `[members]` each: `decay_rate`, nats a step by which ‖∂s_t/∂s_k‖ changes,
      the mean over sequences, within the first steps of each; `horizon`, −1 / decay_rate, inf where
      it does not fall; `largest_exponent`, λ₁ along the whole of the sequences, in nats a step;
      `bound_rate`, the mean of ln ‖J_i‖₂ within the first steps: no product's norm grows faster.
    """
    along = jax.jit(lambda p: jnp.moveaxis(step_jacobians(cell, p, xs[:, :sequences]), 1, 0))
    numbers = {}
    for phase, params in networks.items():
        members = len(jax.tree.leaves(params)[0])
        # One after another: each has T Jacobians in memory.
        each = [
            _of_jacobians(along(jax.tree.map(lambda leaf, n=n: leaf[n], params)), window)
            for n in range(members)
        ]
        decay_rate, bound, largest = np.array(jax.device_get(each)).T
        with np.errstate(divide="ignore"):
            horizon = np.where(decay_rate >= 0, np.inf, -1 / decay_rate)
        numbers[phase] = {
            "decay_rate": decay_rate,
            "horizon": horizon,
            "largest_exponent": largest,
            "bound_rate": bound,
        }
    return numbers


def _of_jacobians(J: Array, window: int) -> tuple[Array, Array, Array]:
    """Return decay rate, bound and λ₁ of sequences of Jacobians, `[sequences, T, S, S]`.

    By programs that are the same for all cells whose states have one size.
    """
    return *_norms(J[:, :window]), _largest_exponent(J)


@jax.jit
def _norms(J: Array) -> tuple[Array, Array]:
    rate = jax.lax.map(lambda J: rate_of(product_log_norms(J, rtol=NORM_RTOL)), J)
    bound = jax.lax.map(lambda J: product_bound(J)[-1, 0] / len(J), J)
    return rate.mean(), bound.mean()


@jax.jit
def _largest_exponent(J: Array) -> Array:
    T, S = J.shape[1:3]
    xs = jnp.moveaxis(J, 0, 1).reshape(T, -1, S * S)
    found = lyapunov_spectrum(PRODUCTS, jnp.zeros(S, J.dtype), xs, num_exponents=1, interval=1)
    return found.exponents[0].mean()


PRODUCTS = from_function(
    lambda zeros, h, J: (J.reshape(len(h), len(h)) @ h, h), state=lambda zeros: zeros
)
"""h_t = J_t h_{t-1}, which has the Jacobians that it is given."""
