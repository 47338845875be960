"""Norms of ∂s_t/∂s_k in an ensemble: against their bounds, by their decay, and with the loss."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell
from rnn_jax.gradients import (
    check_bound,
    decay_rate,
    decompose,
    norm_bound,
    power_bound,
    product_bound,
    product_log_norms,
    state_blocks,
    step_jacobians,
)
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.types import Array, Params


def measure_norms(cell: Cell, xs: Array, targets: Array, params: Params) -> dict[str, np.ndarray]:
    """Return all that is measured of an ensemble, `[members, ...]`, norms as natural logarithms.

    One program for each batch of singular values, and one at a time: see `linalg.spectral_norm`.

    Args:
      cell: cell of all members.
      xs, targets: `[T, I]` and `[T]`, the window in which all are measured.
      params: `[members, ...]`.

    Returns:
      `measured`: ‖∂s_t/∂s_k‖ `[T+1, T+1]`, `decay`: its rate, `loss_to_state`: ‖∂E_t/∂s_k‖
      `[T, T+1]`; of `product_bound` and, where the cell has it, `power_bound`: the bound, its
      `_violations`, and the median of its `_slack`.
    """

    def ensemble(function):
        program = jax.jit(jax.vmap(function))
        return lambda *args: jax.block_until_ready(program(*args))

    jacobians = ensemble(lambda p: step_jacobians(cell, p, xs))(params)
    log_norms = ensemble(product_log_norms)(jacobians)
    bounds = {"product_bound": ensemble(product_bound)(jacobians)}
    if cell.norm_bound_terms is not None:
        lambda_W, lambda_phi = ensemble(functools.partial(norm_bound, cell))(params)
        power = ensemble(functools.partial(power_bound, T=len(xs)))
        bounds["power_bound"] = power(lambda_W, lambda_phi)

    @ensemble
    def loss_to_state(p):
        return decompose(cell, p, xs, targets, softmax_cross_entropy).state_log_norms

    measured = {
        "measured": log_norms,
        "decay": ensemble(rate_of)(log_norms),
        "loss_to_state": loss_to_state(params),
    }
    state_size = jacobians.shape[-1]
    for name, bound in bounds.items():
        check = ensemble(functools.partial(check_bound, state_size=state_size))(log_norms, bound)
        measured |= {
            name: bound,
            f"{name}_violations": check.violations,
            f"{name}_slack": jnp.nanmedian(check.slack, axis=(1, 2)),
        }
    return jax.device_get(measured)


def rate_of(log_norms: Array) -> Array:
    """Return `decay_rate`, and -inf where all is gone before a rate can be seen: at lag 2."""
    if len(log_norms) < 3:  # no lag of 2 at all
        return decay_rate(log_norms)
    lag = jnp.subtract.outer(*[jnp.arange(len(log_norms))] * 2)
    gone = jnp.all(jnp.where(lag >= 2, log_norms, -jnp.inf) == -jnp.inf)
    return jnp.where(gone, -jnp.inf, decay_rate(log_norms))


def state_letters(cell: Cell, params: Params) -> str:
    """Return the names of the state's parts, as "(c, h)"; "h" for a state without."""
    parts = list(state_blocks(cell, params))
    leaves = [name for name in parts if not any(p.startswith(f"{name}.") for p in parts)]
    if len(leaves) > 4:
        return f"({', '.join(leaves[:2])}, .. {leaves[-1]})"
    return f"({', '.join(leaves)})" if leaves else "h"
