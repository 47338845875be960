"""Upper bounds on ‖∂h_t/∂h_k‖₂, and the check that measured norms keep them.

`gradients.comparison` and `gradients.gated_bounds` have those that keep the blocks of a state
apart; `docs/bounds.md` derives them all. All tables are natural logarithms, `[T+1, T+1, ...]` at
[t, k], -inf for k > t.
"""

from __future__ import annotations

import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell, state_shapes
from rnn_jax.errors import check_array, check_number, check_size, invalid, is_traced
from rnn_jax.linalg import (
    log_power_of_two,
    spectral_norm,
    split_exponent,
)
from rnn_jax.linalg.exponents import ZERO
from rnn_jax.linalg.scaled import Scaled
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params


def norm_bound(cell: Cell, params: Params) -> tuple[Array, float]:
    r"""Return (λ_W, λ_φ) of the bound of Pascanu, Mikolov and Bengio.

    .. math:: \|\partial h_t / \partial h_k\|_2 \le (\lambda_W \lambda_\varphi)^{t-k},

    λ_W the largest singular value of W and λ_φ = sup |φ'|. Each J_i is W times a diagonal of
    values of φ', so ‖J_i‖ ≤ λ_W λ_φ. The largest |eigenvalue| in place of λ_W gives no bound.

    Raises:
      ValueError: a cell whose step Jacobian is not of that form (an LSTM, a function of the
        user's that declares no `norm_bound_terms`); `product_bound` serves every cell.

    Reference: Pascanu, Mikolov and Bengio (2013), arXiv 1211.5063, section 2.1.
    """
    norm_bound_terms = check_cell("cell", cell).norm_bound_terms
    if norm_bound_terms is None:
        raise invalid(
            "cell",
            "one without norm_bound_terms",
            "a step Jacobian W diag(φ') or diag(φ') W, which (λ_W λ_φ)^(t−k) is a theorem about",
            "Use product_bound, which serves every cell, or Cell(..., norm_bound_terms=...).",
        )
    state_shapes(cell, params)
    W, lambda_phi = norm_bound_terms(params)
    return spectral_norm(W), lambda_phi


def power_bound(lambda_W: Array | float, lambda_phi: float, T: int) -> Array:
    """Return (t − k) ln(λ_W λ_φ): `[T+1, T+1, *shape of λ_W]`.

    Raises:
      ValueError: λ or T that are negative, or no real numbers; values of arrays are seen outside
        `jit` only.
    """
    remedy = "Pass the numbers of norm_bound."
    if getattr(lambda_W, "ndim", 0):
        lambda_W = check_array("lambda_W", lambda_W, ("*shape",), remedy=remedy)
        if not is_traced(lambda_W) and (lambda_W < 0).any():
            raise invalid("lambda_W", lambda_W, "norms, which are not negative", remedy)
    elif not _is_nan(lambda_W):
        lambda_W = check_number("lambda_W", lambda_W, least=0, infinite=True, remedy=remedy)
    lambda_phi = check_number("lambda_phi", lambda_phi, least=0, infinite=True, remedy=remedy)
    T = check_size("T", T, least=0)
    lambda_W = jnp.asarray(lambda_W)
    whole = jnp.issubdtype(lambda_W.dtype, jnp.integer)
    lambda_W = lambda_W.astype(float) if whole else lambda_W
    known = not is_traced(lambda_phi) and lambda_phi > 0
    log_phi = math.log(lambda_phi) if known else jnp.log(jnp.asarray(lambda_phi, lambda_W.dtype))
    # Each by itself, for their product may leave the dtype's range.
    rate = jnp.log(lambda_W) + jnp.asarray(log_phi, lambda_W.dtype)
    lag = _lags(T).reshape(T + 1, T + 1, *[1] * rate.ndim).astype(rate.dtype)
    # 0 · ln 0 on the diagonal of a network without recurrence is ln 1, not NaN.
    table = jnp.where(lag == 0, 0, lag * rate)
    return jnp.where(lag < 0, -jnp.inf, table)


def _is_nan(value: Any) -> bool:
    """Return whether a norm is NaN, as that of a W with NaN in it is."""
    return not is_traced(value) and hasattr(value, "dtype") and bool(jnp.isnan(value))


def product_bound(jacobians: Array, weights: Array | None = None) -> Array:
    """Return Σ_{i=k+1}^{t} ln ‖J_i‖₂, the bound Π ‖J_i‖ along the trajectory: `[T+1, T+1, *batch]`.

    `jacobians [T, *batch, S, S]` are those of `step_jacobians`; any cell's. For the cells that
    `norm_bound` serves it is at least as tight. With D = diag(`weights [S]`), all above zero, it is

    ‖∂h_t/∂h_k‖ ≤ cond(D) Π ‖D J_i D⁻¹‖ for t > k,

    theorem 1 of `docs/bounds.md`: an LSTM's h weighed against its c may take nats off every step.

    Raises:
      ValueError: jacobians or weights of another shape, or no floats.
    """
    S = check_array("jacobians", jacobians, ("T", "*batch", "S", "S")).shape[-1]
    if weights is not None:
        remedy = "Pass a positive number for each."
        weights = check_array("weights", weights, (S,), remedy=remedy)
        if not is_traced(weights) and not ((weights > 0) & jnp.isfinite(weights)).all():
            raise invalid("weights", weights, "positive numbers", remedy)
    return _product_bound(jacobians, weights)


@compiled()
def _product_bound(jacobians: Array, weights: Array | None) -> Array:
    T, *batch, _, _ = jacobians.shape
    log_condition = jnp.zeros((), jacobians.dtype)
    if weights is None:
        norms, exponents = _scaled_norm(jacobians)
    else:
        # D J D⁻¹ by mantissas and exponents: weights may be further apart than the dtype reaches.
        m, e = split_exponent(weights, ())
        finite = jnp.isfinite(jacobians).all((-2, -1))
        J = Scaled.of(jnp.where(finite[..., None, None], jacobians, 0) * (m[:, None] / m))
        shifted = lambda at, e: jnp.where(at == ZERO, ZERO, at + e)
        weighted, of_all = Scaled(J.m, shifted(J.r, e), shifted(J.c, -e)).at_one_scale()
        norms, exponents = _scaled_norm(weighted)
        norms, exponents = jnp.where(finite, norms, jnp.nan), exponents + of_all
        log_condition = jnp.log(weights.max()) - jnp.log(weights.min())
    k = jnp.arange(T + 1).reshape(T + 1, *[1] * len(batch))

    def next_row(carry: Any, step: Any):
        # Π ‖J_i‖ itself, with an exponent apart: a sum of logarithms would be rounded at its size
        # in every step.
        t, norm, e = step
        product, exponent = carry
        product, more = split_exponent(jnp.where(k < t, product * norm, 1), ())
        exponent = jnp.where(k < t, exponent + e, 0) + more
        product, exponent = (jnp.where(k <= t, x, 0) for x in (product, exponent))
        return (product, exponent), jnp.log(product) + log_power_of_two(exponent, norm.dtype)

    start = jnp.broadcast_to(jnp.where(k == 0, 0.5, 0).astype(norms.dtype), (T + 1, *batch))
    first = start, jnp.broadcast_to(jnp.where(k == 0, 1, 0).astype(jnp.int32), (T + 1, *batch))
    first_row = jnp.where(start > 0, 0, -jnp.inf)
    _, rows = jax.lax.scan(next_row, first, (jnp.arange(1, T + 1), norms, exponents))
    table = jnp.concatenate([first_row[None], rows])
    lag = _lags(T).reshape(T + 1, T + 1, *[1] * len(batch))
    return jnp.where(lag > 0, table + log_condition, table)


@flax.struct.dataclass
class BoundCheck:
    """Measured norms beside a bound: the result of `check_bound`.

    Attributes:
      violations: number of (t, k) that exceed the bound by more than rounding, or are NaN: `[...]`.
      worst_excess: the largest ln(measured) − ln(bound) over t > k, negative if the bound is
        never reached: `[...]`.
      measured, bound: the tables that were compared, `[T+1, T+1, ...]`.
      slack: ln(bound) − ln(measured) at [t, k], nats; NaN for k > t, +inf where the measured norm
        is zero: `[T+1, T+1, ...]`.
    """

    violations: Array
    worst_excess: Array
    measured: Array
    bound: Array
    slack: Array


def check_bound(
    log_norms: Array, log_bound: Array, *, state_size: int, error: Array | None = None
) -> BoundCheck:
    """Hold measured `log_norms [T+1, T+1, *batch]` against `log_bound`, one table or one each.

    A norm violates the bound if it is above it by more than its `error` and ε [32 (t − k + 1) +
    4 |ln bound|], which is what rounding may take off a bound that is a product of t − k factors.
    ε is that of the measured dtype. NaN counts as a violation.

    Args:
      log_norms: measured.
      log_bound: the bound.
      state_size: S, which sets the error where it is not given: ε S (t − k + 1).
      error: error of the measured norms, like them, as of `certified_log_norms`.

    Raises:
      ValueError: tables that are not square or do not fit each other.
    """
    remedy = "Pass the tables of jacobian_log_norms and of a bound for the same T."
    table = ("T+1", "T+1", "*batch")
    log_norms = check_array("log_norms", log_norms, table, remedy=remedy)
    T = len(log_norms) - 1
    log_bound = check_array("log_bound", log_bound, (T + 1, T + 1, "*batch"), remedy=remedy)
    if log_bound.ndim > log_norms.ndim:
        raise invalid("log_bound", log_bound, "no more axes than log_norms has", remedy)
    state_size = check_size("state_size", state_size)
    if error is not None:
        error = check_array("error", error, log_norms.shape, remedy="Pass one for each norm.")
    batch_axes = [1] * (log_norms.ndim - log_bound.ndim)
    log_bound = log_bound.reshape(*log_bound.shape, *batch_axes).astype(log_norms.dtype)
    lag = _lags(T).reshape(T + 1, T + 1, *[1] * (log_norms.ndim - 2)).astype(log_norms.dtype)
    eps = jnp.asarray(jnp.finfo(log_norms.dtype).eps, log_norms.dtype)
    error = eps * state_size * (lag + 1) if error is None else error
    # A tight bound is reached: an orthogonal W with a linear φ has equality at every lag, and
    # rounding decides on which side a norm comes to lie. A product of t − k factors is off by about
    # ε a factor, and a logarithm by ε of itself.
    rounding = error + eps * (32 * (lag + 1) + 4 * jnp.abs(log_bound))
    holds = (log_norms <= log_bound + rounding) | (log_norms == -jnp.inf)
    slack = jnp.where(log_norms == -jnp.inf, jnp.inf, log_bound - log_norms)
    return BoundCheck(
        violations=jnp.sum(~holds & (lag >= 0), axis=(0, 1)),
        worst_excess=jnp.max(jnp.where(lag > 0, -slack, -jnp.inf), axis=(0, 1)),
        measured=log_norms,
        bound=jnp.broadcast_to(log_bound, log_norms.shape),
        slack=jnp.where(lag >= 0, slack, jnp.nan),
    )


def _scaled_norm(A: Array) -> tuple[Array, Array]:
    """Return m and int32 e of the norm m 2^e of `A [..., m, n]`; m is NaN where A is not finite."""
    m, e = split_exponent(A, (-2, -1))
    # LAPACK's answer to what is not finite is undefined: zeros stand in for it.
    finite = jnp.isfinite(m).all((-2, -1))
    sigma = spectral_norm(jnp.where(finite[..., None, None], m, 0))
    return jnp.where(finite, sigma, jnp.nan), e


def _lags(T: int) -> Array:
    states = jnp.arange(T + 1)
    return states[:, None] - states[None, :]
