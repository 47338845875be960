r"""A recurrence that is linear in its state, over all of time at once.

Steps s -> α s + β compose to steps of the same kind,

.. math::
    (\alpha_2, \beta_2) \circ (\alpha_1, \beta_1)
        = (\alpha_2 \alpha_1,\; \alpha_2 \beta_1 + \beta_2),

and composition is associative, so that T of them take a depth of log T (Blelloch 1990; Martin and
Cundy 2018, arXiv 1709.04057). The tangent of the recurrence is the same recurrence, driven by
α̇_t s_{t-1} + β̇_t; its transpose is that recurrence in reversed time.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.lengths import Marks, select
from rnn_jax.linalg import times
from rnn_jax.structure import Structure
from rnn_jax.types import Array, Params, State, as_number, as_state


def unroll_parallel(
    structure: Structure,
    params: Params,
    xs: Array,
    start: State,
    initial: State,
    marks: Marks,
    *,
    reverse: bool,
) -> tuple[State, Array]:
    """(final state, ys) of a linear `structure` over `xs [T, *batch, I]`.

    `initial` is the state that the marked steps start from.
    """
    assert structure.linear is not None
    dtype = jax.tree.leaves(start)[0].dtype
    constants = structure.constants(params)
    drives = structure.drive(params, times(structure.U(params).T, marks.zero_padding(xs)))
    coefficients = structure.linear.coefficients(constants, *drives)

    def states_of(start, initial, alpha, beta):
        alpha = jnp.broadcast_to(alpha, beta.shape)
        if marks.fresh is not None:
            beta = select(marks.fresh, alpha * initial + beta, beta)
            alpha = select(marks.fresh, jnp.zeros_like(alpha), alpha)
        if marks.valid is not None:
            alpha = select(marks.valid, alpha, 1)
            beta = select(marks.valid, beta, 0)
        first = -1 if reverse else 0
        return linear_recurrence(alpha, beta.at[first].add(alpha[first] * start), reverse)

    start = as_number(start)
    initial = jax.tree.map(jnp.zeros_like, start) if marks.fresh is None else as_number(initial)
    states = as_state(jax.tree.map(states_of, start, initial, *coefficients), dtype)
    ys = structure.linear.emit(constants, as_number(states), *drives).astype(dtype)
    final = jax.tree.map(lambda leaf: leaf[0 if reverse else -1], states)
    return final, marks.zero_padding(structure.output(params, ys))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def linear_recurrence(alpha: Array, beta: Array, reverse: bool = False) -> Array:
    """s_t = α_t s_{t-1} + β_t from s_0 = 0, for all t: `[T, ...], [T, ...] -> [T, ...]`.

    With `reverse`, s_t = α_t s_{t+1} + β_t.
    """

    def compose(earlier: Any, later: Any) -> Any:
        return later[0] * earlier[0], later[0] * earlier[1] + later[1]

    return jax.lax.associative_scan(compose, (alpha, beta), reverse=reverse)[1]


@linear_recurrence.defjvp
def _tangent(reverse, primals, tangents):
    alpha, beta = primals
    d_alpha, d_beta = tangents
    s = linear_recurrence(alpha, beta, reverse)
    nothing = jnp.zeros_like(s[:1])
    before = jnp.concatenate([s[1:], nothing] if reverse else [nothing, s[:-1]])
    return s, linear_recurrence(alpha, d_alpha * before + d_beta, reverse)
