r"""Norms of ∂h_t/∂h_{t−l} at chosen lags l, for all t or a few: no table of all (t, k).

For all t, cut the sequence every l steps. The product over any l steps spans one cut s at most,

.. math:: \frac{\partial h_t}{\partial h_{t-l}} = (J_t \cdots J_{s+1}) (J_s \cdots J_{t-l+1}),

and the products from and to all cuts are 2 T matrix products, whatever l is.

For a few t no matrix is formed: Lanczos' method asks for P v and Pᵀ u, which are l steps of
tangents forward and of cotangents back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.gradients.jacobians.log_norms import check_norm
from rnn_jax.gradients.jacobians.norms_by_vectors import MATRICES_PER_BATCH, norms_at_times
from rnn_jax.gradients.jacobians.state_blocks import Block, block_entries
from rnn_jax.gradients.jacobians.step_jacobians import jacobians_along
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.lengths import steps_of
from rnn_jax.linalg import split_exponent
from rnn_jax.linalg.exponents import ZERO, power_of_two
from rnn_jax.linalg.norms import LogNorm
from rnn_jax.linalg.product_norms import (
    NORMS,
    ROUNDING,
    Norm,
    in_dtype,
    log_norms,
    rounding_in_nats,
)
from rnn_jax.linalg.scaled import Scaled
from rnn_jax.transforms.batch_axes import vmap_in_groups
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, at_least_float32


def jacobian_log_norms_by_lag(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    lags: Sequence[int],
    times: Sequence[int] | None = None,
    norm: str = "spectral",
    block: Block | None = None,
    rtol: float | None = None,
) -> LogNorm:
    """Return ln ‖∂h_t/∂h_{t−l}‖ at [t, index of l] and its error, `[T+1, len(lags), *batch]`.

    The entries of `jacobian_log_norms` at (t, t − l), as safe at any lag; NaN where t < l, since
    there is no such state, and where the trajectory is not finite.

    Without `times`, time grows as T S³ for each lag and memory as 3 T S² for each example. With
    `times`, no [S, S] is formed: n of them take some tens of passes over l steps for each lag, in
    which W meets n vectors at once (S of them for a Frobenius norm), and memory is T S + n S. S is
    as large as the cell that runs.

    Args:
      cell, params, xs, initial_state, norm, block, rtol: as for `jacobian_log_norms`.
      lags: lags l, each of 0 .. T.
      times: the t wanted, of 0 .. T; all of them by default.

    Returns:
      LogNorm: `value`, and `error` with the meaning that `certified_log_norms` gives it; with
      `times`, `[len(times), len(lags), *batch]`.

    Raises:
      ValueError: lags or times out of range, and what `jacobian_log_norms` raises.
    """
    check_norm(norm, rtol)
    entries = block_entries(cell, params, block)
    cell, xs, start = continuous(cell, params, xs, initial_state)
    each_lag = check_states("lags", lags, steps_of(xs))
    if times is None:
        return _at_all_times(
            jacobians_along(cell, params, xs, start), each_lag, norm, rtol, entries
        )
    each_time = check_states("times", times, steps_of(xs))
    return norms_at_times(cell, params, xs, start, each_lag, each_time, norm, rtol, entries)


@compiled("norm", "rtol", "entries")
def _at_all_times(
    jacobians: Any, lags: Any, norm: Any, rtol: float | None, entries: Any
) -> LogNorm:
    """Return `[T+1, len(lags), *batch]` from `jacobians [T, *batch, S, S]`."""
    T, *batch, S, _ = jacobians.shape
    rows, columns = map(np.array, entries)
    J = at_least_float32(jacobians)
    J = jnp.moveaxis(J.reshape(T, math.prod(batch), S, S), 1, 0)
    one = lambda J: _all_times(J, lags, NORMS[norm](rtol), rows, columns)
    found = vmap_in_groups(one, J, MATRICES_PER_BATCH * S**2)
    shape = (T + 1, len(lags), *batch)
    placed = lambda part: jnp.moveaxis(part, 0, -1).reshape(shape)
    return in_dtype(jax.tree.map(placed, found), jacobians.dtype)


def _all_times(J: Array, lags: Array, norm: Norm, rows: Any, columns: Any) -> LogNorm:
    """Return `[T+1, len(lags)]` of one example, `J [T, S, S]`."""
    T, S, _ = J.shape
    chunks = -(-(T + 1) // MATRICES_PER_BATCH)
    t = jnp.arange(chunks * MATRICES_PER_BATCH, dtype=jnp.int32).reshape(chunks, MATRICES_PER_BATCH)
    eps = jnp.asarray(jnp.finfo(J.dtype).eps, J.dtype)
    finite = jnp.isfinite(J).all((1, 2))
    scaled = Scaled.of(jnp.where(finite[:, None, None], J, 0))
    identity = Scaled.of(jnp.eye(S, dtype=J.dtype))
    broken = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(~finite, dtype=jnp.int32)])

    noise = jax.random.normal(jax.random.key(0), (T, S), J.dtype)
    steps = (*scaled.at_one_scale(), scaled.log2_size(), noise)

    # All windows of one length, by two running products (van Herk's method for minima): spans of
    # `lag` steps restart at its multiples, A_t is the product from the start of t's span up to t,
    # B_k from k to the end of its own, and a window, which meets one boundary at most, is A_t B_k.
    # So each lag takes 3 T products, whatever it is, where windows one by one would take T · lag.
    def of_lag(lag: Array):
        step, span = jnp.arange(T, dtype=jnp.int32), jnp.maximum(lag, 1)
        begins, ends = step % span == 0, step % span == span - 1
        A = _running_products(scaled, begins)
        B = _running_products(scaled, ends, reverse=True)
        lost_A = _accumulated_rounding(steps, A, begins)
        lost_B = _accumulated_rounding(steps, B, ends, reverse=True)

        def some(t: Any):
            k = t - lag
            last, first = (jnp.clip(i, 0, T - 1) for i in (t - 1, k))
            one_span = k % span == 0  # A alone is the product
            P = _select(one_span, A.take(last), A.take(last) @ B.take(first))
            P = _select(jnp.broadcast_to(lag == 0, k.shape), identity, P)
            value, error = log_norms(P.rows(rows).columns(columns), norm)
            sizes = A.log2_size()[last], B.log2_size()[first]
            size_A, size_B = (size.astype(value.dtype) for size in sizes)
            # What rounding has made of A acts through B, and of B, their product included, through
            # A.
            lost = jnp.maximum(lost_A[last] + size_B, jnp.maximum(lost_B[first], size_B) + size_A)
            lost = jnp.where(one_span, lost_A[last], lost)
            lost = jnp.where(lag > 1, lost * math.log(2) - value, -jnp.inf)
            error = error + rounding_in_nats(ROUNDING * eps * jnp.exp(lost), value)
            there = (k >= 0) & (t <= T) & (broken[jnp.clip(t, 0, T)] == broken[jnp.clip(k, 0, T)])
            return jax.tree.map(lambda x: jnp.where(there, x, jnp.nan), LogNorm(value, error))

        found = jax.lax.map(some, t)
        return jax.tree.map(lambda part: part.reshape(-1)[: T + 1], found)

    return jax.tree.map(lambda part: part.T, jax.lax.map(of_lag, lags))


def _select(condition: Array, if_true: Any, if_false: Any) -> Any:
    """Select by a condition over leading axes, for the parts of two alike."""
    lead = lambda part: condition.reshape(*condition.shape, *[1] * (part.ndim - condition.ndim))
    return jax.tree.map(lambda a, b: jnp.where(lead(b), a, b), if_true, if_false)


def _running_products(J: Scaled, restart: Array, *, reverse: bool = False) -> Scaled:
    """Return J_i ··· J_r, r the last restart up to i; reversed, J_r ··· J_i, r the first from i on.

    `J [n, S, S]`, `restart [n]`. Before any restart, the first J counts as one.
    """

    def multiply(before: Any, at_i: Any):
        J, restart = at_i
        product = _select(restart, J, before @ J if reverse else J @ before)
        return product, product

    first = Scaled.of(jnp.eye(J.m.shape[-1], dtype=J.m.dtype))
    return jax.lax.scan(multiply, first, (J, restart), reverse=reverse)[1]


def _accumulated_rounding(
    steps: tuple[Array, Array, Array, Array],
    products: Scaled,
    restart: Array,
    *,
    reverse: bool = False,
) -> Array:
    """Return log2 of the error of each of `_running_products`, over ε: `[n]`.

    `steps` are the mantissas, exponents and log2 sizes of J, and a random vector for each. One
    vector stands for the errors made so far: multiplied on as they are, it is joined at each step
    by one of random direction and of the size that a product of these factors rounds to.
    """
    J_m, J_e, J_size, noise = steps
    sizes = products.log2_size()
    before = jnp.concatenate([sizes[1:], sizes[:1]] if reverse else [sizes[-1:], sizes[:-1]])

    def multiply(carry: Any, at_i: Any):
        z, e = carry
        J_m, J_e, new, restart, noise = at_i
        e = jnp.where(restart, ZERO, e + J_e)
        new = jnp.where(restart, ZERO, new)
        top = jnp.maximum(jnp.maximum(e, new), ZERO)
        old = power_of_two(e - top, z.dtype) * (z @ J_m if reverse else J_m @ z)
        z, more = split_exponent(old + power_of_two(new - top, z.dtype) * noise, (0,))
        return (z, top + more), top + more

    first = jnp.zeros_like(noise[0]), jnp.full((), ZERO, jnp.int32)
    at = J_m, J_e, J_size + before, restart, noise
    lost = jax.lax.scan(multiply, first, at, reverse=reverse)[1]
    return lost.astype(noise.dtype) + 0.5 * math.log2(noise.shape[1])


def check_states(argument: str, numbers: Sequence[int], T: int) -> Array:
    """Return `numbers` as an array, or a ValueError unless they are integers of 0 .. T."""
    values = np.asarray(numbers)
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
        raise invalid(argument, numbers, "one or more integers", "Pass a list, or a range.")
    if values.min() < 0 or values.max() > T:
        got = f"from {values.min()} to {values.max()}"
        raise invalid(
            argument, got, f"from 0 to T = {T}", "States are counted from the initial one."
        )
    return jnp.asarray(values, jnp.int32)
