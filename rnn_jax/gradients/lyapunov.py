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
from collections.abc import Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.compiled import compiled
from rnn_jax.errors import check_integer
from rnn_jax.gradients.continuous import continuous
from rnn_jax.gradients.frames import TangentStep, flat_state, initial_frame
from rnn_jax.gradients.orthonormalization import orthonormalize, share_of_rounding
from rnn_jax.lengths import batch_of, steps_of
from rnn_jax.linalg import log_power_of_two, split_exponent
from rnn_jax.types import Array, Cell, Key, Params, State

GIVEN_UP = 8
"""Orthonormalizations in a row that swallow a direction, after which it is not renewed."""
FORGET = 0.95
"""What a fast time counts at the next orthonormalization: growth is not as even as its average."""


@flax.struct.dataclass
class LyapunovSpectrum:
    """Exponents in nats per step, largest first, each example of `*batch` by itself.

    Attributes:
      exponents: λ, `[K, *batch]`. −inf for a direction that a step maps to zero exactly. Where
        steps map it to less than rounding can tell from zero, an upper limit of λ, which may be
        −inf, and `rounding` is ∞. NaN where the trajectory is not finite.
      standard_errors: of the exponents, `[K, *batch]`: the larger of two estimates. One is by batch
        means, the standard deviation of the means over `blocks` equal stretches of time, over
        √blocks; the other is half the difference of the means over the two halves, which knows of
        what is slower than a block. NaN with less than two blocks.
      trace: the estimate of λ after each block, `[blocks, K, *batch]`.
      trace_steps: counted steps after each block, `[blocks]`.
      rounding: how much rounding may have moved each exponent, nats per step, `[K, *batch]`: with
        δ = 16 n ε R_11 / R_ii for n steps from one orthonormalization to the next, or the largest
        column in between for R_11, the sum of −ln(1 − δ) over all of them, over T, and 4 ε |λ|; ε
        is that of the state's dtype. ∞ once δ has reached 1: there R_ii may be
        noise, and the true exponent may be −inf.
        The 16 was fitted: it holds in 997 of 1,000 cases of benchmarks/flag_coverage_spectra.py.
      trusted: `[K, *batch]`: finite; `rounding` below 0.01; and settled: the means over the two
        halves of the blocks differ by less than 4 standard errors of their difference, those over
        the two halves of the second half by less than 6, for the exponent and for what it is above
        and below its neighbours. These errors are taken from what one block differs from the next,
        which a slow transient hardly adds to. False with less than eight blocks. In 99 of 100 cases
        a trusted exponent is within 3 `standard_errors`, and `rounding`, of an endless run's.
      degenerate: `[K, *batch]`: no further from a neighbour than 2 standard errors of their
        difference, or than rounding. Its value is as good as any, but it has no direction of its
        own.
      interval: steps from one orthonormalization to the next, on average.
      entropy: Σ of the positive exponents, nats per step, `[*batch]`: Ruelle's upper bound of the
        entropy rate; NaN where all K exponents are positive and K < S.
      kaplan_yorke: D = j + Σ_{i≤j} λ_i / |λ_{j+1}| for the largest j with Σ_{i≤j} λ_i ≥ 0, but
        for rounding, `[*batch]`; 0 where λ_1 < 0, S where all S exponents sum to 0 or more. NaN
        where that cannot be told: K < S exponents sum to 0 or more, λ_{j+1} is no more than an
        upper limit, or λ_1 is within 2 standard errors of 0, but not within rounding.
    """

    exponents: Array
    standard_errors: Array
    trace: Array
    trace_steps: Array
    rounding: Array
    trusted: Array
    degenerate: Array
    interval: Array
    entropy: Array
    kaplan_yorke: Array


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
      key: of the Gaussian frame to start from; the same one every time by default. Axes would not
        do: where units do not mix, they never meet the other units' directions.
      interval: steps from one orthonormalization to the next. By default each is chosen from the
        R before it, and from those before that if they were faster: as many steps as let
        R_11 / R_KK reach 1/√ε, at most twice as many as last time, and the same for all examples.
        Under `jax.vmap` give a number: a choice that differs from one member to the next costs an
        orthonormalization at every step.
      blocks: equal stretches of the counted time, for standard errors and the trace; each ends
        with an orthonormalization. Fewer where there are not so many counted steps.

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


@compiled("cell", "warmup", "interval", "blocks")
def _lyapunov_spectrum(cell, params, xs, start, M, warmup, interval, blocks) -> LyapunovSpectrum:
    """From the frame `M [*batch, S, K]`."""
    T, batch = steps_of(xs), batch_of(xs)
    S, K = M.shape[-2:]
    advance, orthonormalize_all = TangentStep(cell, params, start, len(batch)), _frame_and_growth
    h = flat_state(start, len(batch))
    # What J M is rounded by: a frame in float32 goes through a step in half precision.
    eps = float(jnp.finfo(h.dtype).eps)
    orthonormalize_all = functools.partial(orthonormalize_all, eps)
    for _ in batch:
        orthonormalize_all = jax.vmap(orthonormalize_all, in_axes=(0, 0, 0, None))

    # Block b of the counted steps ends at step ends[b]; what comes before is block `blocks`.
    ends = jnp.array([(T - warmup) * (b + 1) // blocks for b in range(blocks)])
    counted = jnp.arange(T) - warmup
    block = jnp.where(counted < 0, blocks, jnp.searchsorted(ends, counted, side="right"))
    forced = jnp.isin(counted + 1, jnp.concatenate([jnp.zeros_like(ends[:1]), ends]))

    def body(carry, at_t):
        h, M, e, peak, finite, since, limit, rate, sums, rounding, count, lost = carry
        x, block, forced = at_t
        h, M = advance(h, M, x)
        finite = finite & jnp.isfinite(h).all(-1)
        since = since + 1
        if interval != 1:
            # Columns are M 2^e, so that none leaves its range however a rate may change.
            M, more = split_exponent(M, (-2,))
            e = e + more
            peak = jnp.maximum(peak, e.max(-1))

        def now(M, e, lost):
            Q, log_R, lost = orthonormalize_all(M, e, lost, since)
            log_R = jnp.where(finite[..., None], log_R, jnp.nan)
            known = jax.lax.stop_gradient(log_R)
            # What is lost in a single step asks for nothing: no interval is shorter.
            held = (lost.in_a_row > 0) & (since == 1)
            spread = _rate(jnp.where(held, -jnp.inf, known), since, eps)
            fastest = jnp.maximum(spread, FORGET * rate)
            chosen = _steps_until_singular(fastest, limit, T)
            moved = jnp.where(
                lost.in_a_row > 0, jnp.inf, _lost_to_rounding(known, since, peak, eps)
            )
            chosen = chosen if interval is None else limit
            return Q, e * 0, e[..., 0] * 0, log_R, moved, since * 0, chosen, fastest, lost

        def not_yet(M, e, lost):
            zeros = jnp.zeros_like(sums[0])
            return M, e, peak, zeros, zeros, since, limit, rate, lost

        due = forced | (since >= limit)
        M, e, peak, log_R, moved, since, limit, rate, lost = jax.lax.cond(
            due, now, not_yet, M, e, lost
        )
        is_counted = block < blocks
        rounding = rounding + jnp.where(is_counted, moved, 0)
        count = count + (due & is_counted).astype(count.dtype)
        # A direction that has died in the warmup stays dead, and so does a NaN.
        sums = sums.at[block].add(log_R)
        return (h, M, e, peak, finite, since, limit, rate, sums, rounding, count, lost), None

    zero = jnp.zeros((), jnp.int32)
    nothing = jnp.zeros((*batch, K), M.dtype)
    first_limit = jnp.asarray(1 if interval is None else interval, jnp.int32)
    sums = jnp.zeros((blocks + 1, *batch, K), M.dtype)
    finite = jnp.isfinite(h).all(-1)
    e, peak = jnp.zeros((*batch, K), jnp.int32), jnp.zeros(batch, jnp.int32)
    lost = Lost(e, nothing)
    rate = nothing.sum() * 0
    carry = (h, M, e, peak, finite, zero, first_limit, rate, sums, nothing, zero, lost)
    (*_, sums, rounding, count, _), _ = jax.lax.scan(body, carry, (xs, block, forced))
    return _spectrum(jnp.moveaxis(sums[:-1], -1, 1), jnp.moveaxis(rounding, -1, 0), ends, count, S)


def _spectrum(sums, rounding, ends, count, S) -> LyapunovSpectrum:
    """From Σ ln R_ii of each block, `[blocks, K, *batch]`."""
    steps = ends.astype(sums.dtype).reshape(-1, *[1] * (sums.ndim - 1))
    order = jnp.argsort(-sums.sum(0), axis=0)  # finite sums may come out of order
    sums = jnp.take_along_axis(sums, order[None], 1)
    trace = jnp.cumsum(sums, 0) / steps
    # Each of the sums that an exponent is the end of may be off in its last digit.
    summed = 4 * jnp.finfo(sums.dtype).eps * jnp.abs(trace[-1])
    rounding = jnp.take_along_axis(rounding, order, 0) / steps[-1] + summed
    means = sums / jnp.diff(steps, axis=0, prepend=0)
    exponents = trace[-1]

    tiny = jnp.finfo(sums.dtype).eps ** 0.5
    standard_errors = jnp.broadcast_to(_standard_errors(means), exponents.shape)
    return LyapunovSpectrum(
        exponents=exponents,
        standard_errors=standard_errors,
        trace=trace,
        trace_steps=ends,
        rounding=rounding,
        trusted=jnp.isfinite(exponents) & (rounding < 0.01) & _settled(means, tiny),
        degenerate=_degenerate(exponents, jnp.nan_to_num(standard_errors) + tiny),
        interval=ends[-1].astype(sums.dtype) / count.astype(sums.dtype),
        entropy=_entropy(exponents, S),
        kaplan_yorke=_kaplan_yorke(exponents, standard_errors, rounding, S),
    )


def _halves(means):
    half = len(means) // 2
    return means[:half].mean(0), means[-half:].mean(0)


def _standard_errors(means):
    """Of the mean over blocks `[blocks, ...]`."""
    if len(means) < 2:
        return jnp.asarray(jnp.nan, means.dtype)
    early, late = _halves(means)
    of_blocks = jnp.std(means, 0, ddof=1) / math.sqrt(len(means))
    return jnp.maximum(of_blocks, jnp.abs(late - early) / 2)


def _settled(means, tiny):
    """Whether neither an exponent nor its distance from a neighbour drifts, `[K, *batch]`."""

    def steady(means, errors=4):
        early, late = _halves(means)
        noise = jnp.sqrt(jnp.square(jnp.diff(means, axis=0)).mean(0) / 2)
        tolerance = errors * noise * math.sqrt(2 / (len(means) // 2))
        return jnp.abs(late - early) <= tolerance + tiny * (1 + jnp.abs(early) + jnp.abs(late))

    def steady_throughout(means):
        # A transient that is steep at first hides how it goes on, but not in the second half.
        rest = means[len(means) // 2 :]
        return steady(means) & (steady(rest, 6) if len(rest) >= 4 else True)

    if len(means) < 8:  # of fewer, no drift is more than their differences
        return jnp.zeros(means.shape[1:], bool)
    gaps = means[:, :-1] - means[:, 1:]
    known = jnp.isfinite(gaps).all(0)
    apart = ~known | steady_throughout(jnp.where(known, gaps, 0))
    edge = jnp.ones((1, *means.shape[2:]), bool)
    beside = jnp.concatenate([apart, edge]) & jnp.concatenate([edge, apart])
    return steady_throughout(means) & beside


def _degenerate(exponents, errors):
    close = exponents[:-1] - exponents[1:] <= 2 * jnp.hypot(errors[:-1], errors[1:])
    none = jnp.zeros_like(exponents[:1], bool)
    return jnp.concatenate([close, none]) | jnp.concatenate([none, close])


def _entropy(exponents, S):
    known = (exponents[-1] <= 0) | (len(exponents) == S)
    # A maximum, unlike a mask, hands NaN on.
    return jnp.where(known, jnp.maximum(exponents, 0).sum(0), jnp.nan)


def _kaplan_yorke(exponents, standard_errors, rounding, S):
    K = len(exponents)
    sums = jnp.cumsum(exponents, 0)
    eps = jnp.finfo(sums.dtype).eps
    limited = jnp.isposinf(rounding)  # to no more than an upper limit, if not −inf itself
    noise = jnp.cumsum(jnp.where(limited, 0, rounding + eps * jnp.abs(exponents)), 0)
    j = jnp.cumprod(sums >= -noise, 0).sum(0)
    padded = jnp.concatenate([jnp.zeros_like(sums[:1]), sums])
    sum_j = jnp.maximum(jnp.take_along_axis(padded, j[None], 0)[0], 0)
    at_next = jnp.minimum(j, K - 1)[None]
    next_one, its_rounding = (jnp.take_along_axis(x, at_next, 0)[0] for x in (exponents, rounding))
    dimension = j.astype(sums.dtype) + sum_j / jnp.abs(next_one)
    beyond = jnp.asarray(S if K == S else jnp.nan, sums.dtype)
    dimension = jnp.where(j == K, beyond, dimension)
    no_limit = (j < K) & (sum_j > 0) & jnp.isfinite(next_one) & jnp.isinf(its_rounding)
    largest = jnp.abs(exponents[0])
    neutral = (largest > noise[0]) & (largest < 2 * standard_errors[0])
    counted = jnp.arange(K).reshape(K, *[1] * j.ndim) < j
    unknown = no_limit | neutral | jnp.isnan(sums[-1]) | (counted & limited).any(0)
    return jnp.where(unknown, jnp.nan, dimension)


class Lost(NamedTuple):
    """Directions of a frame that rounding has swallowed, each `[*batch, K]`.

    Attributes:
      in_a_row: orthonormalizations since the direction was last there.
      rate: ln of the upper limit of its R_ii, per step, when it was last looked for.
    """

    in_a_row: Array
    rate: Array


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

    wanted = swallowed & (in_a_row < GIVEN_UP)
    held = jax.lax.stop_gradient(Q)

    def renew(_):
        others = jax.random.normal(jax.random.key(11), M.shape, M.dtype)
        others = jnp.where(wanted, others, 0)
        for _ in range(2):
            others = others - held @ (held.T @ others)
        return orthonormalize(others)[0], jnp.zeros((), bool)

    new, _ = jax.lax.while_loop(lambda carry: carry[1], renew, (jnp.zeros_like(Q), wanted.any()))
    Q = Q + new
    return Q, log_R, Lost(in_a_row, rate)


def _lost_to_rounding(log_R: Array, since: Array, peak: Array, eps: float) -> Array:
    """How far rounding may have moved each of `log_R [*batch, K]`, nats; ∞ for noise."""
    peak = log_power_of_two(peak, log_R.dtype)[..., None]
    size = jnp.maximum(log_R.max(-1, keepdims=True), peak)
    share = 16 * since.astype(log_R.dtype) * eps * jnp.exp(size - log_R)
    return -jnp.log1p(-jnp.minimum(share, 1))


def _rate(log_R: Array, since: Array, eps: float) -> Array:
    """How fast the frame came closer to singular; 1 is there in a step.

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
