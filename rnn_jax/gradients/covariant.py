r"""Covariant Lyapunov vectors: directions that the step Jacobians map onto each other.

.. math:: J_t v_i(t-1) = \gamma_i(t)\, v_i(t), \qquad \lambda_i = \langle \ln \gamma_i \rangle

They are the eigenvectors of a map that is constant and linear. The orthonormal frames Q_t of the
spectrum's sweep are not: only their spans are carried along. But v_i(t) = Q_t c_i(t) with upper
triangular coefficients, and Q_t R_t = J_t Q_{t-1} says how those go back in time,

.. math:: c_i(t-1) = \gamma_i(t)\, R_t^{-1} c_i(t),

where errors shrink at the rate of the gap between exponents (Ginelli et al. 2007).
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.gradients.continuous import continuous
from rnn_jax.gradients.examples import over_batch
from rnn_jax.gradients.frames import TangentStep, flat_state, initial_frame
from rnn_jax.gradients.lyapunov import check_range, state_size
from rnn_jax.gradients.orthonormalization import orthonormalize
from rnn_jax.types import Array, Cell, Key, Params, State


@flax.struct.dataclass
class CovariantVectors:
    """Of the n steps that are neither warmup nor cooldown.

    Attributes:
      vectors: v_i, of length 1, before the first of them and after each, `[n + 1, *batch, S, K]`;
        a vector and its negative are the same direction.
      log_growth: ln γ_i, of each step, nats, `[n, *batch, K]`.
      exponents: the mean of ln γ_i over the steps, `[K, *batch]`, in the order of the vectors.
      transient: e^{−gap steps}, `[K, *batch]`: the gap to the nearer exponent among the K, times
        warmup or cooldown, whichever is shorter. What is left of the start's choice at the ends of
        the window is of this order; in the middle it is less. 1 where exponents are equal.
      trusted: `[K, *batch]`: finite, and `transient` below 0.01.
    """

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
    """The K leading covariant Lyapunov vectors along the trajectory that `xs` drives.

    A sweep forward with an orthonormalization at every step, and one back through its R. Memory
    grows as T S K for each example, time as T S² K.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      num_exponents: K, from 1 to S; S by default.
      warmup: first steps, in which the frame turns towards the leading directions.
      cooldown: last steps, in which the coefficients do, on their way back. Both transients fall
        as e^{−(λ_i − λ_{i+1}) steps}, and vectors whose exponents are equal are not determined:
        only what they span is.
      key: of the Gaussian frame to start from; the same one every time by default.

    A direction that a singular step Jacobian maps to zero has no past: its vector is noise.

    Raises:
      ValueError: num_exponents, warmup or cooldown out of range; what `unroll` raises.

    Reference: Ginelli, Poggi, Turchi, Chaté, Livi and Politi, Characterizing dynamics with
    covariant Lyapunov vectors, Physical Review Letters 99 (2007), arXiv 0706.0510.
    """
    cell, xs, start = continuous(cell, params, xs, initial_state)
    T, *batch, _ = xs.shape
    S = state_size(start, batch)
    K = S if num_exponents is None else num_exponents
    check_range("num_exponents", K, 1, S, "There are S exponents, S the size of the state.")
    check_range("warmup", warmup, 0, T - 1, "Some steps of xs must be left to count.")
    remedy = "With the warmup, it must leave steps of xs to count."
    check_range("cooldown", cooldown, 0, T - 1 - warmup, remedy)

    n = T - warmup - cooldown

    def one_example(start, xs):
        advance = TangentStep(cell, params, start, 0)

        def forward(carry, x):
            h, Q = carry
            h, M = advance(h, Q, x)
            Q, R = orthonormalize(M)
            return (h, Q), (Q, R)

        def settle(carry, x):
            return forward(carry, x)[0], None

        first = flat_state(start, 0), initial_frame(key, start, 0, K)
        settled, _ = jax.lax.scan(settle, first, xs[:warmup])
        _, (Qs, Rs) = jax.lax.scan(forward, settled, xs[warmup:])

        def back(c, R):
            c = jax.lax.linalg.triangular_solve(R, c, left_side=True)
            norms = jnp.linalg.norm(c, axis=0)
            return c / norms, -jnp.log(norms)

        def emit(c, at_t):
            Q, R = at_t
            before, log_growth = back(c, R)
            return before, (Q @ c, log_growth)

        # Any upper triangle that has no zeros will do for a start.
        c = jnp.triu(jnp.ones((K, K), Rs.dtype))
        c = c / jnp.linalg.norm(c, axis=0)
        c, _ = jax.lax.scan(back, c, Rs[n:], reverse=True)
        c, (vectors, log_growth) = jax.lax.scan(emit, c, (Qs[:n], Rs[:n]), reverse=True)
        vectors = jnp.concatenate([(settled[1] @ c)[None], vectors])
        return vectors, log_growth

    vectors, log_growth = over_batch(one_example, len(batch), out_axis=1)(start, xs)
    exponents = jnp.moveaxis(log_growth.mean(0), -1, 0)
    away = jnp.abs(jnp.diff(exponents, axis=0))
    far = jnp.full_like(exponents[:1], jnp.inf)
    gap = jnp.minimum(jnp.concatenate([away, far]), jnp.concatenate([far, away]))
    transient = jnp.exp(-gap * min(warmup, cooldown)) if K > 1 else jnp.zeros_like(exponents)
    trusted = jnp.isfinite(exponents) & (transient < 0.01)
    return CovariantVectors(vectors, log_growth, exponents, transient, trusted)
