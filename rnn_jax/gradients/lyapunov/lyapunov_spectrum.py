r"""Lyapunov spectra: the exponential rates at which tangent vectors grow along a trajectory.

A frame of K orthonormal columns is carried along by the step Jacobians and, from time to time,
orthonormalized again (Benettin et al. 1980):

.. math::
    J_t \cdots J_{s+1} Q_s = Q_t R_t, \qquad
    \lambda_i = \frac{1}{T} \sum_t \ln (R_t)_{ii} .
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_integer
from rnn_jax.gradients.lyapunov.initial_frame import initial_frame
from rnn_jax.gradients.lyapunov.spectrum_statistics import LyapunovSpectrum, spectrum_of_sums
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep, flat_state, zeros_of_one
from rnn_jax.lengths import batch_of, steps_of
from rnn_jax.linalg import log_power_of_two
from rnn_jax.linalg.exponents import column_exponents, scale_columns
from rnn_jax.linalg.orthonormalization import orthonormalize, renewed, share_of_rounding
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Key, Params, State

GIVEN_UP = 8
"""Orthonormalizations in a row that swallow a direction, after which it is not renewed."""
FAR = 8
"""Powers of two that a column may grow or shrink by before its scale is taken out."""
RATE_DECAY = 0.95
"""Weight of the fastest rate so far at the next orthonormalization: growth is not even."""


def lyapunov_spectrum(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    num_exponents: int | None = None,
    warmup: int = 0,
    key: Key | None = None,
    interval: int | None = None,
    blocks: int = 20,
) -> LyapunovSpectrum:
    r"""Return the K largest Lyapunov exponents along the trajectory that `xs` drives.

    Neither a Jacobian nor a trajectory is stored: time grows as T S² K and memory as S K for each
    example. A cell with a unit-wise `structure` multiplies the frame by its diagonals and W; the
    step of any other is linearized once and applied to K tangents.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves. An autonomous system
        takes `xs [T, 0]`.
      num_exponents: K, from 1 to S; S by default.
      warmup: first steps that are taken, by the state and by the frame, but not counted. The frame
        turns towards the leading directions at a rate of the gap between exponents, so its
        transient may outlast that of the state.
      key: key of the Gaussian initial frame; the same one every time by default. Axes would not
        do: where units do not mix, they never meet the other units' directions.
      interval: steps from one orthonormalization to the next. By default each is chosen from the
        R before it, and from those before that if they were faster: as many steps as let
        R_11 / R_KK reach 1/√ε, at most twice as many as last time, and the same for all examples.
        Under `jax.vmap` give a number: a choice that differs from one member to the next costs an
        orthonormalization at every step.
      blocks: batches of consecutive steps, equally long, for standard errors (by batch means) and
        the trace; each ends with an orthonormalization. Fewer where fewer steps are counted.

    Raises:
      ValueError: num_exponents, warmup, interval or blocks out of range; what `unroll` raises.

    Numbers are those of the state's dtype, or float32 where that has less.

    References: Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980); for recurrent
    networks, Engelken, Wolf and Abbott (2023), arXiv 2006.02427, and Vogt et al. (2022), arXiv
    2006.14123.
    """
    cell, xs, start = continuous(cell, params, xs, initial_state)
    T, batch = steps_of(xs), batch_of(xs)
    S = state_size(start, batch)
    K = S if num_exponents is None else num_exponents
    K = check_integer("num_exponents", K, 1, S, "There are S exponents, S the state's size.")
    warmup = check_integer("warmup", warmup, 0, T - 1, "Some steps of xs must be left to count.")
    blocks = min(check_integer("blocks", blocks, 1, None, "Pass 20, say."), T - warmup)
    if interval is not None:
        interval = check_integer("interval", interval, 1, None, "Pass None to have it chosen.")
    frame = initial_frame(key, start, len(batch), K)
    return _lyapunov_spectrum(cell, params, xs, start, frame, warmup, interval, blocks)


class Frame(NamedTuple):
    """Columns M 2^e on their way since they were last orthonormal.

    Attributes:
      M: `[*batch, S, K]`, within 2^±FAR before each step.
      e: `[*batch, K]`, int32.
      peak: `[*batch]`, the largest exponent of any column on the way.
      since: steps taken.
      limit: steps after which they are orthonormalized.
      rate: how fast a frame came closer to singular, see `_rate`: what the next limit is chosen by.
      lost: directions that rounding has swallowed.
    """

    M: Array
    e: Array
    peak: Array
    since: Array
    limit: Array
    rate: Array
    lost: Lost


class Lost(NamedTuple):
    """Directions of a frame that rounding has swallowed, each `[*batch, K]`.

    Attributes:
      in_a_row: orthonormalizations since the direction was last there.
      rate: ln of the upper limit of its R_ii, per step, when it was last looked for.
    """

    in_a_row: Array
    rate: Array


@compiled("cell", "warmup", "interval", "blocks")
def _lyapunov_spectrum(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    M: Array,
    warmup: Any,
    interval: Any,
    blocks: Any,
) -> LyapunovSpectrum:
    """Find the spectrum from the frame `M [*batch, S, K]`."""
    T, batch = steps_of(xs), batch_of(xs)
    S, K = M.shape[-2:]
    advance = LinearizedStep(cell, params, zeros_of_one(start, len(batch))).advance
    h = flat_state(start, len(batch))
    # What J M is rounded by: a frame in float32 goes through a step in half precision.
    eps = float(jnp.finfo(h.dtype).eps)
    orthonormalize_all: Callable[..., Any] = functools.partial(_frame_and_growth, eps)
    for _ in batch:
        advance = jax.vmap(advance)
        orthonormalize_all = jax.vmap(orthonormalize_all, in_axes=(0, 0, 0, None))

    # Batch of steps b of those that count ends at step ends[b]; the warmup is batch `blocks`.
    ends = jnp.array([(T - warmup) * (b + 1) // blocks for b in range(blocks)])
    counted = jnp.arange(T) - warmup
    block = jnp.where(counted < 0, blocks, jnp.searchsorted(ends, counted, side="right"))
    forced = jnp.isin(counted + 1, jnp.concatenate([jnp.zeros_like(ends[:1]), ends]))

    def body(carry: Any, at_t: Any):
        h, frame, finite, sums, rounding, count = carry
        x, block, forced = at_t
        # Between orthonormalizations only J M is taken, and columns are M 2^e. When one is due, by
        # the chosen limit or since a batch ends, ln R_ii goes to the batch's sum, the frame starts
        # anew, and the next limit is chosen from how far R came towards singular. `rounding`
        # collects how far rounding may have moved each ln R_ii, and `lost` what it has swallowed.
        h, M = advance(h, frame.M, x)
        finite = finite & jnp.isfinite(h).all(-1)
        frame = frame._replace(M=M, since=frame.since + 1)

        def now(frame: Frame):
            Q, log_R, lost = orthonormalize_all(frame.M, frame.e, frame.lost, frame.since)
            log_R = jnp.where(finite[..., None], log_R, jnp.nan)
            anew = _begun_anew(frame, Q, log_R, lost, eps, T, is_chosen=interval is None)
            moved = _lost_to_rounding(log_R, frame, eps)
            return anew, log_R, jnp.where(lost.in_a_row > 0, jnp.inf, moved)

        def not_yet(frame: Frame):
            zeros = jnp.zeros_like(sums[0])
            return _in_range(frame), zeros, zeros

        due = forced | (frame.since >= frame.limit)
        frame, log_R, moved = jax.lax.cond(due, now, not_yet, frame)
        is_counted = block < blocks
        rounding = rounding + jnp.where(is_counted, moved, 0)
        count = count + (due & is_counted).astype(count.dtype)
        # A direction that has died in the warmup stays dead, and so does a NaN.
        sums = sums.at[block].add(log_R)
        return (h, frame, finite, sums, rounding, count), None

    nothing = jnp.zeros((*batch, K), M.dtype)
    zero, e = jnp.zeros((), jnp.int32), jnp.zeros((*batch, K), jnp.int32)
    frame = Frame(
        M,
        e,
        peak=jnp.zeros(batch, jnp.int32),
        since=zero,
        limit=jnp.asarray(1 if interval is None else interval, jnp.int32),
        rate=nothing.sum() * 0,
        lost=Lost(e, nothing),
    )
    sums = jnp.zeros((blocks + 1, *batch, K), M.dtype)
    carry = (h, frame, jnp.isfinite(h).all(-1), sums, nothing, zero)
    (*_, sums, rounding, count), _ = jax.lax.scan(body, carry, (xs, block, forced))
    return spectrum_of_sums(
        jnp.moveaxis(sums[:-1], -1, 1), jnp.moveaxis(rounding, -1, 0), ends, count, S
    )


def _begun_anew(
    frame: Frame, Q: Array, log_R: Array, lost: Lost, eps: float, T: int, *, is_chosen: bool
) -> Frame:
    """Return the frame of Q, and when it will be orthonormalized next."""
    # What is lost in a single step asks for nothing: no interval is shorter.
    held = (lost.in_a_row > 0) & (frame.since == 1)
    known = jnp.where(held, -jnp.inf, jax.lax.stop_gradient(log_R))
    # Growth is not as even as its average: a fast stretch is remembered, and forgotten slowly.
    rate = jnp.maximum(_rate(known, frame.since, eps), RATE_DECAY * frame.rate)
    limit = _steps_until_singular(rate, frame.limit, T) if is_chosen else frame.limit
    zeros = frame.e * 0
    return Frame(Q, zeros, zeros[..., 0], frame.since * 0, limit, rate, lost)


def _in_range(frame: Frame) -> Frame:
    """Return the frame with its columns within 2^±FAR.

    However a rate may change, none then leaves its range but by a step that does nearly so alone.
    """
    size = column_exponents(jax.lax.stop_gradient(frame.M))
    peak = jnp.maximum(frame.peak, (frame.e + size).max(-1))
    # Most steps move no column far, and then M is not read again.
    scaled = lambda M, e: (scale_columns(M, -size), e + size)
    far = (jnp.abs(size) > FAR).any()
    M, e = jax.lax.cond(far, scaled, lambda M, e: (M, e), frame.M, frame.e)
    return frame._replace(M=M, e=e, peak=peak)


def _frame_and_growth(
    eps: float, M: Array, e: Array, lost: Lost, since: Array
) -> tuple[Array, Array, Lost]:
    """Return Q, ln R_ii and what is lost of M 2^e, `[S, K]`: a frame after `since` steps.

    A column of zeros has died: −inf, and zeros it stays. So has a column that follows as many
    others as M has rows that are not zero, the units that are on. Of another column that depends on
    those before it to rounding, R_ii is at most what rounding hides: that is its growth, and a
    random direction takes its place, until it has been lost `GIVEN_UP` times in a row.
    """
    S, K = M.shape
    steps = since.astype(M.dtype)
    alive = (M != 0).any(0)
    units = (M != 0).any(1).sum(dtype=jnp.int32)
    M = jnp.where(jnp.cumsum(alive, dtype=jnp.int32) <= units, M, 0)
    Q, R = orthonormalize(M)
    r = jnp.diagonal(R)
    size = jax.lax.stop_gradient(jnp.sqrt(jnp.square(R).sum(0)))
    given_up = lost.in_a_row >= GIVEN_UP
    swallowed = (r == 0) & (size > 0)
    scale = log_power_of_two(e, M.dtype)
    limit = jnp.log(jnp.where(swallowed, size, 1) * share_of_rounding(S, K, eps)) + scale
    rate = jnp.where(swallowed, limit / steps, lost.rate)
    missing = swallowed | given_up
    growth = jnp.log(jnp.where(r == 0, 1, r)) + scale
    log_R = jnp.where(missing, steps * rate, jnp.where(r == 0, -jnp.inf, growth))
    in_a_row = jnp.where(missing, lost.in_a_row + 1, 0)

    held = jax.lax.stop_gradient(Q)
    new = renewed(held, swallowed & (in_a_row < GIVEN_UP)) - held
    return Q + new, log_R, Lost(in_a_row, rate)


def _lost_to_rounding(log_R: Array, frame: Frame, eps: float) -> Array:
    """Return how far rounding may have moved each of `log_R [*batch, K]`, nats; ∞ for noise."""
    # Each step rounds every column by ε times the largest of the frame, which R_ii, what is left of
    # a column beside those before it, may be far below: the share of R_ii that is rounding grows as
    # n ε max / R_ii over the n steps since the columns were orthonormal. The 32 is measured.
    log_R = jax.lax.stop_gradient(log_R)
    peak = log_power_of_two(frame.peak, log_R.dtype)[..., None]
    size = jnp.maximum(log_R.max(-1, keepdims=True), peak)
    share = 32 * frame.since.astype(log_R.dtype) * eps * jnp.exp(size - log_R)
    return -jnp.log1p(-jnp.minimum(share, 1))


def _rate(log_R: Array, since: Array, eps: float) -> Array:
    """Return how fast the frame came closer to singular; 1 is there in a step.

    `log_R [*batch, K]` is what `since` steps have brought about. What has died, or is not finite,
    asks for nothing.
    """
    alive = jnp.isfinite(log_R)
    least = jnp.where(alive, log_R, jnp.inf).min(-1)
    most = jnp.where(alive, log_R, -jnp.inf).max(-1)
    spread = jnp.max(most - least, initial=0) / math.log(eps**-0.5)
    return spread / since.astype(log_R.dtype)


def _steps_until_singular(rate: Array, last: Array, most: int) -> Array:
    steps = jnp.where(rate * most > 1, 1 / rate, most)
    steps = jnp.where(jnp.isfinite(steps), jnp.floor(steps), 1).astype(last.dtype)
    return jnp.clip(steps, 1, jnp.minimum(2 * last, most))


def state_size(start: State, batch: Sequence[int]) -> int:
    """Return S."""
    return sum(math.prod(leaf.shape[len(batch) :]) for leaf in jax.tree.leaves(start))
