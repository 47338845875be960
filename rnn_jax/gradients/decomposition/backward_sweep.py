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
from rnn_jax.losses.steps import one_a_step
from rnn_jax.types import Array


class Low(NamedTuple):
    """Entries, each with an exponent of its own: `mantissa [n, S]`, `exponent [n, S]`."""

    mantissa: Array
    exponent: Array


class Rows(NamedTuple):
    """Cotangents, one row for each loss.

    Attributes:
      mantissa: `[n, S]`, the largest |.| of each row in [½, 1), or the row zero.
      exponent: `[n]`, of two.
      low: the entries that are too small beside the largest to stand in its row, which has zeros
        for them; None in a sweep without bands.
      trusted: `[n]`, False once a state on the way, the output or what the loss has of it was not
        finite. NaN alone would not tell: a ReLU that is off, or a gate that an infinite state has
        shut, makes zero of it.
    """

    mantissa: Array
    exponent: Array
    low: Low | None
    trusted: Array


class AtStep(NamedTuple):
    """What is known at step k, with row l for the loss at t = k + l, l = 0 .. n.

    Attributes:
      now: like wrt, what E_k sends to wrt through step k.
      later: Rows of the losses after k, l = 1 .. n, at the state that step k hands on.
      trusted: `[n+1]`, at the state that step k hands on.
      received: like wrt with the lags in front, to be scaled by 2^exponent.
      exponent: like wrt, each leaf `[n+1]`.
      trusted_before: `[n+1]`, at the state that step k starts from.
      aux: what the step returned besides.
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
        received, at_h = jax.tree.map(_in_front, now, jax.vmap(pull)(rows.mantissa))
        exponent = _in_front(jnp.zeros((), jnp.int32), rows.exponent)
        if rows.low is None:
            exponents = jax.tree.map(lambda _: exponent, received)
            (mantissa, e), low = split_exponent(at_h, (1,)), None
            next_rows = mantissa, exponent + e, low
            lost |= ((mantissa != 0) & _is_small(mantissa)).any()
        else:
            low = jax.tree.map(lambda leaf: jnp.pad(leaf, ((1, 0), (0, 0))), rows.low)
            received, exponents, next_rows = _with_low(pull, received, at_h, exponent, low)
        if from_start is not None:
            received, exponents = _add_at_start(k, received, exponents, next_rows, from_start)
        trusted = _in_front(_all_finite((after, y, now)), rows.trusted)
        before = trusted & _all_finite(h)
        collected = collect(AtStep(now[0], rows, trusted, received, exponents, before, aux))
        if sums is not None:
            real = k + jnp.arange(len(trusted)) < T
            add = lambda s, logs: jnp.logaddexp(s, jnp.where(real, logs, -jnp.inf))
            sums, collected = jax.tree.map(add, sums, collected), None
        mantissa, exponent, low = next_rows
        rows = Rows(mantissa, exponent, low, before)
        return (jax.tree.map(lambda leaf: leaf[:-1], rows), sums, lost), collected

    steps = (jnp.arange(T), hs, xs, targets)
    zeros = jnp.zeros((max_lag, S), hs.dtype)
    low = Low(zeros, jnp.zeros((max_lag, S), jnp.int32)) if bands else None
    rows = Rows(zeros, jnp.zeros(max_lag, jnp.int32), low, jnp.ones(max_lag, bool))

    start = rows, log_sums, jnp.asarray(False)
    (rows, log_sums, lost), collected = jax.lax.scan(body, start, steps, reverse=True)
    return rows, collected if log_sums is None else log_sums, lost


def with_bands_if_lost(run: Callable[[bool], tuple[Any, Array]]) -> Any:
    """Return what `run(bands) -> (result, lost)` gives without bands, or with, if any are lost.

    Ordinary gradients do not need bands, and pay for no more than the question.
    """
    result, lost = run(False)
    return jax.lax.cond(lost.any(), lambda: run(True)[0], lambda: result)


def _with_low(pull: Any, received: Any, at_h: Any, exponent: Array, low: Any):
    """Pull the low entries back as well, a band of exponents at a time, none in ordinary cases.

    Returns:
      What wrt received, its exponents, and the next rows without `trusted`.
    """
    exponents = jax.tree.map(lambda _: exponent, received)

    def body(carry: Any):
        low, received, exponents, rows = carry
        band, top, rest = _leading_band(low)
        to_wrt, to_h = jax.vmap(pull)(band)
        pairs = jax.tree.map(
            lambda a, e, b: _sum_of_rows((a, e), (b, top)), received, exponents, to_wrt
        )
        pick = lambda i: jax.tree.map(lambda _, pair: pair[i], received, pairs)
        return rest, pick(0), pick(1), _add_entries(rows, to_h, top)

    start = low, received, exponents, _banded(at_h, exponent)
    left = lambda carry: (carry[0].mantissa != 0).any()
    return jax.lax.while_loop(left, body, start)[1:]


def _band_width(dtype: Any) -> int:
    """Return how far apart entries of one row may be, so that products of two do not underflow."""
    return int(jnp.finfo(dtype).maxexp) // 2


def _is_small(mantissa: Array) -> Array:
    return jnp.abs(mantissa) < jnp.asarray(2.0 ** -_band_width(mantissa.dtype), mantissa.dtype)


def _banded(x: Array, exponent: Array) -> tuple[Array, Array, Low]:
    """Return `x [n, S]` times 2^exponent `[n]`, the largest in [½, 1), small entries apart."""
    m, e = split_exponent(x, (1,))
    exponent = exponent + e
    small = _is_small(m)
    low = Low(jnp.where(small, m, 0), jnp.broadcast_to(exponent[:, None], x.shape))
    return jnp.where(small, 0, m), exponent, low


def _leading_band(low: Low) -> tuple[Array, Array, Low]:
    """Return each row's largest entries over 2^top, top `[n]`, and the entries that are left."""
    mantissa, e = jnp.frexp(low.mantissa)
    e = low.exponent + e
    there = mantissa != 0
    top = _largest_exponent(there, e)
    below = e - top[:, None]
    taken = there & (below >= -_band_width(mantissa.dtype))
    band = jnp.where(taken, mantissa * _power(below, mantissa.dtype), 0)
    return band, top, Low(jnp.where(taken, 0, mantissa), e)


def _power(e: Array, dtype: Any) -> Array:
    """Return 2^e for e ≤ 0, to rounding."""
    return jnp.exp2(jnp.minimum(e, 0).astype(dtype))


def _largest_exponent(there: Array, e: Array) -> Array:
    lowest = jnp.iinfo(jnp.int32).min // 4
    top = jnp.where(there, e, lowest).max(1, initial=lowest)
    return jnp.where(top > lowest, top, 0)


def _add_entries(rows: Any, x: Array, exponent: Array) -> tuple[Array, Array, Low]:
    """Add to rows and their low entries `x [n, S]` times 2^exponent, entry by entry."""
    mantissa, row_exponent, low = rows
    whole = jnp.where(mantissa != 0, row_exponent[:, None], low.exponent)
    a, e_a = jnp.frexp(mantissa + low.mantissa)  # one of the two is zero
    b, e_b = jnp.frexp(x)
    e_a, e_b = e_a + whole, e_b + exponent[:, None]
    lowest = jnp.iinfo(jnp.int32).min // 4
    e_a, e_b = jnp.where(a != 0, e_a, lowest), jnp.where(b != 0, e_b, lowest)
    e = jnp.maximum(e_a, e_b)
    m, more = jnp.frexp(a * _power(e_a - e, x.dtype) + b * _power(e_b - e, x.dtype))
    e = jnp.where(m != 0, e + more, 0)
    top = _largest_exponent(m != 0, e)
    below = e - top[:, None]
    near = (m != 0) & (below >= -_band_width(x.dtype))
    return (
        jnp.where(near, m * _power(below, x.dtype), 0),
        top,
        Low(jnp.where(near, 0, m), e),
    )


def _sum_of_rows(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return a + b of arrays `[n, ...]` with exponents `[n]`."""
    scaled = []
    for x, exponent in (a, b):
        m, e = split_exponent(x, tuple(range(1, x.ndim)))
        there = (m != 0).any(tuple(range(1, x.ndim)))
        scaled.append((m, jnp.where(there, e + exponent, jnp.iinfo(jnp.int32).min // 4)))
    (a_m, a_e), (b_m, b_e) = scaled
    e = jnp.maximum(a_e, b_e)
    along = lambda n: n.reshape(-1, *[1] * (a_m.ndim - 1))
    power = lambda n: along(_power(n, a_m.dtype))
    total = a_m * power(a_e - e) + b_m * power(b_e - e)
    return total, jnp.where(e > jnp.iinfo(jnp.int32).min // 4, e, 0)


def _add_at_start(k: Any, received: Any, exponents: Array, rows: Any, from_start: Any):
    """Add at step 0 what the rows at the initial state give to wrt by way of it."""
    mantissa, exponent, low = rows

    def of_rows():
        more = jax.vmap(from_start)(mantissa)
        pairs = jax.tree.map(
            lambda a, e, b: _sum_of_rows((a, e), (b, exponent)), received, exponents, more
        )
        pick = lambda i: jax.tree.map(lambda _, pair: pair[i], received, pairs)
        return pick(0), pick(1)

    def of_entries():
        def body(carry: Any):
            low, received, exponents = carry
            band, top, rest = _leading_band(low)
            more = jax.vmap(from_start)(band)
            pairs = jax.tree.map(
                lambda a, e, b: _sum_of_rows((a, e), (b, top)), received, exponents, more
            )
            pick = lambda i: jax.tree.map(lambda _, pair: pair[i], received, pairs)
            return rest, pick(0), pick(1)

        at_row = jnp.broadcast_to(exponent[:, None], mantissa.shape)
        entries = Low(mantissa + low.mantissa, jnp.where(mantissa != 0, at_row, low.exponent))
        left = lambda carry: (carry[0].mantissa != 0).any()
        return jax.lax.while_loop(left, body, (entries, received, exponents))[1:]

    of_start = of_rows if low is None else of_entries
    return jax.lax.cond(k == 0, of_start, lambda: (received, exponents))


def shifted_rows(table: Array, width: int, fill: float) -> Array:
    """Return row i moved i columns to the right: `[m, n, ...] -> [m, width, ...]`.

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
    """Return `[m, n, ...]` to `[m, width, ...]`."""
    more = [(0, 0)] * a.ndim
    more[1] = (0, width - a.shape[1])
    return jnp.pad(a, more, constant_values=fill)


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
