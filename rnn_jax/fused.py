r"""A structured cell over time, with every product that can leave the loop outside of it.

The tangent of a recurrence is a linear recurrence that is driven by immediate derivatives. With
a_t = d_t + W e_t, e_t being what is fed back of the state s_{t-1},

.. math::
    \dot a_t = \underbrace{\dot d_t + \dot W e_t}_{\text{immediate}} + W \dot e_t

The immediate part of all steps is one large product, since every e_t is known by then; only W ė_t
has to wait for the step before it. That is how the derivative is written down here, as a
`jax.custom_jvp`, and JAX's transpose of it is backpropagation through time in which the gradient of
W is one large product. Nothing else is custom, so reverse and forward mode, their compositions and
vmap all work.

Time goes by in chunks that fit the cache. For the backward pass a chunk keeps its states, and
recomputes its pre-activations by one product, or keeps its pre-activations, and recomputes its
states by pointwise maths.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rnn_jax.lengths import Marks
from rnn_jax.linalg import matvec, times
from rnn_jax.structure import Structure
from rnn_jax.types import Array, Params, State

KEPT = "rnn_jax: kept for the backward pass"


def unroll_fused(
    structure: Structure,
    params: Params,
    xs: Array,
    start: State,
    initial: State,
    marks: Marks,
    *,
    reverse: bool,
    chunk: int,
    recompute: bool,
    more: Any = (),
    drives_of: Callable[[Any], Sequence[Array]] = jax.tree.leaves,
) -> tuple[State, Array]:
    """(final state, ys) of `structure` over `xs [T, *batch, I]`, `chunk` steps at a time.

    `initial` is the state that the marked steps start from. `more`, leaves `[T, *batch, ...]`, is
    for drives beyond those that the structure makes of xs, which reach `pointwise` as they are:
    `drives_of` the part of it in a chunk.
    """
    matrices = tuple(product.W(params) for product in structure.products)
    # e W^T is a product of row-major operands in this form, which is the fast one, and the
    # gradient with respect to W^T is accumulated in it.
    transposed = tuple(W.T for W in matrices)
    U_transposed = structure.U(params).T
    constants = structure.constants(params)
    take_chunk = _differentiable_chunk(structure, reverse, recompute)

    def body(state, at):
        x, marks, more = at
        drives = structure.drive(params, times(U_transposed, marks.zero_padding(x)))
        drives = (*drives, *drives_of(more))
        return take_chunk(state, initial, drives, transposed, matrices, constants, marks)

    keep = jax.checkpoint_policies.save_only_these_names(KEPT)
    body = jax.checkpoint(body, policy=keep, prevent_cse=False)
    final, ys = scan_in_chunks(body, start, (xs, marks, more), chunk, reverse=reverse)
    return final, marks.zero_padding(structure.output(params, ys))


def scan_in_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, chunk: int, *, reverse: bool
) -> tuple[Any, Any]:
    """`lax.scan` of a body that takes `chunk` steps at once, and what is left over at the end."""
    T = jax.tree.leaves(xs)[0].shape[0]
    n, rest = divmod(T, chunk)
    main, last = (
        (slice(rest, T), slice(0, rest)) if reverse else (slice(T - rest), slice(T - rest, T))
    )
    outs = []
    if n:
        split = lambda a: a[main].reshape(n, chunk, *a.shape[1:])
        carry, ys = jax.lax.scan(body, carry, jax.tree.map(split, xs), reverse=reverse)
        outs.append(jax.tree.map(lambda y: y.reshape(n * chunk, *y.shape[2:]), ys))
    if rest:
        carry, ys = body(carry, jax.tree.map(lambda a: a[last], xs))
        outs.append(ys)
    in_time = outs[::-1] if reverse else outs
    return carry, jax.tree.map(lambda *ys: ys[0] if len(ys) == 1 else jnp.concatenate(ys), *in_time)


def _differentiable_chunk(structure, reverse, recompute):
    """`(state, initial, drives, W^T, W, constants, marks) -> (state, ys)` over a chunk of steps."""
    forward = functools.partial(_forward, structure, reverse)

    @jax.custom_jvp
    def take_chunk(state, initial, drives, transposed, matrices, constants, marks):
        final, _, ys, _ = forward(state, initial, drives, transposed, constants, marks)
        return final, ys

    @take_chunk.defjvp
    def derivative(primals, tangents):
        state, initial, drives, transposed, matrices, constants, marks = primals
        # The primal reads W^T alone; W stands in the derivative, and so in the second derivative.
        d_state, d_initial, d_drives, d_transposed, _, d_constants, _ = tangents
        final, states, ys, a = forward(state, initial, drives, transposed, constants, marks)
        if recompute:
            after = checkpoint_name(states, KEPT)
            before = _before(state, after, initial, marks, reverse)
            a = list(drives)
        else:
            a = checkpoint_name([*a, *drives[len(a) :]], KEPT)
            before = _states_before(structure, reverse, state, initial, a, constants, marks)
        immediate = list(d_drives)
        for j, product in enumerate(structure.products):
            e = product.of(constants, before, *a[:j])
            if recompute:
                a[j] = a[j] + times(transposed[j], e)
            immediate[j] = immediate[j] + times(d_transposed[j], e)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(d_state, at):
            before, a, d_a, marks = at
            d_before = marks.state_before(d_state, d_initial)
            for j, (product, W) in enumerate(zip(structure.products, matrices, strict=True)):
                d_e = jax.jvp(
                    product.of, (constants, before, *a[:j]), (d_constants, d_before, *d_a[:j])
                )[1]
                d_a[j] = d_a[j] + matvec(W, d_e)
            pointwise = functools.partial(_pointwise, structure, marks)
            return jax.jvp(pointwise, (constants, before, *a), (d_constants, d_before, *d_a))[1]

        d_final, d_ys = jax.lax.scan(step, d_state, (before, a, immediate, marks), reverse=reverse)
        return (final, ys), (d_final, d_ys)

    return take_chunk


def _forward(structure, reverse, state, initial, drives, transposed, constants, marks):
    """(final state, state after each step, ys, a_j of each step and product)."""
    y_leaf: list[int] = []
    n = len(transposed)
    # Sliced by gate before the loop over time: XLA on the CPU evaluates a fusion that slices one
    # array both by time and, at several places, by gate one number at a time.
    by_gate = [_blocks(drive, structure, state) for drive in drives[:n]]

    def add_product(blocks, transposed, e):
        parts = _blocks(times(transposed, e), structure, state)
        return _joined([d + p for d, p in zip(blocks, parts, strict=True)])

    def step(state, at):
        drives, marks = at
        before = marks.state_before(state, initial)
        a = structure.preactivations(constants, before, drives, transposed, add_product)
        state, y = _pointwise(structure, marks, constants, before, *a)
        # A y that is a part of the state is written once.
        y_leaf[:] = [i for i, leaf in enumerate(jax.tree.leaves(state)) if leaf is y][:1]
        return state, (state, None if y_leaf else y, a[:n])

    inputs = ([*by_gate, *drives[n:]], marks)
    final, (states, ys, a) = jax.lax.scan(step, state, inputs, reverse=reverse)
    if y_leaf:
        ys = jax.tree.leaves(states)[y_leaf[0]]
    return final, states, ys, a


def _blocks(a, structure, state):
    """`a` in blocks of as many features as there are units, one a gate."""
    units = jax.tree.leaves(state)[0].shape[-1] if structure.unitwise else a.shape[-1]
    return jax.lax.split(a, [units] * (a.shape[-1] // units), axis=a.ndim - 1)


def _joined(blocks):
    return jnp.concatenate(blocks, axis=-1)


def _states_before(structure, reverse, state, initial, a, constants, marks):
    """The state that each step starts from, from the pre-activations of all."""

    def step(state, at):
        blocks, marks = at
        before = marks.state_before(state, initial)
        return _pointwise(structure, marks, constants, before, *map(_joined, blocks))[0], before

    by_gate = [_blocks(a_j, structure, state) for a_j in a]
    return jax.lax.scan(step, state, (by_gate, marks), reverse=reverse)[1]


def _pointwise(structure, marks, constants, state, *a):
    after, y = structure.pointwise(constants, state, *a)
    return marks.state_after(after, state), y


def _before(start, states, initial, marks, reverse):
    """The state that each step starts from, from the state after each."""

    def shift(first, after):
        if reverse:
            return jnp.concatenate([after[1:], first[None]])
        return jnp.concatenate([first[None], after[:-1]])

    handed_on = jax.tree.map(shift, start, states)
    return jax.vmap(lambda marks, state: marks.state_before(state, initial))(marks, handed_on)
