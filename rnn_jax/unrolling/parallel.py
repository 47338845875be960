r"""A recurrence that is linear in its state, over all of time at once.

Steps s -> α s + β compose to steps of the same kind,

.. math::
    (\alpha_2, \beta_2) \circ (\alpha_1, \beta_1)
        = (\alpha_2 \alpha_1,\; \alpha_2 \beta_1 + \beta_2),

and composition is associative, so that T of them take a depth of log T (Blelloch 1990; Martin and
Cundy 2018, arXiv 1709.04057). All states together solve (I − A) s = β, where A has α_t below its
diagonal. So the tangent of the recurrence is the same recurrence, driven by α̇_t s_{t-1} + β̇_t, and
its transpose is that recurrence in reversed time.

A product of many α may overflow where the states do not: 2^300 · 0. So a result that is not finite
is computed once more, one step after the other, which tells what overflowed on the way from what is
not finite indeed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Structure, as_number, as_state
from rnn_jax.lengths import StepMasks, select, select_state
from rnn_jax.linalg import times
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.precision import as_read
from rnn_jax.types import Array, Params, State


def unroll_parallel(
    structure: Structure,
    params: Params,
    xs: Array,
    start: State,
    initial: State,
    masks: StepMasks,
    *,
    reverse: bool,
) -> tuple[State, Array]:
    """Return (final state, ys) of a linear `structure` over `xs [T, *batch, I]`.

    `initial` is the state that the marked steps start from.
    """
    assert structure.linear is not None
    dtype = jax.tree.leaves(start)[0].dtype
    params = as_read(params, xs.dtype)
    constants = structure.constants(params)
    drives = with_wide_sums(structure.drive)(params, times(structure.U(params).T, xs))
    coefficients = structure.linear.coefficients(constants, *drives)
    first = -1 if reverse else 0
    if masks.reset is not None:
        # Where the first step has a reset, nothing of the given state is read, not even NaN.
        start = select_state(masks.reset[first], jax.tree.map(jnp.zeros_like, start), start)

    def states_of(start: State, initial: State, alpha: Any, beta: Any):
        alpha = jnp.broadcast_to(alpha, beta.shape)
        if masks.reset is not None:
            # A step with a reset reads the initial state in place of the one before: its α moves
            # into β, and 0 in its place cuts the products of α that would reach across.
            beta = select(masks.reset, alpha * initial + beta, beta)
            alpha = select(masks.reset, jnp.zeros_like(alpha), alpha)
        if masks.valid is not None:
            # In the padding s_t = 1 s_{t-1} + 0: the state is carried through unchanged.
            alpha = select(masks.valid, alpha, 1)
            beta = select(masks.valid, beta, 0)
        beta = beta.at[first].add(alpha[first] * start)
        return linear_recurrence(alpha, beta, masks.reset, reverse=reverse)

    start = as_number(start)
    initial = jax.tree.map(jnp.zeros_like, start) if masks.reset is None else as_number(initial)
    states = as_state(jax.tree.map(states_of, start, initial, *coefficients), dtype)
    ys = structure.linear.emit(constants, as_number(states), *drives).astype(dtype)
    final = jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states)
    return final, with_wide_sums(structure.output)(params, ys)


def linear_recurrence(
    alpha: Array, beta: Array, reset: Array | None = None, *, reverse: bool = False
) -> Array:
    """Return s_t = α_t s_{t-1} + β_t from s_0 = 0, for all t: `[T, ...], [T, ...] -> [T, ...]`.

    With `reverse`, s_t = α_t s_{t+1} + β_t. Where `reset`, booleans on leading axes, is True, s_t
    is β_t, whatever s_{t-1}; α_t must be 0 there.
    """

    def remainder(s: Array) -> Array:
        """Return (I − A) s."""
        carried = alpha * _shifted(s, reverse)
        return s - (carried if reset is None else select(reset, jnp.zeros_like(s), carried))

    def solve(_: Any, beta: Array) -> Array:
        return _if_finite(at_once, alpha, beta, reset, reverse)

    def at_once(beta: Array) -> Array:
        return _all_at_once(alpha, beta, reverse)

    def solve_transposed(_: Any, beta: Array) -> Array:
        # By transposing the composition, which saves turning all arrays round.
        transposed = lambda beta: jax.linear_transpose(at_once, beta)(beta)[0]
        later = None if reset is None else _shifted(reset, not reverse)
        back = _shifted(alpha, not reverse)
        return _if_finite(transposed, back, beta, later, not reverse)

    # The states solve (I − A) s = β, A being α below the diagonal, and the derivative of a solution
    # is a solution of the same system or of its transpose. Stated so, both modes cost one more
    # `associative_scan` each, where differentiating through the scan would keep all of its log T
    # levels.
    return jax.lax.custom_linear_solve(remainder, beta, solve, solve_transposed)


def _all_at_once(alpha: Array, beta: Array, reverse: bool) -> Array:
    def compose(earlier: Any, later: Any) -> Any:
        return later[0] * earlier[0], later[0] * earlier[1] + later[1]

    return jax.lax.associative_scan(compose, (alpha, beta), reverse=reverse)[1]


def _if_finite(
    at_once: Callable[[Array], Array],
    alpha: Array,
    beta: Array,
    reset: Array | None,
    reverse: bool,
) -> Array:
    """Return `at_once(beta)` if that is finite; if not, the same states one after the other."""

    def step(s: Any, at: Any):
        alpha, beta, reset = at
        after = alpha * s + beta
        s = after if reset is None else select(reset, beta, after)
        return s, s

    def one_by_one(alpha: Any, beta: Any, s: Any):
        return jax.lax.scan(step, jnp.zeros_like(beta[0]), (alpha, beta, reset), reverse=reverse)[1]

    if not isinstance(alpha.shape[0], int):  # `jax.export` of any T
        return one_by_one(alpha, beta, None)
    # The tree multiplies α's that no state ever meets: two growing stretches side by side overflow,
    # and 0 · inf is NaN, where every state itself is finite. That is rare, and then the steps are
    # taken one after the other.
    s = at_once(beta)
    return jax.lax.cond(_is_finite(s), lambda alpha, beta, s: s, one_by_one, alpha, beta, s)


def _is_finite(s: Array) -> Array:
    """Return a scalar; by a maximum over time, half the time of `isfinite(s).all()`."""
    parts = [s.real, s.imag] if jnp.iscomplexobj(s) else [s]
    return jnp.stack([(jnp.abs(part).max(0) < jnp.inf).all() for part in parts]).all()


def _shifted(s: Array, reverse: bool) -> Array:
    """Return s_{t-1} at t, or with `reverse` s_{t+1}; zero at the end where there is none."""
    nothing = jnp.zeros_like(s[:1])
    return jnp.concatenate([s[1:], nothing] if reverse else [nothing, s[:-1]])
