"""A Lyapunov spectrum from sums over time: errors, flags, entropy and dimension.

The exponents are means over equal batches of steps; how those differ from each other tells how far
the mean may be off, and whether it has settled.
"""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax.numpy as jnp

from rnn_jax.types import Array


@flax.struct.dataclass
class LyapunovSpectrum:
    """Exponents in nats per step, largest first, each example of `*batch` by itself.

    Attributes:
      exponents: λ, `[K, *batch]`. −inf for a direction that a step maps to zero exactly. Where
        steps map it to less than rounding can tell from zero, an upper limit of λ, which may be
        −inf, and `rounding` is ∞. NaN where the trajectory is not finite.
      standard_errors: standard errors of the exponents, `[K, *batch]`: the larger of two
        estimates. One is by batch means, the standard deviation of the means over `blocks` equal
        batches of steps, over √blocks; the other is half the difference of the means over the two
        halves, which accounts for correlations longer than a batch. NaN with less than two
        batches.
      trace: the estimate of λ after each batch, `[blocks, K, *batch]`.
      trace_steps: counted steps after each batch, `[blocks]`.
      rounding: how much rounding may have moved each exponent, nats per step, `[K, *batch]`: with
        δ = 32 n ε R_11 / R_ii for n steps from one orthonormalization to the next, or the largest
        column in between for R_11, the sum of −ln(1 − δ) over all of them, over T, and 4 ε |λ|; ε
        is that of the state's dtype. ∞ once δ has reached 1: there R_ii may be noise, and the true
        exponent may be −inf. Directions that shrink and grow again before the next
        orthonormalization, under an `interval` given by hand, are not accounted for. The 32 is
        measured: 5 of 12,000 exponents of benchmarks/flag_coverage_spectra.py were further off.
      trusted: `[K, *batch]`: finite; `rounding` below 0.01; and settled: the means over the two
        halves of the batches differ by less than 4 standard errors of their difference, those over
        the two halves of the second half by less than 6, for the exponent and for what it is above
        and below its neighbours. These errors are taken from what one batch differs from the next,
        which a slow transient hardly adds to. False with less than eight batches. In 99 of 100
        cases a trusted exponent is within 3 `standard_errors`, and `rounding`, of an endless run's:
        one in which no direction dies at a step that is rarer than any of this run.
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


def spectrum_of_sums(
    sums: Array, rounding: Array, ends: Array, count: Array, S: int
) -> LyapunovSpectrum:
    """Return the spectrum of a state of S numbers from its sums over batches of steps.

    Args:
      sums: Σ ln R_ii of each batch, `[blocks, K, *batch]`.
      rounding: error of their totals by rounding, nats, `[K, *batch]`.
      ends: counted steps at the end of each batch, `[blocks]`.
      count: number of orthonormalizations.
    """
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


def _halves(means: Array):
    half = len(means) // 2
    return means[:half].mean(0), means[-half:].mean(0)


def _standard_errors(means: Array):
    """Return the standard errors of the mean over batches, of `means [blocks, ...]`."""
    if len(means) < 2:
        return jnp.asarray(jnp.nan, means.dtype)
    early, late = _halves(means)
    # Batch means take batches as independent. Correlations longer than a batch make them alike, and
    # this estimate too small; the two halves, each of many batches, then differ by more than it.
    of_blocks = jnp.std(means, 0, ddof=1) / math.sqrt(len(means))
    return jnp.maximum(of_blocks, jnp.abs(late - early) / 2)


def _settled(means: Array, tiny: Any):
    """Return whether exponents and their distances from neighbours do not drift, `[K, *batch]`."""

    def steady(means: Array, errors: Any = 4):
        early, late = _halves(means)
        # Von Neumann's estimate: from one batch to the next, a slow drift adds hardly anything,
        # where it would widen the standard deviation and so hide itself.
        noise = jnp.sqrt(jnp.square(jnp.diff(means, axis=0)).mean(0) / 2)
        tolerance = errors * noise * math.sqrt(2 / (len(means) // 2))
        return jnp.abs(late - early) <= tolerance + tiny * (1 + jnp.abs(early) + jnp.abs(late))

    def steady_throughout(means: Array):
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


def _degenerate(exponents: Array, errors: Any):
    close = exponents[:-1] - exponents[1:] <= 2 * jnp.hypot(errors[:-1], errors[1:])
    none = jnp.zeros_like(exponents[:1], bool)
    return jnp.concatenate([close, none]) | jnp.concatenate([none, close])


def _entropy(exponents: Array, S: Any):
    known = (exponents[-1] <= 0) | (len(exponents) == S)
    # A maximum, unlike a mask, hands NaN on.
    return jnp.where(known, jnp.maximum(exponents, 0).sum(0), jnp.nan)


def _kaplan_yorke(exponents: Array, standard_errors: Any, rounding: Any, S: Any):
    K = len(exponents)
    sums = jnp.cumsum(exponents, 0)
    eps = jnp.finfo(sums.dtype).eps
    limited = jnp.isposinf(rounding)  # to no more than an upper limit, if not −inf itself
    noise = jnp.cumsum(jnp.where(limited, 0, rounding + eps * jnp.abs(exponents)), 0)
    # A neutral direction is measured as 0 give or take its rounding, and must count on either side:
    # for a flow, D is the number that includes it.
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
