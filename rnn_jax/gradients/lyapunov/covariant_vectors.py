r"""Covariant Lyapunov vectors: directions that the step Jacobians map onto each other.

.. math:: J_t v_i(t-1) = \gamma_i(t)\, v_i(t), \qquad \lambda_i = \langle \ln \gamma_i \rangle

They are the eigenvectors of a map that is constant and linear. The orthonormal frames Q_t of the
spectrum's sweep are not: only their spans are carried along. But v_i(t) = Q_t c_i(t) with upper
triangular coefficients, and Q_t R_t = J_t Q_{t-1} says how those go back in time,

.. math:: c_i(t-1) = \gamma_i(t)\, R_t^{-1} c_i(t),

where errors shrink at the rate of the gap between exponents (Ginelli et al. 2007).

How much is left of the frame and the coefficients that the sweeps started from is measured: both
are run again from others, Q_0 B_0 and c'. That takes K × K matrices alone, since
J_t ··· J_1 Q_0 B_0 = Q_t (B_t R'_t ··· R'_1).
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_integer
from rnn_jax.gradients.lyapunov.initial_frame import initial_frame
from rnn_jax.gradients.lyapunov.lyapunov_spectrum import state_size
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep, flat_state
from rnn_jax.lengths import batch_of, step_at, steps_of
from rnn_jax.linalg.orthonormalization import orthonormalize
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Key, Params, State

OTHER_STARTS = 3
"""Other frames and coefficients to start from, which the transient is measured by."""


@flax.struct.dataclass
class CovariantVectors:
    """Covariant vectors along the n steps that are neither warmup nor cooldown.

    Attributes:
      states: h, at which the vectors stand, its leaves side by side: `[n + 1, *batch, S]`.
      vectors: v_i, of length 1, before the first of them and after each, `[n + 1, *batch, S, K]`;
        a vector and its negative are the same direction.
      log_growth: ln γ_i, of each step, nats, `[n, *batch, K]`.
      exponents: the mean of ln γ_i over the steps, `[K, *batch]`, in the order of the vectors;
        −inf for a direction that a step maps to zero, which has no vector from there on: NaN.
      transient: the sine of the angle between v_i and what three other starts make of it, the
        largest of all n + 1, `[K, *batch]`.
      trusted: `[K, *batch]`: finite, `transient` below 0.002, and rounding below 0.01 of R_ii at
        every step. Then v_i is within 0.05 of the direction that an endless run would give.
    """

    states: Array
    vectors: Array
    log_growth: Array
    exponents: Array
    transient: Array
    trusted: Array


def covariant_vectors(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    num_exponents: int | None = None,
    warmup: int = 0,
    cooldown: int = 0,
    key: Key | None = None,
) -> CovariantVectors:
    """Return the K leading covariant Lyapunov vectors along the trajectory that `xs` drives.

    A sweep forward with an orthonormalization at every step, and one back through its R. Memory
    grows as T S K for each example, time as T S² K.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      num_exponents: K, from 1 to S; S by default.
      warmup: first steps, in which the frame turns towards the leading directions.
      cooldown: last steps, in which the coefficients do, on their way back. Both transients fall
        as e^{−(λ_i − λ_{i+1}) steps}, and vectors whose exponents are equal are not determined:
        only what they span is.
      key: key of the Gaussian initial frame; the same one every time by default.

    Raises:
      ValueError: num_exponents, warmup or cooldown out of range; what `unroll` raises.

    Reference: Ginelli, Poggi, Turchi, Chaté, Livi and Politi, Characterizing dynamics with
    covariant Lyapunov vectors, Physical Review Letters 99 (2007), arXiv 0706.0510.
    """
    cell, xs, start = continuous(cell, params, xs, initial_state)
    T, batch = steps_of(xs), batch_of(xs)
    S = state_size(start, batch)
    K = S if num_exponents is None else num_exponents
    K = check_integer("num_exponents", K, 1, S, "There are S exponents, S the state's size.")
    warmup = check_integer("warmup", warmup, 0, T - 1, "Some steps of xs must be left to count.")
    remedy = "With the warmup, it must leave steps of xs to count."
    cooldown = check_integer("cooldown", cooldown, 0, T - 1 - warmup, remedy)
    # Whether vector K has settled, the directions after it tell.
    frame = initial_frame(key, start, len(batch), min(K + 2, S))
    return _covariant_vectors(cell, params, xs, start, frame, K, warmup, cooldown)


@compiled("cell", "K", "warmup", "cooldown")
def _covariant_vectors(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    frame: Any,
    K: Any,
    warmup: Any,
    cooldown: Any,
) -> CovariantVectors:
    """Find the first K of those that `frame [*batch, S, L]` turns into."""
    T, batch = steps_of(xs), batch_of(xs)
    L = frame.shape[-1]
    n = T - warmup - cooldown

    def one_example(start_and_frame: Any, xs: Any):
        start, Q = start_and_frame
        advance = LinearizedStep(cell, params, start).advance

        def forward(carry: Any, x: Array):
            h, Q, B = carry
            h, M = advance(h, Q, x)
            M = jnp.where(jnp.isfinite(h).all(), M, jnp.nan)
            Q, R = orthonormalize(M)
            # The vectors are determined by an endless past and future, of which there is some.
            # Other frames Q B, and other triangles at the end, show what is left of that choice:
            # where the vectors that follow from them are not the same, neither is to be trusted.
            B, R_other = jax.vmap(orthonormalize)(R @ B)
            return (h, Q, B), (h, Q, R, B, R_other)

        def settle(carry: Any, x: Array):
            return forward(carry, x)[0], None

        frames_key, coefficients_key = jax.random.split(jax.random.key(1))
        B = jax.random.normal(frames_key, (OTHER_STARTS, L, L), Q.dtype)
        first = flat_state(start, 0), Q, jax.vmap(orthonormalize)(B)[0]
        settled, _ = jax.lax.scan(settle, first, step_at(xs, slice(warmup)))
        _, (hs, Qs, Rs, Bs, others) = jax.lax.scan(
            forward, settled, step_at(xs, slice(warmup, None))
        )

        # Any upper triangle that has no zeros will do for a start.
        c = jnp.triu(jnp.ones((L, L), Rs.dtype))
        cs, log_growth = _coefficients(c, Rs, n)
        # Far from the diagonal, for true coefficients may be: vectors that are almost parallel.
        far = 10 * jax.random.normal(coefficients_key, (OTHER_STARTS, L, L), c.dtype)
        c_others = jnp.eye(L, dtype=c.dtype) + jnp.triu(far, 1)
        of_others = jax.vmap(lambda c, Rs: _coefficients(c, Rs, n)[0], (0, 1), 1)
        c_others = of_others(c_others, others)

        hs = jnp.concatenate([settled[0][None], hs[:n]])
        Qs = jnp.concatenate([settled[1][None], Qs[:n]])
        gone = (Qs == 0).all(1, keepdims=True)
        vectors = jnp.where(gone, jnp.nan, Qs @ cs)
        Bs = jnp.concatenate([settled[2][None], Bs[:n]])
        transient = _sine(cs[:, None], Bs @ c_others).max((0, 1))
        r = jnp.diagonal(Rs, axis1=1, axis2=2)
        # Each step's frame is rounded by ε R_11, which turns a direction of growth R_ii by their
        # ratio.
        noise = 2 * float(jnp.finfo(hs.dtype).eps) * (r.max(1, keepdims=True) / r).max(0)
        return hs, vectors[..., :K], log_growth[:, :K], transient[None, :K], noise[None, :K]

    parts = over_batch(one_example, len(batch), out_axis=1)((start, frame), xs)
    states, vectors, log_growth, transient, noise = parts
    exponents = jnp.moveaxis(log_growth.mean(0), -1, 0)
    transient, noise = (jnp.moveaxis(x[0], -1, 0) for x in (transient, noise))
    trusted = jnp.isfinite(exponents) & (transient < 0.002) & (noise < 0.01)
    return CovariantVectors(states, vectors, log_growth, exponents, transient, trusted)


def _coefficients(c: Array, Rs: Array, n: int) -> tuple[Array, Array]:
    """Return c before the first of n steps and after each, `[n + 1, L, L]`, and ln γ `[n, L]`.

    `c` stands after the last of `Rs [steps, L, L]`.
    """
    # Covariant vectors are Q c with c upper triangular: J takes Q c to Q' R c, so that c' = R c D
    # and going back c = R⁻¹ c' D⁻¹. Backwards, the fastest of what vector i may contain shrinks
    # most: any c forgets where it began, and turns towards the covariant one.
    identity = jnp.eye(len(c), dtype=c.dtype)

    def back(c: Array, R: Array):
        dead = R.diagonal() == 0
        # The vector that dies here is what R maps to zero, which 1 in place of R_ii finds.
        c = jnp.where(dead, identity, jnp.where(dead[:, None], 0, c))
        c = jax.lax.linalg.triangular_solve(R + jnp.diag(dead.astype(R.dtype)), c, left_side=True)
        norms = jnp.linalg.norm(c, axis=0)
        return c / norms, jnp.where(dead, -jnp.inf, -jnp.log(norms))

    def emit(after: Any, R: Array):
        before, log_growth = back(after, R)
        return before, (after, log_growth)

    c, _ = jax.lax.scan(back, c / jnp.linalg.norm(c, axis=0), Rs[n:], reverse=True)
    first, (after, log_growth) = jax.lax.scan(emit, c, Rs[:n], reverse=True)
    return jnp.concatenate([first[None], after]), log_growth


def _sine(x: Array, y: Array) -> Array:
    """Return the sines of the angles between columns of length 1."""
    x = x - (x * y).sum(-2, keepdims=True) * y
    return jnp.linalg.norm(x, axis=-2)
