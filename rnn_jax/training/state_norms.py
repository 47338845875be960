r"""Norms of the gradients at the states, taken chunk by chunk inside the backward pass.

The perturbations that `gradients.unroll_nudged` adds are made, where they are needed, out of one
scalar zero for each state, whose cotangent is not the sum of what the state received but ln of its
norm. Gradients of all states side by side, `[T, *batch, S]`, are never held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.perturbations import Nudges
from rnn_jax.lengths import batch_of, steps_of
from rnn_jax.types import Array, Params, State, at_least_float32


def zero_scalars(cell: Cell, params: Params, xs: Array) -> Nudges:
    """Return scalars for `unroll_nudged(..., spread=spread_scalars(cell, params, xs))`.

    Where `jax.grad` gives perturbations a cotangent of `[*lead, ...]`, it gives these ln of its
    norm over the whole state, `[*lead]`, -inf where it is zero; `[*lead]` is `[*batch]` for `start`
    and `[T, *batch]` for `read` and `passed`.
    """
    T, batch = steps_of(xs), batch_of(xs)
    leaf = jax.tree.leaves(_state_shapes(cell, params, xs))[0]
    dtype = at_least_float32(jnp.zeros((), leaf.dtype)).dtype
    along = jnp.zeros((T, *batch), dtype)
    return Nudges(jnp.zeros(batch, dtype), along, along)


def spread_scalars(cell: Cell, params: Params, xs: Array) -> Callable[[Array], State]:
    """Return `scalars [*lead] -> zeros`, leaves `[*lead, ...]`, [*lead] ending in [*batch]."""
    shapes = _state_shapes(cell, params, xs)
    batch_ndim = len(batch_of(xs))

    @jax.custom_vjp
    def spread(scalars: Array) -> State:
        zeros = lambda leaf: jnp.zeros((*scalars.shape, *leaf.shape[batch_ndim:]), leaf.dtype)
        return jax.tree.map(zeros, shapes)

    def backward(scalars: Any, received: Any):
        # A logarithm in place of a derivative, and no function but this one may see it: JAX adds
        # cotangents, and logarithms do not add. Each scalar is spread once, so nothing is added.
        return (state_log_norms(received, scalars.ndim),)

    spread.defvjp(lambda scalars: (spread(scalars), scalars), backward)
    return spread


def state_log_norms(state: State, lead: int) -> Array:
    """Return ln ‖·‖₂ over all leaves but the first `lead` axes of each: `[*lead]`, -inf at zero.

    In float32 at least, and for any of its normal numbers: the squares of what is large or small
    are summed after a scaling by 2^-k or 2^k, and of the three sums the one in range is taken
    (Blue 1978, ACM TOMS 4(1)); the other two are taken only if some norm wants them.
    """
    leaves = [at_least_float32(leaf) for leaf in jax.tree.leaves(state)]
    dtype = leaves[0].dtype
    maxexp = int(jnp.finfo(dtype).maxexp)
    k = maxexp // 2 - 4

    def log_of_sum(exponent: int) -> tuple[Array, Array]:
        scale = jnp.asarray(2.0**exponent, dtype)
        squares = [
            jnp.sum(jnp.square(leaf * scale), tuple(range(lead, leaf.ndim))) for leaf in leaves
        ]
        total = sum(squares[1:], squares[0])
        return total, jnp.log(total) / 2 - exponent * jnp.log(jnp.asarray(2, dtype))

    total, as_it_is = log_of_sum(0)
    # Below 2^(−5/8 maxexp) some squares may have underflowed, and above 2^(3/4 maxexp) a larger
    # state would overflow; in between, the plain sum is right to rounding.
    is_small = total < jnp.asarray(2.0 ** (-5 * maxexp // 8), dtype)
    is_large = total > jnp.asarray(2.0 ** (3 * maxexp // 4), dtype)

    def with_scales():
        small, large = log_of_sum(k)[1], log_of_sum(-k)[1]
        return jnp.where(is_small, small, jnp.where(is_large, large, as_it_is))

    return jax.lax.cond(jnp.any(is_small | is_large), with_scales, lambda: as_it_is)


def _state_shapes(cell: Cell, params: Params, xs: Any):
    return jax.eval_shape(lambda p: cell.initial_state(p, batch_of(xs)), params)
