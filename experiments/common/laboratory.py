"""The laboratory's numbers of trained networks: decay rate, horizon, largest exponent."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.norms import rate_of
from rnn_jax.cell import Cell
from rnn_jax.gradients import jacobian_log_norms, lyapunov_spectrum
from rnn_jax.types import Array, Params

WINDOW = 50
"""Most steps over which norms of ∂s_t/∂s_k are measured: their number grows as its square."""
SEQUENCES = 4
"""Sequences whose numbers are averaged."""


def measure(
    cell: Cell, networks: Mapping[str, Params], xs: Array
) -> dict[str, dict[str, np.ndarray]]:
    """Return what gradients do in each network along the first sequences.

    Args:
      cell: cell of all networks.
      networks: parameters by the name of a phase, `[members, ...]`.
      xs: sequences, `[T, B, I]`.

    Returns:
      Numbers by phase, `[members]` each: `decay_rate`, nats a step by which ‖∂s_t/∂s_k‖ changes,
      the mean over sequences, within the first steps of each; `horizon`, −1 / decay_rate, inf where
      it does not fall; `largest_exponent`, λ₁ along the whole of the sequences, in nats a step.
    """
    xs = xs[:, :SEQUENCES]
    window = xs[:WINDOW]

    def of_one(p: Params) -> tuple[Array, Array]:
        log_norms = jnp.moveaxis(jacobian_log_norms(cell, p, window), -1, 0)
        spectrum = lyapunov_spectrum(cell, p, xs, num_exponents=1, interval=1)
        return jax.lax.map(rate_of, log_norms).mean(), spectrum.exponents[0].mean()

    # One after another: each has T Jacobians in memory. All phases in one program.
    every = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *networks.values())
    decay_rate, largest = jax.device_get(jax.jit(lambda p: jax.lax.map(of_one, p))(every))
    with np.errstate(divide="ignore"):
        horizon = np.where(decay_rate >= 0, np.inf, -1 / decay_rate)
    numbers = {"decay_rate": decay_rate, "horizon": horizon, "largest_exponent": largest}
    parts = {name: np.split(values, len(networks)) for name, values in numbers.items()}
    return {
        phase: {name: part[n] for name, part in parts.items()} for n, phase in enumerate(networks)
    }
