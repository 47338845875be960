"""Norms of ∂h_t/∂h_{t−l} at a few t, from vectors carried forward and back: no matrix is formed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.linearized_step import LinearizedStep
from rnn_jax.lengths import batch_of, step_at, steps_of
from rnn_jax.linalg import log_power_of_two
from rnn_jax.linalg.exponents import ZERO
from rnn_jax.linalg.lanczos import root_of_largest_eigenvalue, start_vector
from rnn_jax.linalg.norms import LogNorm
from rnn_jax.linalg.product_norms import (
    ROUNDING,
    in_dtype,
    rounding_in_nats,
)
from rnn_jax.linalg.scaled import Entries
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, at_least_float32

MATRICES_PER_BATCH = 32
"""Matrices, or columns, at a time."""


@compiled("cell", "norm", "rtol", "entries")
def norms_at_times(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    lags: Any,
    times: Any,
    norm: Any,
    rtol: float | None,
    entries: Any,
) -> LogNorm:
    """Return `[len(times), len(lags), *batch]`, by vectors."""
    rows, columns = map(np.array, entries)

    def one_example(start: State, xs: Any):
        walks = _Walks(cell, params, start, xs, times)
        of_lag = walks.spectral if norm == "spectral" else walks.frobenius
        found = jax.lax.map(lambda lag: of_lag(lag, rows, columns, rtol), lags)
        return jax.tree.map(lambda part: part.T, found)

    found = over_batch(one_example, len(batch_of(xs)), out_axis=2)(start, xs)
    dtype = jnp.result_type(*jax.tree.leaves(start))
    return in_dtype(found, dtype)


class _Walks:
    """Vectors carried from t − l to t and back along one example's trajectory, for n t at once."""

    def __init__(self, cell: Cell, params: Params, start: State, xs: Array, times: Array):
        step = LinearizedStep(cell, params, start)
        self.states, self.xs, self.times = step.states(xs), xs, times
        self._jvp, self._vjp = jax.vmap(step.jvp), jax.vmap(step.vjp)
        self._dtype = at_least_float32(self.states).dtype
        finite = jnp.isfinite(self.states).all(1)
        self._broken = jnp.cumsum(~finite, dtype=jnp.int32)

    def forward(self, lag: Array, V: Entries) -> Entries:
        """Return J_t ··· J_{t−l+1} v for each row of `V [n, m, S]`."""
        return jax.lax.fori_loop(0, lag, lambda i, V: self._step(i, lag, V), V)

    def back(self, lag: Array, U: Entries) -> Entries:
        """Return uᵀ J_t ··· J_{t−l+1} for each row of `U [n, m, S]`."""
        step = lambda i, U: self._multiply(self._vjp, self.times - 1 - i, U)
        return jax.lax.fori_loop(0, lag, step, U)

    def _step(self, i: Any, lag: Array, V: Entries) -> Entries:
        return self._multiply(self._jvp, self.times - lag + i, V)

    def _multiply(self, products: Any, step: Any, V: Entries) -> Entries:
        at = jnp.clip(step, 0, steps_of(self.xs) - 1)
        h, x = self.states[at], step_at(self.xs, at)
        return V.mapped(
            lambda V: products(h, x, V.astype(h.dtype)).astype(self._dtype), dtype=h.dtype
        )

    def spectral(self, lag: Array, rows: Any, columns: Any, rtol: float | None) -> LogNorm:
        """Return ln of the largest singular value of P[rows, columns], `[n]`."""
        start = start_vector((len(self.times), len(columns)), self._dtype)
        through, gram = self._block(lag, rows, columns)
        # ‖P v‖ of the start gives ‖P‖ to within a factor of about √S.
        exponent = through(Entries.of(start)).largest()
        scaled_gram = lambda v: gram(Entries.of(v)).at(2 * exponent)
        value, error = root_of_largest_eigenvalue(scaled_gram, start, rtol=rtol)
        value = value + log_power_of_two(exponent, self._dtype)
        return self._where_there(lag, value, error + self._rounding(lag, value, rows, columns))

    def frobenius(self, lag: Array, rows: Any, columns: Any, rtol: float | None) -> LogNorm:
        """Return ln of the Frobenius norm of P[rows, columns], `[n]`."""
        n, S = self.states[self.times].shape

        def of_columns(some: Any):
            V = jnp.broadcast_to(jax.nn.one_hot(some, S, dtype=self._dtype), (n, len(some), S))
            u = self.forward(lag, Entries.of(V))
            return Entries(u.m[..., rows], u.e[..., rows]).log_norm()

        padded = np.full(
            -(-len(columns) // MATRICES_PER_BATCH) * MATRICES_PER_BATCH, S
        )  # past the end: zero columns
        padded[: len(columns)] = columns
        logs = jax.lax.map(of_columns, jnp.asarray(padded).reshape(-1, MATRICES_PER_BATCH))
        value = 0.5 * jax.nn.logsumexp(2 * logs, axis=(0, 2))
        return self._where_there(lag, value, self._rounding(lag, value, rows, columns))

    def _block(self, lag: Array, rows: Any, columns: Any):
        """Return v -> P v and v -> PᵀP v of P[rows, columns], on `Entries [n, len(columns)]`."""
        part = lambda v, at: Entries(v.m[:, 0, at], v.e[:, 0, at])
        through = lambda v: part(self.forward(lag, self._embed(v, columns)), rows)
        back = lambda u: part(self.back(lag, self._embed(u, rows)), columns)
        return through, lambda v: back(through(v))

    def _embed(self, v: Entries, at: Any) -> Entries:
        """Return `[n, 1, S]` with `v [n, len(at)]` at some entries, and zeros."""
        shape = len(self.times), 1, self.states.shape[-1]
        m, e = jnp.zeros(shape, self._dtype), jnp.full(shape, ZERO, jnp.int32)
        return Entries(m.at[:, 0, at].set(v.m), e.at[:, 0, at].set(v.e))

    def _rounding(self, lag: Array, value: Any, rows: Any, columns: Any) -> Array:
        """Return how far rounding may have moved ln ‖P‖ = `value`, nats: `[n]`.

        A random vector and what a power iteration makes of it, near v_1, go forward once more, each
        with a vector beside it that stands for the errors made so far: J takes it along, and at
        each step one of random direction joins it, of the size that J v rounds to.
        """
        start = Entries.of(start_vector((len(self.times), len(columns)), self._dtype))
        gram = self._block(lag, rows, columns)[1]
        joined = lambda *vs: jax.tree.map(lambda *parts: jnp.concatenate(parts, 1), *vs)
        V = joined(*(self._embed(v, columns) for v in (start, gram(start))))
        nothing = Entries(jnp.zeros_like(V.m), jnp.full_like(V.e, ZERO))
        log2_eps = -jnp.finfo(self.states.dtype).nmant  # J v comes out in the state's dtype

        def step(i: Any, both: Any):
            after = self._step(i, lag, both)
            before, now = both.e.max(-1), after.e.max(-1)
            gain = jnp.where(before > ZERO // 2, now - before, ZERO).max(1, keepdims=True)
            size = jnp.maximum(gain + before[:, :2] + log2_eps, ZERO)
            noise = jax.random.normal(
                jax.random.fold_in(jax.random.key(0), i), V.m.shape, V.m.dtype
            )
            made = Entries.of(noise, size[..., None])
            first, second = (lambda x: x[:, :2]), (lambda x: x[:, 2:])
            vectors, errors = jax.tree.map(first, after), jax.tree.map(second, after)
            return joined(vectors, errors.plus(made))

        both = jax.lax.fori_loop(0, lag, step, joined(V, nothing))
        logs = Entries(both.m[..., rows], both.e[..., rows]).log_norm()
        delta = ROUNDING * jnp.exp(logs[:, 2:] - logs[:, :2]).max(1)
        delta = jnp.where(jnp.isneginf(value) & (lag > 1), jnp.inf, delta)
        return jnp.where(lag > 0, rounding_in_nats(delta, value), 0)

    def _where_there(self, lag: Array, value: Any, error: Any) -> LogNorm:
        k = jnp.maximum(self.times - lag, 0)
        before = jnp.where(k > 0, self._broken[k - 1], 0)
        finite = (self._broken[self.times] == before) | (lag == 0)
        there = (self.times >= lag) & finite
        return LogNorm(jnp.where(there, value, jnp.nan), jnp.where(there, error, jnp.nan))
