r"""All singular values of ∂h_t/∂h_{t−l}, the small ones too.

Multiplied out, the product would keep the singular values within ε of the largest and lose the
rest. Instead Q_0 with orthonormal rows is taken back from t, and orthonormalized at each step:

.. math::
    Q_{i-1} J_{t-i+1} = R_i^\top Q_i, \qquad
    Q_0 \frac{\partial h_t}{\partial h_{t-l}} = (R_l \cdots R_1)^\top Q_l .

R_l ··· R_1 = D T with D = Π diag(R_i), as mantissas and exponents, and T unit upper triangular:

.. math:: T \leftarrow (D^{-1} \operatorname{diag}(R_i)^{-1} R_i D) \, T ,

in which d_j / d_i is small where j > i, because a frame in general position meets the large
directions first. The singular values of D T are those of `graded_singular_values`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.gradients.jacobians.norms_by_lag import check_states
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep
from rnn_jax.lengths import batch_of, step_at, steps_of
from rnn_jax.linalg import split_exponent
from rnn_jax.linalg.jacobi import log_singular_values
from rnn_jax.linalg.orthonormalization import orthonormalize
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, at_least_float32


@flax.struct.dataclass
class SingularSpectra:
    """Singular values of ∂h_t/∂h_{t−l}, n of t and m of l.

    Attributes:
      log_values: ln σ, largest first, `[n, m, S, *batch]`; −inf where a step maps a direction to
        zero, or to less than rounding can tell from it; NaN where t < l or the trajectory up to t
        is not finite.
      rounding: how far, in nats, rounding may have moved each: like log_values. With δ the sum over
        all steps of 8 ε √S R_11 / R_ii, and of 8 ε √S κ(T), it is −ln(1 − δ), and ∞ from δ = 1 on.
      trusted: finite, `rounding` below 0.1, and Jacobi's method converged: like log_values. A value
        that is not is no more than an upper limit: that of a singular Jacobian, say, is truly −inf.
    """

    log_values: Array
    rounding: Array
    trusted: Array

    @property
    def log_condition(self) -> Array:
        """Return ln of the condition, σ_1 / σ_S, `[n, m, *batch]`; NaN where not trusted."""
        trusted = self.trusted[:, :, 0] & self.trusted[:, :, -1]
        ratio = self.log_values[:, :, 0] - self.log_values[:, :, -1]
        return jnp.where(trusted, ratio, jnp.nan)


def singular_spectra(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    lags: Sequence[int],
    times: Sequence[int] | None = None,
) -> SingularSpectra:
    """Return ln of all singular values of ∂h_t/∂h_{t−l} at [index of t, index of l].

    Each value has its own relative accuracy, at any lag, in float32 too: condition numbers of
    e^5000 are no harder than of 10. `rounding` bounds the error of each value.

    Time for each t grows as max(l) S³, and for each (t, l) as some ten sweeps of S³; memory, for
    each example, as n m S² and T S.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      lags: l, of 0 .. T.
      times: t, of 0 .. T; T alone by default. States count as in `trajectory`.

    Raises:
      ValueError: lags or times out of range, and what `unroll` raises.

    Reference: for the triangular products, Benettin et al. (1980); Demmel and Veselić (1992).
    """
    cell, xs, start = continuous(cell, params, xs, initial_state)
    T = steps_of(xs)
    each_lag = check_states("lags", lags, T)
    each_time = check_states("times", [T] if times is None else times, T)
    return _singular_spectra(cell, params, xs, start, each_lag, each_time, int(max(lags)))


@compiled("cell", "longest")
def _singular_spectra(
    cell: Cell, params: Params, xs: Any, start: State, lags: Any, times: Any, longest: Any
) -> SingularSpectra:
    def one_example(start: State, xs: Any):
        step = LinearizedStep(cell, params, start)
        states = step.states(xs)

        def at(t: Any):
            return _spectra_at(step, states, xs, t, lags, longest)

        return jax.lax.map(at, times)

    return over_batch(one_example, len(batch_of(xs)), out_axis=3)(start, xs)


def _spectra_at(
    linearized: Any, states: Any, xs: Any, t: Any, lags: Any, longest: Any
) -> SingularSpectra:
    S, wide = states.shape[-1], at_least_float32(states).dtype
    # Products with J come out in the state's dtype.
    eps = jnp.asarray(8 * S**0.5 * jnp.finfo(states.dtype).eps, wide)
    frame = orthonormalize(jax.random.normal(jax.random.key(1211), (S, S), wide))[0].T

    def step(carry: Any, l: Any):
        Q, (m, e), T, lost, kept = carry
        i = jnp.clip(t - l, 0, steps_of(xs) - 1)
        M = linearized.vjp(states[i], step_at(xs, i), Q.astype(states.dtype)).astype(wide)
        # A state that is not finite makes all later ones so, and may hide it from its Jacobian.
        Q, R = orthonormalize(jnp.where(jnp.isfinite(states[i]).all(), M.T, jnp.nan))
        r = jnp.diagonal(R)
        dead = r == 0
        lost = lost + jnp.where(dead, jnp.inf, eps * r.max() / jnp.where(dead, 1, r))
        # Q R Q R ... is carried as D T̂, with D = diag(r_1 r_2 ..) and T̂ a unit triangle: D goes
        # over any number of magnitudes, and T̂ stays of the size of 1, since (D⁻¹ R̂ D) scales
        # entry (i, j) by d_j / d_i, which falls for the order that QR brings directions into.
        # Singular values that are e^5000 apart then each keep their own relative accuracy, which no
        # single matrix could hold. Directions that have died count for nothing from here on.
        T = _scaled_triangle(R / jnp.where(dead, 1, r)[:, None], m, e) @ T
        m, more = split_exponent((m * r)[:, None], (1,))
        scale = (m[:, 0], e + more)
        kept = jax.tree.map(
            lambda all_lags, now: jnp.where(
                (lags == l).reshape(-1, *[1] * now.ndim), now, all_lags
            ),
            kept,
            (*scale, T, lost),
        )
        return (Q.T, scale, T, lost, kept), None

    scale = (jnp.ones(S, wide), jnp.zeros(S, jnp.int32))
    first = (*scale, jnp.eye(S, dtype=wide), jnp.zeros(S, wide))
    kept = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(lags), *x.shape)), first)
    carry = (frame, scale, *first[2:], kept)
    if longest:
        carry, _ = jax.lax.scan(step, carry, jnp.arange(1, longest + 1, dtype=jnp.int32))
    m, e, T, lost = carry[-1]
    log_values, cosine = jax.lax.map(lambda x: log_singular_values(*x), (m[..., None] * T, e))
    # Two ways in which a value is off: what each Q R has moved its R_ii by, relative to it, which
    # adds up over steps; and what Jacobi's rotations of T̂ move it by, as its condition says.
    rounding = -jnp.log1p(-jnp.minimum(lost + (eps * _condition(T))[:, None], 1))
    known = (lags <= t) & jnp.isfinite(states[t]).all()
    log_values = jnp.where(known[:, None], log_values, jnp.nan)
    order = jnp.argsort(-log_values, axis=-1)
    log_values, rounding = (jnp.take_along_axis(x, order, -1) for x in (log_values, rounding))
    rounding = jnp.where(jnp.isnan(log_values), jnp.nan, rounding)
    trusted = jnp.isfinite(log_values) & (rounding < 0.1) & (cosine < 0.01)[:, None]
    return SingularSpectra(log_values, rounding, trusted)


def _scaled_triangle(T: Any, m: Any, e: Array):
    """Return d_j / d_i T_ij, d = m 2^e, of unit upper triangular T."""
    above = jnp.triu(jnp.ones_like(T), 1)
    limit = jnp.finfo(T.dtype).maxexp // 2
    power = jnp.ldexp(jnp.ones((), T.dtype), jnp.clip(e[None, :] - e[:, None], -limit, limit))
    ratio = jnp.where(m[:, None] == 0, 0, m[None, :] / jnp.where(m == 0, 1, m)[:, None])
    return jnp.eye(len(T), dtype=T.dtype) + above * T * ratio * power


def _condition(T: Any):
    """Return ‖T̂‖ ‖T̂⁻¹‖ (Frobenius), T̂ unit upper triangular `T [m, S, S]` with unit rows."""
    T = T / jnp.sqrt(jnp.square(T).sum(-1, keepdims=True))
    identity = jnp.broadcast_to(jnp.eye(T.shape[-1], dtype=T.dtype), T.shape)
    inverse = jax.lax.linalg.triangular_solve(T, identity, left_side=True)
    size = lambda X: jnp.sqrt(jnp.square(X).sum((-2, -1)))
    return size(T) * size(inverse)
