"""Step Jacobians J_i = ∂h_i/∂h_{i-1} and their products ∂h_t/∂h_k = J_t ··· J_{k+1}.

h is the flattened state, in the order of `jax.flatten_util.ravel_pytree`: (c, h) for an LSTM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cells.checks import choose
from rnn_jax.gradients.examples import flat_step, flat_trajectory, over_batch
from rnn_jax.gradients.step_jacobian import step_jacobian
from rnn_jax.linalg import log_norm, log_power_of_two, log_spectral_norm, split_exponent
from rnn_jax.types import Array, Cell, Params, State
from rnn_jax.unroll import checked_start

LOG_NORMS: dict[str, Callable[[Array], Array]] = {
    "spectral": log_spectral_norm,
    "frobenius": functools.partial(log_norm, axes=(-2, -1)),
}


def step_jacobians(
    cell: Cell, params: Params, xs: Array, initial_state: State | None = None
) -> Array:
    """J_i along the trajectory, `[T, *batch, S, S]`, each `[out, in]`.

    Index i is ∂(state after the step at xs[i])/∂(state before it). The pre-activation Elman form
    has J = W diag[φ'(h)]; the lecture writes its transpose. Arguments and errors are those of
    `unroll`; any Cell serves. Where a cell has a unit-wise `structure`, J is put together from
    diagonals and W instead of differentiating the step along S directions.
    """
    start = checked_start(cell, params, xs, initial_state)
    structure = cell.structure

    def one_example(start, xs):
        step = flat_step(cell, params, start)
        unravel = ravel_pytree(start)[1]

        def jacobian(h, x):
            if structure is not None and structure.unitwise:
                return step_jacobian(structure, params, unravel(h), x).dense()
            return jax.jacfwd(lambda h: step(h, x)[0])(h)

        return jax.vmap(jacobian)(flat_trajectory(cell, params, xs, start)[:-1], xs)

    return over_batch(one_example, xs.ndim - 2, out_axis=1)(start, xs)


def jacobian_log_norms(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    norm: str = "spectral",
) -> Array:
    """ln ‖∂h_t/∂h_k‖ at [t, k], `[T+1, T+1, *batch]`.

    t and k count states as `trajectory` does, 0 being the initial one. The diagonal is ln ‖I‖ (0
    in the spectral norm, ½ ln S in Frobenius'), and k > t is -inf. Each product is carried as a
    mantissa and an exponent, so nothing under- or overflows at any lag in any dtype; where the
    trajectory is not finite the answer is NaN.

    Time grows as T² S³ and memory as T S² + T².

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      norm: "spectral" or "frobenius".

    Raises:
      ValueError: an unknown norm, and what `unroll` raises.
    """
    choose("norm", norm, LOG_NORMS)
    jacobians = step_jacobians(cell, params, xs, initial_state)
    return product_log_norms(jacobians, norm=norm)


def product_log_norms(jacobians: Array, *, norm: str = "spectral") -> Array:
    """`jacobian_log_norms` from `jacobians [T, *batch, S, S]` that are at hand."""
    T, *batch, S, _ = jacobians.shape
    log_norm_of = choose("norm", norm, LOG_NORMS)
    identity = jnp.eye(S, dtype=jacobians.dtype)
    t, k, restarts = _folded_triangle(T)

    def multiply(carry, indices):
        t, restart = indices
        mantissa, exponent = carry
        restart = restart.reshape(-1, *[1] * len(batch))
        mantissa = jnp.where(restart[..., None, None], identity, mantissa)
        exponent = jnp.where(restart, 0, exponent)
        mantissa, e = split_exponent(jacobians[t - 1] @ mantissa, (-2, -1))
        exponent = exponent + e
        return (mantissa, exponent), (
            log_norm_of(mantissa) + log_power_of_two(exponent, mantissa.dtype)
        )

    slots = t.shape[1]
    carry = (
        jnp.zeros((slots, *batch, S, S), jacobians.dtype),
        jnp.zeros((slots, *batch), jnp.int32),
    )
    _, log_norms = jax.lax.scan(multiply, carry, (t, restarts))
    table = jnp.full((T + 1, T + 1, *batch), -jnp.inf, log_norms.dtype)
    diagonal = jnp.arange(T + 1)
    table = table.at[diagonal, diagonal].set(log_norm_of(identity))
    return table.at[t, k].set(log_norms)


def decay_rate(log_norms: Array) -> Array:
    """Nats per step by which ‖∂h_t/∂h_k‖ changes with the lag: `[T+1, T+1, *batch] -> [*batch]`.

    The least-squares slope of ln ‖∂h_t/∂h_k‖ on t − k over all pairs t > k with a norm above zero;
    negative for a vanishing gradient. NaN where fewer than two lags have one.
    """
    states = jnp.arange(log_norms.shape[0])
    lag = states[:, None] - states[None, :]
    lag = lag.reshape(*lag.shape, *[1] * (log_norms.ndim - 2)).astype(log_norms.dtype)
    use = (lag > 0) & ~jnp.isneginf(log_norms)
    x, y = (jnp.where(use, values, 0) for values in (jnp.broadcast_to(lag, use.shape), log_norms))
    count = use.sum((0, 1)).astype(log_norms.dtype)
    x = jnp.where(use, x - x.sum((0, 1)) / count, 0)
    return (x * y).sum((0, 1)) / (x * x).sum((0, 1))


def _folded_triangle(T: int) -> tuple[Array, Array, Array]:
    """Which (t, k) each slot works on at each of T rounds: t, k, restart `[T, T//2 + 1]`.

    The products from source k need T − k rounds. Slot j serves source j for T − j rounds and then
    source T − j for the remaining j, so that the triangle of all (t, k) fills a rectangle.
    """
    rounds = jnp.arange(1, T + 1)[:, None]
    j = jnp.arange(T // 2 + 1)[None, :]
    first = rounds <= T - j
    t = jnp.where(first, j + rounds, rounds)
    k = jnp.where(first, j, T - j)
    return t, k, t == k + 1
