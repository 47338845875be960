"""One backward sweep that carries the cotangents of many losses, by lag.

At step k, row l − 1 holds ∂E_{k+l}/∂h for the state h that step k hands on: lags 1 .. L. Each row
is a mantissa with an exponent of its own, so that nothing under- or overflows at any lag. The step
is linearized once and applied to all rows together; E_k then joins at lag 0 and the row of lag L
leaves. Time grows as T L, and what is carried as L S, for each example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.linalg import split_exponent
from rnn_jax.types import Array


class Rows(NamedTuple):
    """Cotangents, one row for each loss.

    Attributes:
      mantissa: `[n, S]`, the largest |.| of each row in [½, 1), or the row zero.
      exponent: `[n]`, of two.
      trusted: `[n]`, False once a state on the way, the output or what the loss has of it was not
        finite. NaN alone would not tell: a ReLU that is off, or a gate that an infinite state has
        shut, makes zero of it.
    """

    mantissa: Array
    exponent: Array
    trusted: Array


class AtStep(NamedTuple):
    """What is known at step k, with row l for the loss at t = k + l, l = 0 .. n.

    Attributes:
      now: like wrt, what E_k sends to wrt through step k.
      later: Rows of the losses after k, l = 1 .. n, at the state that step k hands on.
      trusted: `[n+1]`, at the state that step k hands on.
      received: like wrt with the lags in front, to be scaled by 2^exponent.
      exponent: `[n+1]`.
      trusted_before: `[n+1]`, at the state that step k starts from.
      aux: what the step returned besides.
    """

    now: Any
    later: Rows
    trusted: Array
    received: Any
    exponent: Array
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
) -> tuple[Rows, Any]:
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

    Returns:
      The rows at the initial state, and what was collected, `[T, L+1, ...]` at [k, t − k], or the
      new `log_sums`.
    """
    T, S = hs.shape

    def body(carry, at_k):
        rows, sums = carry
        k, h, x, target = at_k

        def advance(wrt, h):
            after, _, aux = step(wrt, h, x)
            return after, aux

        def E_k(wrt, h):
            y = step(wrt, h, x)[1]
            return loss(y, target), y

        after, pull, aux = jax.vjp(advance, wrt, h, has_aux=True)
        now, y = jax.grad(E_k, argnums=(0, 1), has_aux=True)(wrt, h)
        received, at_h = jax.tree.map(_in_front, now, jax.vmap(pull)(rows.mantissa))
        if from_start is not None:
            received = _add_at_start(k, received, at_h, from_start)
        exponent = _in_front(jnp.zeros((), jnp.int32), rows.exponent)
        trusted = _in_front(_all_finite((after, y, now)), rows.trusted)
        before = trusted & _all_finite(h)
        collected = collect(AtStep(now[0], rows, trusted, received, exponent, before, aux))
        if sums is not None:
            real = k + jnp.arange(len(trusted)) < T
            add = lambda s, logs: jnp.logaddexp(s, jnp.where(real, logs, -jnp.inf))
            sums, collected = jax.tree.map(add, sums, collected), None
        mantissa, rescaled = split_exponent(at_h, (1,))
        rows = Rows(mantissa, exponent + rescaled, before)
        return (jax.tree.map(lambda leaf: leaf[:-1], rows), sums), collected

    steps = (jnp.arange(T), hs, xs, targets)
    rows = Rows(
        jnp.zeros((max_lag, S), hs.dtype), jnp.zeros(max_lag, jnp.int32), jnp.ones(max_lag, bool)
    )

    (rows, log_sums), collected = jax.lax.scan(body, (rows, log_sums), steps, reverse=True)
    return rows, collected if log_sums is None else log_sums


def _add_at_start(k, received, at_h, from_start):
    """At step 0 what the rows at its state, the initial one, give to wrt by way of it."""

    def of_start():
        return jax.tree.map(jnp.add, received, jax.vmap(from_start)(at_h))

    return jax.lax.cond(k == 0, of_start, lambda: received)


def shifted_rows(table: Array, width: int, fill: float) -> Array:
    """Row i moved i columns to the right: `[m, n, ...] -> [m, width, ...]`.

    It makes [k, t] of [k, t − k], and [l, t] of [l, t − l].
    """
    m, n, *rest = table.shape
    # Read with one column less than it was written with, each row begins one later.
    stride = max(m + n, width + 1)
    wide = _widened(table, stride, fill).reshape(m * stride, *rest)[:-m]
    return wide.reshape(m, stride - 1, *rest)[:, :width]


def _in_front(first: Array, rest: Array) -> Array:
    return jnp.concatenate([first[None], rest])


def _widened(a: Array, width: int, fill: float) -> Array:
    """`[m, n, ...]` to `[m, width, ...]`."""
    more = [(0, 0)] * a.ndim
    more[1] = (0, width - a.shape[1])
    return jnp.pad(a, more, constant_values=fill)


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
