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

import flax.struct
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.errors import invalid
from rnn_jax.gradients.orthonormalization import orthonormalize
from rnn_jax.gradients.step_jacobian import step_jacobian
from rnn_jax.types import Array, Cell, Key, Params, State, at_least_float32
from rnn_jax.unroll import checked_start


@flax.struct.dataclass
class LyapunovSpectrum:
    """Exponents in nats per step, largest first, each example of `*batch` by itself.

    Attributes:
      exponents: λ, `[K, *batch]`; NaN where the trajectory is not finite.
      standard_errors: of the exponents, `[K, *batch]`, by batch means: the standard deviation of
        the means over `blocks` equal stretches of time, over √blocks. It knows of fluctuations
        slower than a block nothing, and NaN with less than two blocks.
      trace: the estimate of λ after each block, `[blocks, K, *batch]`.
      trace_steps: counted steps after each block, `[blocks]`.
      rounding: how much rounding may have moved each exponent, nats per step, `[K, *batch]`: the
        sum of ε R_11 / R_ii over all orthonormalizations, over T. An exponent that it reaches, as
        those of a singular Jacobian do, whose true value is −inf, is no more than an upper limit.
      trusted: `[K, *batch]`: finite; `rounding` below 0.01; and the means over the two halves of
        the blocks differ by less than 5 standard errors of their difference, so that what is left
        of the frame's transient is below the noise. False with less than four blocks.
      interval: steps from one orthonormalization to the next, on average.
      entropy: Σ of the positive exponents, nats per step, `[*batch]`: Pesin's upper bound of the
        entropy rate; NaN where all K exponents are positive and K < S.
      kaplan_yorke: D = j + Σ_{i≤j} λ_i / |λ_{j+1}| for the largest j with Σ_{i≤j} λ_i ≥ 0,
        `[*batch]`; 0 where λ_1 < 0, S where all S exponents sum to 0 or more, and NaN where K < S
        exponents do, which do not tell.
    """

    exponents: Array
    standard_errors: Array
    trace: Array
    trace_steps: Array
    rounding: Array
    trusted: Array
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
    r"""The K largest Lyapunov exponents along the trajectory that `xs` drives.

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
        R before it: as many steps as let ln R_11 − ln R_KK reach ln(10⁻³ / ε), at most twice as
        many as last time, and the same for all examples. Under `jax.vmap` give a number: a choice
        that differs from one member to the next costs an orthonormalization at every step.
      blocks: equal stretches of the counted time, for standard errors and the trace; each ends
        with an orthonormalization. Fewer where there are not so many counted steps.

    Raises:
      ValueError: num_exponents, warmup, interval or blocks out of range; what `unroll` raises.

    Numbers are those of the state's dtype, or float32 where that has less.

    References: Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980); for recurrent
    networks, Engelken, Wolf and Abbott (2023), arXiv 2006.02427, and Vogt et al. (2022).
    """
    start = checked_start(cell, params, xs, initial_state)
    T, *batch, _ = xs.shape
    S = _state_size(start) // math.prod(batch)
    K = S if num_exponents is None else num_exponents
    _check_range("num_exponents", K, 1, S, "There are S exponents, S the size of the state.")
    _check_range("warmup", warmup, 0, T - 1, "Some steps of xs must be left to count.")
    _check_range("blocks", blocks, 1, None, "Pass 20, say.")
    if interval is not None:
        _check_range("interval", interval, 1, None, "Pass None to have it chosen.")
    blocks = min(blocks, T - warmup)
    advance, orthonormalize_all = TangentStep(cell, params, start, len(batch)), _log_qr
    for _ in batch:
        orthonormalize_all = jax.vmap(orthonormalize_all)

    # Block b of the counted steps ends at step ends[b]; what comes before is block `blocks`.
    ends = jnp.array([(T - warmup) * (b + 1) // blocks for b in range(blocks)])
    counted = jnp.arange(T) - warmup
    block = jnp.where(counted < 0, blocks, jnp.searchsorted(ends, counted, side="right"))
    forced = jnp.isin(counted + 1, jnp.concatenate([jnp.zeros_like(ends[:1]), ends]))

    M = initial_frame(key, start, len(batch), K)
    eps = jnp.asarray(jnp.finfo(M.dtype).eps, M.dtype)

    def body(carry, at_t):
        h, M, since, limit, sums, rounding, count = carry
        x, block, forced = at_t
        h, M = advance(h, M, x)
        since = since + 1

        def now(M):
            Q, log_R = orthonormalize_all(M)
            known = jax.lax.stop_gradient(log_R)
            chosen = _steps_until_singular(known, since, limit, T)
            lost = jnp.minimum(eps * jnp.exp(known.max(-1, keepdims=True) - known), 1)
            return Q, log_R, lost, since * 0, chosen if interval is None else limit

        def not_yet(M):
            zeros = jnp.zeros_like(sums[0])
            return M, zeros, zeros, since, limit

        due = forced | (since >= limit)
        M, log_R, lost, since, limit = jax.lax.cond(due, now, not_yet, M)
        is_counted = block < blocks
        rounding = rounding + jnp.where(is_counted, lost, 0)
        count = count + (due & is_counted).astype(count.dtype)
        return (h, M, since, limit, sums.at[block].add(log_R), rounding, count), None

    zero = jnp.zeros((), jnp.int32)
    nothing = jnp.zeros((*batch, K), M.dtype)
    first_limit = jnp.asarray(1 if interval is None else interval, jnp.int32)
    sums = jnp.zeros((blocks + 1, *batch, K), M.dtype)
    carry = (flat_state(start, len(batch)), M, zero, first_limit, sums, nothing, zero)
    (_, _, _, _, sums, rounding, count), _ = jax.lax.scan(body, carry, (xs, block, forced))
    return _spectrum(jnp.moveaxis(sums[:-1], -1, 1), jnp.moveaxis(rounding, -1, 0), ends, count, S)


def _spectrum(sums, rounding, ends, count, S) -> LyapunovSpectrum:
    """From Σ ln R_ii of each block, `[blocks, K, *batch]`."""
    blocks = len(sums)
    steps = ends.astype(sums.dtype).reshape(-1, *[1] * (sums.ndim - 1))
    order = jnp.argsort(-sums.sum(0), axis=0)  # finite sums may come out of order
    sums = jnp.take_along_axis(sums, order[None], 1)
    rounding = jnp.take_along_axis(rounding, order, 0) / steps[-1]
    trace = jnp.cumsum(sums, 0) / steps
    means = sums / jnp.diff(steps, axis=0, prepend=0)
    exponents = trace[-1]

    def error(means):
        return jnp.std(means, 0, ddof=1) / math.sqrt(len(means)) if len(means) > 1 else jnp.nan

    half = blocks // 2
    settled = jnp.zeros(exponents.shape, bool)
    if half > 1:
        early, late = means[:half], means[-half:]
        tolerance = 5 * jnp.hypot(error(early), error(late))
        tolerance = tolerance + jnp.finfo(sums.dtype).eps ** 0.5 * (1 + jnp.abs(exponents))
        settled = jnp.abs(late.mean(0) - early.mean(0)) <= tolerance
    return LyapunovSpectrum(
        exponents=exponents,
        standard_errors=jnp.broadcast_to(error(means), exponents.shape),
        trace=trace,
        trace_steps=ends,
        rounding=rounding,
        trusted=jnp.isfinite(exponents) & (rounding < 0.01) & settled,
        interval=ends[-1].astype(sums.dtype) / count.astype(sums.dtype),
        entropy=_entropy(exponents, S),
        kaplan_yorke=_kaplan_yorke(exponents, S),
    )


def _entropy(exponents, S):
    known = (exponents[-1] <= 0) | (len(exponents) == S)
    # A maximum, unlike a mask, hands NaN on.
    return jnp.where(known, jnp.maximum(exponents, 0).sum(0), jnp.nan)


def _kaplan_yorke(exponents, S):
    K = len(exponents)
    sums = jnp.cumsum(exponents, 0)
    j = (sums >= 0).sum(0)  # sums of a falling sequence: once below zero, they stay there
    padded = jnp.concatenate([jnp.zeros_like(sums[:1]), sums])
    sum_j = jnp.take_along_axis(padded, j[None], 0)[0]
    next_one = jnp.take_along_axis(exponents, jnp.minimum(j, K - 1)[None], 0)[0]
    dimension = j.astype(sums.dtype) + sum_j / jnp.abs(next_one)
    beyond = jnp.asarray(S if K == S else jnp.nan, sums.dtype)
    dimension = jnp.where(j == K, beyond, dimension)
    return jnp.where(jnp.isnan(sums[-1]), jnp.nan, dimension)


class TangentStep:
    """`(h [*batch, S], M [*batch, S, K], x [*batch, I]) -> (h', J M)`: a state and its frame."""

    def __init__(self, cell: Cell, params: Params, start: State, batch_ndim: int):
        """`start` gives the layout of the state."""
        example = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[batch_ndim:])[0], start)
        flat, unravel = ravel_pytree(example)

        def step(h, x):
            return ravel_pytree(cell.step(params, unravel(h), x)[0])[0]

        def through(times):
            return lambda M: times(M.astype(flat.dtype)).astype(M.dtype)

        def of_structure(structure, h, M, x):
            J = step_jacobian(structure, params, unravel(h), x)
            return step(h, x), through(J.times)(M)

        def of_any(h, M, x):
            h, tangent = jax.linearize(lambda h: step(h, x), h)
            return h, through(jax.vmap(tangent, in_axes=1, out_axes=1))(M)

        self._step = of_any
        if cell.structure is not None and cell.structure.unitwise:
            self._step = functools.partial(of_structure, cell.structure)
        for _ in range(batch_ndim):
            self._step = jax.vmap(self._step)

    def __call__(self, h: Array, M: Array, x: Array) -> tuple[Array, Array]:
        """One step."""
        return self._step(h, M, x)


def flat_state(state: State, batch_ndim: int) -> Array:
    """`[*batch, S]`, in `ravel_pytree` order."""
    ravel = lambda state: ravel_pytree(state)[0]
    for _ in range(batch_ndim):
        ravel = jax.vmap(ravel)
    return ravel(state)


def initial_frame(key: Key | None, start: State, batch_ndim: int, K: int) -> Array:
    """Orthonormalized Gaussian columns `[*batch, S, K]`, the same for all examples."""
    h = at_least_float32(flat_state(start, batch_ndim))
    key = jax.random.key(0) if key is None else key
    Q, _ = orthonormalize(jax.random.normal(key, (h.shape[-1], K), h.dtype))
    return jnp.broadcast_to(Q, (*h.shape[:-1], *Q.shape))


def _log_qr(M: Array) -> tuple[Array, Array]:
    Q, R = orthonormalize(M)
    return Q, jnp.log(jnp.diagonal(R))


def _steps_until_singular(log_R: Array, since: Array, last: Array, most: int) -> Array:
    """How many steps may follow until the frame is too close to singular, or to over- or underflow.

    `log_R [*batch, K]` is what `since` steps have brought about.
    """
    limits = jnp.finfo(log_R.dtype)
    spread = (log_R.max(-1) - log_R.min(-1)).max() / math.log(1e-3 / limits.eps)
    size = jnp.abs(log_R).max() / (math.log(float(limits.max)) / 4)
    used = jnp.maximum(spread, size) / since.astype(log_R.dtype)
    steps = jnp.where(used * most > 1, 1 / used, most)
    steps = jnp.where(jnp.isfinite(steps), jnp.floor(steps), 1).astype(last.dtype)
    return jnp.clip(steps, 1, jnp.minimum(2 * last, most))


def _state_size(start: State) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(start))


def _check_range(name, value, least, most, remedy):
    if not isinstance(value, int) or value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise invalid(name, value, f"an integer {limits}", remedy)
