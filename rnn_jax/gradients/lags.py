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

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import choose, invalid
from rnn_jax.gradients.blocks import Block, block_entries
from rnn_jax.gradients.continuous import continuous
from rnn_jax.gradients.examples import flat_trajectory, over_batch
from rnn_jax.gradients.jacobians import step_jacobians
from rnn_jax.gradients.products import NORMS, Scaled, over_examples
from rnn_jax.gradients.spectral import LogNorm, root_of_largest_eigenvalue, start_vector
from rnn_jax.gradients.tangents import StepProducts
from rnn_jax.linalg import log_norm, log_power_of_two, split_exponent
from rnn_jax.types import Array, Cell, Params, State, at_least_float32

AT_ONCE = 32
"""Matrices, or columns, at a time."""


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
    """ln ‖∂h_t/∂h_{t−l}‖ at [t, index of l], and its error: each `[T+1, len(lags), *batch]`.

    The entries of `jacobian_log_norms` at (t, t − l), as safe at any lag; NaN where t < l, since
    there is no such state, and where the trajectory is not finite.

    Without `times`, time grows as T S³ for each lag and memory as 3 T S² for each example. With
    `times`, no [S, S] is formed: n of them take some tens of passes over l steps for each lag, in
    which W meets n vectors at once (S of them for a Frobenius norm), and memory is T S + n S. S is
    as large as the cell that runs.

    Args:
      cell, params, xs, initial_state, norm, block, rtol: as for `jacobian_log_norms`.
      lags: of 0 .. T.
      times: the t wanted, of 0 .. T; all of them by default.

    Returns:
      LogNorm: `value` at most the truth but for rounding, `error` as in `certified_log_norms`
      (Lanczos' part alone); with `times`, `[len(times), len(lags), *batch]`.

    Raises:
      ValueError: lags or times out of range, and what `jacobian_log_norms` raises.
    """
    choose("norm", norm, NORMS)
    rows, columns = block_entries(cell, params, block)
    cell, xs, start = continuous(cell, params, xs, initial_state)
    T, *batch, _ = xs.shape
    each_lag = check_states("lags", lags, T)
    if times is None:
        J = at_least_float32(step_jacobians(cell, params, xs, start))
        S = J.shape[-1]
        one = lambda J: _all_times(J, each_lag, NORMS[norm](rtol), rows, columns)
        J = jnp.moveaxis(J.reshape(T, math.prod(batch), S, S), 1, 0)
        found = over_examples(one, J, AT_ONCE * S**2)
        shape = (T + 1, len(lags), *batch)
        found = jax.tree.map(lambda part: jnp.moveaxis(part, 0, -1).reshape(shape), found)
    else:
        each_time = check_states("times", times, T)

        def one_example(start, xs):
            walks = _Walks(cell, params, start, xs, each_time)
            of_lag = walks.spectral if norm == "spectral" else walks.frobenius
            found = jax.lax.map(lambda lag: of_lag(lag, rows, columns, rtol), each_lag)
            return jax.tree.map(lambda part: part.T, found)

        found = over_batch(one_example, len(batch), out_axis=2)(start, xs)
    dtype = jnp.result_type(*jax.tree.leaves(start))
    return jax.tree.map(lambda part: part.astype(dtype), found)


def _all_times(J: Array, lags: Array, norm, rows, columns) -> LogNorm:
    """`[T+1, len(lags)]` of one example, `J [T, S, S]`."""
    T, S, _ = J.shape
    chunks = -(-(T + 1) // AT_ONCE)
    t = jnp.arange(chunks * AT_ONCE, dtype=jnp.int32).reshape(chunks, AT_ONCE)
    identity = jnp.eye(S, dtype=J.dtype)

    def of_lag(lag):
        step, span = jnp.arange(T, dtype=jnp.int32), jnp.maximum(lag, 1)
        A = _running_products(J, step % span == 0)
        B = _running_products(J, step % span == span - 1, reverse=True)

        def some(t):
            k = t - lag
            last, first = (jnp.clip(i, 0, T - 1) for i in (t - 1, k))
            whole = (k % span == 0)[:, None, None]  # A alone spans the lag
            P = jnp.where(whole, A.m[last], A.m[last] @ B.m[first])
            e = A.e[last] + jnp.where(whole[:, 0, 0], 0, B.e[first])
            P, e = jnp.where(lag == 0, identity, P), jnp.where(lag == 0, 0, e)
            P, f = split_exponent(P[:, rows][:, :, columns], (-2, -1))
            value, error = norm.of_matrices(P)
            value = value + log_power_of_two(e + f, value.dtype)
            there = (k >= 0) & (t <= T)
            return jax.tree.map(lambda x: jnp.where(there, x, jnp.nan), LogNorm(value, error))

        found = jax.lax.map(some, t)
        return jax.tree.map(lambda part: part.reshape(-1)[: T + 1], found)

    return jax.tree.map(lambda part: part.T, jax.lax.map(of_lag, lags))


def _running_products(J: Array, restart: Array, *, reverse: bool = False) -> Scaled:
    """J_i ··· J_r, r the last restart up to i; reverse: J_r ··· J_i, r the first one from i on.

    `J [n, S, S]`, `restart [n]`. Before any restart, the first J counts as one.
    """

    def multiply(carry, at_i):
        before, exponent = carry
        J, restart = at_i
        product = before @ J if reverse else J @ before
        product, e = split_exponent(jnp.where(restart, J, product), (-2, -1))
        exponent = jnp.where(restart, 0, exponent) + e
        return (product, exponent), Scaled(product, exponent)

    first = (jnp.eye(J.shape[-1], dtype=J.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.scan(multiply, first, (J, restart), reverse=reverse)[1]


class _Walks:
    """Vectors carried from t − l to t and back along one example's trajectory, for n t at once."""

    def __init__(self, cell: Cell, params: Params, start: State, xs: Array, times: Array):
        products = StepProducts(cell, params, start)
        self.states, self.xs, self.times = flat_trajectory(cell, params, xs, start), xs, times
        self._times, self._left_times = jax.vmap(products.times), jax.vmap(products.left_times)

    def forward(self, lag: Array, V: Array) -> Scaled:
        """J_t ··· J_{t−l+1} v for each row of `V [n, m, S]`: exponents `[n, m]`."""
        return self._walk(lag, V, self._times, lambda i: self.times - lag + i)

    def back(self, lag: Array, U: Array) -> Scaled:
        """uᵀ J_t ··· J_{t−l+1} for each row of `U [n, m, S]`."""
        return self._walk(lag, U, self._left_times, lambda i: self.times - 1 - i)

    def _walk(self, lag, V, multiply, step_of) -> Scaled:
        V, e = split_exponent(V, (-1,))

        def step(i, carry):
            V, e = carry
            at = jnp.clip(step_of(i), 0, len(self.xs) - 1)
            V = multiply(self.states[at], self.xs[at], V.astype(self.states.dtype))
            V, more = split_exponent(V.astype(carry[0].dtype), (-1,))
            return V, e + more

        return Scaled(*jax.lax.fori_loop(0, lag, step, (V, e)))

    def spectral(self, lag, rows, columns, rtol) -> LogNorm:
        n, S = len(self.times), self.states.shape[-1]
        dtype = at_least_float32(self.states).dtype
        embed = lambda v, at: jnp.zeros((n, 1, S), dtype).at[:, 0, at].set(v)
        start = start_vector((n, len(columns)), dtype)
        u, f = self.forward(lag, embed(start, columns))
        # ‖P v‖ of the start gives ‖P‖ to within a factor of about √S.
        u, g = split_exponent(u[:, 0, rows], (-1,))
        exponent = f[:, 0] + g

        def gram(v):
            u, f = self.forward(lag, embed(v, columns))
            w, b = self.back(lag, embed(u[:, 0, rows], rows))
            e = f[:, 0] + b[:, 0] - 2 * exponent
            return w[:, 0, columns] * _power_of_two(e, dtype)[:, None]

        value, error = root_of_largest_eigenvalue(gram, start, rtol=rtol)
        return self._where_there(lag, value + log_power_of_two(exponent, dtype), error)

    def frobenius(self, lag, rows, columns, rtol) -> LogNorm:
        n, S = len(self.times), self.states.shape[-1]
        dtype = at_least_float32(self.states).dtype

        def of_columns(some):
            V = jnp.broadcast_to(jax.nn.one_hot(some, S, dtype=dtype), (n, len(some), S))
            u, e = self.forward(lag, V)
            return log_norm(u[..., rows], (-1,)) + log_power_of_two(e, dtype)

        padded = np.full(-(-len(columns) // AT_ONCE) * AT_ONCE, S)  # past the end: zero columns
        padded[: len(columns)] = columns
        logs = jax.lax.map(of_columns, jnp.asarray(padded).reshape(-1, AT_ONCE))
        value = 0.5 * jax.nn.logsumexp(2 * logs, axis=(0, 2))
        return self._where_there(
            lag, value, jnp.where(jnp.isnan(value), jnp.nan, jnp.zeros_like(value))
        )

    def _where_there(self, lag, value, error) -> LogNorm:
        there = self.times >= lag
        return LogNorm(jnp.where(there, value, jnp.nan), jnp.where(there, error, jnp.nan))


def _power_of_two(e: Array, dtype) -> Array:
    """2^e, which may be 0."""
    limit = jnp.finfo(dtype).maxexp - 2
    half = jnp.clip(e, -2 * limit, limit) // 2
    one = jnp.ones((), dtype)
    return jnp.ldexp(one, half) * jnp.ldexp(one, jnp.clip(e, -2 * limit, limit) - half)


def check_states(argument: str, numbers: Sequence[int], T: int) -> Array:
    """`numbers` as an array, or a ValueError unless they are integers of 0 .. T."""
    values = np.asarray(numbers)
    if values.ndim != 1 or values.size == 0 or not np.issubdtype(values.dtype, np.integer):
        raise invalid(argument, numbers, "one or more integers", "Pass a list, or a range.")
    if values.min() < 0 or values.max() > T:
        got = f"from {values.min()} to {values.max()}"
        raise invalid(
            argument, got, f"from 0 to T = {T}", "States are counted from the initial one."
        )
    return jnp.asarray(values, jnp.int32)
