"""One backward sweep that carries the cotangents of many losses, by lag.

At step k, row l − 1 holds ∂E_{k+l}/∂h for the state h that step k hands on: lags 1 .. L. Each row
is a mantissa with an exponent of its own, so that nothing under- or overflows at any lag. The step
is linearized once and applied to all rows together; E_k then joins at lag 0 and the row of lag L
leaves. Time grows as T L, and what is carried as L S, for each example.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.linalg import log_power_of_two, split_exponent
from rnn_jax.linalg.exponents import ZERO
from rnn_jax.linalg.scaled import Entries
from rnn_jax.losses.steps import one_a_step
from rnn_jax.types import Array, at_least_float32


class Rows(NamedTuple):
    """Cotangents, one row for each loss.

    Attributes:
      cotangents: `[n, S]`, each row with an exponent of its own; in a sweep with bands, each entry.
      trusted: `[n]`, False once a state on the way, the output or what the loss has of it was not
        finite. NaN alone would not tell: a ReLU that is off, or a gate that an infinite state has
        shut, makes zero of it.
    """

    cotangents: Entries
    trusted: Array

    def log_norms(self) -> Array:
        """Return ln of the norm of each row, `[n]`; the squares of the largest do not underflow."""
        m, e = self.cotangents.by_row() if self.has_bands else self.cotangents
        norms = 0.5 * jnp.log(jnp.square(m).sum(1))
        return norms + log_power_of_two(e[:, 0], norms.dtype)

    @property
    def has_bands(self) -> bool:
        """Return whether entries have exponents of their own."""
        return self.cotangents.e.shape == self.cotangents.m.shape


class AtStep(NamedTuple):
    """Cotangents at step k, with row l for the loss at t = k + l, l = 0 .. n.

    Attributes:
      now: like wrt, ∂E_k/∂wrt through step k.
      later: Rows of the losses after k, l = 1 .. n, at the state that step k hands on.
      trusted: `[n+1]`, at the state that step k hands on.
      received: like wrt with the lags in front, to be scaled by 2^exponent.
      exponent: like wrt, each leaf `[n+1]`.
      trusted_before: `[n+1]`, at the state that step k starts from.
      aux: auxiliary output of the step.
    """

    now: Any
    later: Rows
    trusted: Array
    received: Any
    exponent: Any
    trusted_before: Array
    aux: Any


def backward_sweep(
    step: Callable[..., tuple[Array, Array, Any]],
    wrt: Any,
    loss: Callable[..., Array],
    hs: Array,
    xs: Array,
    targets: Any,
    collect: Callable[[AtStep], Any],
    *,
    max_lag: int,
    log_sums: Any = None,
    from_start: Callable[[Array], Any] | None = None,
    bands: bool = False,
) -> tuple[Rows, Any, Array]:
    """Backpropagate each E_t of one example through the steps t .. t − L.

    Args:
      step: `(wrt, h [S], x) -> (h [S], y, aux)`.
      wrt: the pytree whose immediate derivatives are asked for, the same at every step.
      hs: `[T, S]`, the state before each step.
      collect: called at each step; a pytree of arrays with the lags in front.
      max_lag: L.
      log_sums: like what is collected, of `[L+1]`: logarithms of sums, to which those of the
        collected are added step by step, in place of being stacked.
      from_start: `∂E/∂h_0 [S] -> ` what wrt has of it, where the initial state depends on it.
      bands: whether entries far below the largest of their row are carried and pulled back too.

    Returns:
      The rows at the initial state; what was collected, `[T, L+1, ...]` at [k, t − k], or the new
      `log_sums`; and whether bands would have made a difference, as far as is known: a bool.
    """
    T, S = hs.shape

    def body(carry: Any, at_k: Any):
        rows, sums, lost = carry
        k, h, x, target = at_k

        def advance(wrt: Any, h: Array):
            after, _, aux = step(wrt, h, x)
            return after, aux

        def E_k(wrt: Any, h: Array):
            y = step(wrt, h, x)[1]
            return one_a_step(loss, y, target), y

        # One sweep carries the cotangents of all E_t together: row i holds ∂E_{k+i}/∂h_k, so that
        # one vmapped pullback of step k serves every t. E_k itself enters in front of the rows, by
        # way of y_k, and the last row, whose lag has reached L, drops out at the end of the turn.
        # What reaches θ at step k is read before the rows move on: it is the (t, k) term.
        after, pull, aux = jax.vjp(advance, wrt, h, has_aux=True)
        now, y = jax.grad(E_k, argnums=(0, 1), has_aux=True)(wrt, h)
        pulled = _mapped(pull, rows.cotangents, h.dtype, bands)
        received, at_h = jax.tree.map(functools.partial(_in_front, bands), now, pulled)
        if not bands:
            m, e = split_exponent(at_h.m, (1,))
            at_h = Entries(m, at_h.e + e[:, None])
            lost |= ((m != 0) & _is_small(m)).any()
        if from_start is not None:
            received = _add_at_start(k, received, at_h, from_start, h.dtype, bands)
        trusted = jnp.insert(rows.trusted, 0, _all_finite((after, y, now)))
        before = trusted & _all_finite(h)
        scaled = _at_one_scale(received, wrt)
        collected = collect(AtStep(now[0], rows, trusted, *scaled, before, aux))
        if sums is not None:
            real = k + jnp.arange(len(trusted)) < T
            add = lambda s, logs: jnp.logaddexp(s, jnp.where(real, logs, -jnp.inf))
            sums, collected = jax.tree.map(add, sums, collected), None
        rows = Rows(at_h, before)
        return (jax.tree.map(lambda leaf: leaf[:-1], rows), sums, lost), collected

    steps = (jnp.arange(T), hs, xs, targets)
    zeros = jnp.zeros((max_lag, S), at_least_float32(hs).dtype if bands else hs.dtype)
    none = jnp.full((max_lag, S if bands else 1), ZERO if bands else 0, jnp.int32)
    rows = Rows(Entries(zeros, none), jnp.ones(max_lag, bool))

    start = rows, log_sums, jnp.asarray(False)
    (rows, log_sums, lost), collected = jax.lax.scan(body, start, steps, reverse=True)
    return rows, collected if log_sums is None else log_sums, lost


def with_bands_if_lost(run: Callable[[bool], tuple[Any, Array]]) -> Any:
    """Return what `run(bands) -> (result, lost)` gives without bands, or with, if any are lost.

    Ordinary gradients do not need bands, and pay for no more than the question.
    """
    # One exponent a row flushes an entry 2^63 (in float32) below the largest of its row. That
    # matters only if the largest dies later, at a gate that is exactly shut, say. Whether an entry
    # has been so small at all is cheap to ask, and the slower sweep, an exponent for each entry, is
    # taken then.
    result, lost = run(False)
    return jax.lax.cond(lost.any(), lambda: run(True)[0], lambda: result)


def _mapped(linear: Callable[[Array], Any], rows: Entries, dtype: Any, bands: bool) -> Any:
    """Return what a linear map of one row makes of each, with exponents by row or by entry."""
    if bands:
        wide = lambda images: jax.tree.map(at_least_float32, images)
        each_row = lambda m: wide(jax.vmap(linear)(m.astype(dtype)))
        return rows.mapped(each_row, dtype=dtype, max_bands=None)
    along = lambda image: rows.e.reshape(-1, *[1] * (image.ndim - 1))
    return jax.tree.map(lambda image: Entries(image, along(image)), jax.vmap(linear)(rows.m))


def _in_front(bands: bool, first: Array, rest: Entries) -> Entries:
    """Return Entries with one more row in front."""
    if bands:
        one = Entries.of(at_least_float32(first)[None])
    else:
        one = Entries(first[None], jnp.zeros((1, *[1] * first.ndim), jnp.int32))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), one, rest)


def _at_one_scale(received: Any, like: Any) -> tuple[Any, Any]:
    """Return mantissas in the dtypes of `like`, and the exponent of each row, `[n]`."""
    by_row = jax.tree.map(
        lambda leaf, entries: entries if entries.e.size == len(entries.e) else entries.by_row(),
        like,
        received,
    )
    mantissas = jax.tree.map(lambda leaf, entries: entries.m.astype(leaf.dtype), like, by_row)
    return mantissas, jax.tree.map(lambda leaf, entries: entries.e.reshape(-1), like, by_row)


def _is_small(mantissa: Array) -> Array:
    """Return where an entry is so far below its row's largest that its products may underflow."""
    half_range = int(jnp.finfo(mantissa.dtype).maxexp) // 2
    return jnp.abs(mantissa) < jnp.asarray(2.0**-half_range, mantissa.dtype)


def _add_at_start(
    k: Array, received: Any, rows: Entries, from_start: Any, dtype: Any, bands: bool
) -> Any:
    """Add at step 0 what the rows at the initial state give to wrt by way of it."""

    def add(entries: Entries, more: Entries) -> Entries:
        total = Entries.of(entries.m, entries.e).plus(Entries.of(more.m, more.e))
        return total if bands else total.by_row()

    def of_start():
        more = _mapped(from_start, rows, dtype, bands)
        return jax.tree.map(add, received, more, is_leaf=lambda node: isinstance(node, Entries))

    return jax.lax.cond(k == 0, of_start, lambda: received)


def shifted_rows(table: Array, width: int, fill: float) -> Array:
    """Return row i moved i columns to the right: `[m, n, ...] -> [m, width, ...]`.

    It makes [k, t] of [k, t − k], and [l, t] of [l, t − l].
    """
    m, n, *rest = table.shape
    # Read with one column less than it was written with, each row begins one later.
    stride = max(m + n, width + 1)
    wide = _widened(table, stride, fill).reshape(m * stride, *rest)[:-m]
    return wide.reshape(m, stride - 1, *rest)[:, :width]


def _widened(a: Array, width: int, fill: float) -> Array:
    """Return `[m, n, ...]` to `[m, width, ...]`."""
    more = [(0, 0)] * a.ndim
    more[1] = (0, width - a.shape[1])
    return jnp.pad(a, more, constant_values=fill)


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
