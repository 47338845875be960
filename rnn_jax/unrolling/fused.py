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
states by elementwise operations.

All batch axes are one inside.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rnn_jax.cell import Structure
from rnn_jax.lengths import StepMasks
from rnn_jax.linalg import matvec, row_major_transpose
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.perturbed import Perturbations, perturbed_structure
from rnn_jax.unrolling.row_products import (
    matrix_tangents,
    merge_batch,
    products,
    split_batch,
    state_tangent,
)

KEPT = "rnn_jax: kept for the backward pass"


def unroll_fused(
    structure: Structure,
    params: Params,
    xs: Array,
    start: State,
    initial: State,
    masks: StepMasks,
    *,
    reverse: bool,
    chunk: int,
    recompute: bool,
    perturbations: Perturbations | None = None,
) -> tuple[State, Array]:
    """Return (final state, ys) of `structure` over `xs [T, *batch, I]`, `chunk` steps at a time.

    `initial` is the state that a step with a reset starts from. Perturbations are more drives, of
    which those of a chunk alone are held.
    """
    if perturbations is not None:
        structure = perturbed_structure(structure, (start, start))
    batch = xs.shape[1:-1]
    at_padding = merge_batch(masks.at_padding(start, initial, reverse=reverse), batch)

    def parts(params: Params):
        Ws = [product.W(params) for product in structure.products]
        matrices = tuple((row_major_transpose(W), W) for W in Ws)
        return (
            params,
            row_major_transpose(structure.U(params)),
            matrices,
            structure.constants(params),
        )

    read = as_read(params, xs.dtype)
    wide, _ = for_sums(params)
    wide, rounded = for_sums(parts(wide), like=jax.eval_shape(parts, read))
    initial, initial_rounded = for_sums(merge_batch(initial, batch))
    take_chunk = _differentiable_chunk(structure, reverse, recompute)

    def body(state: State, at: Any):
        xs, masks, perturbations = at
        params, U_T, matrices, constants = rounded(wide)
        zeros = [] if perturbations is None else jax.tree.leaves(perturbations.states())
        xs, *zeros = merge_batch((xs, *zeros), batch, lead=1)
        masks = jax.tree.map(lambda mask: mask.reshape(len(mask), math.prod(batch)), masks)
        drives = (*_drives(structure, params, products(U_T, xs)), *zeros)
        initial_state = initial_rounded(initial)
        state, ys = take_chunk(state, initial_state, at_padding, drives, matrices, constants, masks)
        return state, split_batch(ys, batch, lead=1)

    # Without a policy JAX would keep every intermediate value of every step for the backward pass.
    # What is named KEPT is enough to find the others again by operations on a whole chunk, which is
    # still in the cache when its cotangents arrive.
    keep = jax.checkpoint_policies.save_only_these_names(KEPT)
    body = jax.checkpoint(body, policy=keep, prevent_cse=False)
    start = merge_batch(start, batch)
    state, ys = scan_in_chunks(body, start, (xs, masks, perturbations), chunk, reverse=reverse)
    return split_batch(state, batch), with_wide_sums(structure.output)(read, ys)


def _drives(structure: Any, params: Params, Ux: Any):
    return with_wide_sums(structure.drive)(params, Ux)


def closes_over_traced(structure: Structure, params: Params, xs: Array, start: State) -> bool:
    """Return whether an operand or the elementwise part reads a traced value of no argument.

    A `custom_jvp` would not see that it is differentiated.
    """

    def at_one_step(params: Params, x: Array, state: State):
        constants = structure.constants(params)
        a = list(structure.drive(params, matvec(structure.U(params), x)))
        for j, product in enumerate(structure.products):
            W, e = product.W(params), product.operand(constants, state, *a[:j])
            a[j] = a[j] + matvec(W, e)
        return constants, a

    read = as_read(params, xs.dtype)
    constants, a = jax.eval_shape(at_one_step, read, xs[0], start)

    def inside(constants: Any, state: State, a: Array):
        fed_back = [p.operand(constants, state, *a[:j]) for j, p in enumerate(structure.products)]
        return fed_back, structure.pointwise(constants, state, *a)

    closed = jax.make_jaxpr(inside)(constants, start, a)
    return any(isinstance(value, jax.core.Tracer) for value in closed.consts)


def scan_in_chunks(
    body: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, chunk: int, *, reverse: bool
) -> tuple[Any, Any]:
    """Scan by a body that takes `chunk` steps at once, and what is left over at the end."""
    T = jax.tree.leaves(xs)[0].shape[0]
    # The steps that are left over run as one shorter chunk where the sequence ends in the order in
    # which it is walked, so that every chunk before it starts from a state that has been computed.
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


def _differentiable_chunk(structure: Any, reverse: bool, recompute: Any):
    """Make `(state, initial, drives, factors of W, constants, masks) -> (state, ys)` of a chunk."""
    # The rule below is the whole backward pass of a fused cell, written as a tangent. Its immediate
    # part is products over all steps of the chunk; only W ė_t, in `step`, has to go one by one. JAX
    # transposes it: the products become the gradients of W, one each, and `step` the recursion of
    # the cotangents. What a chunk keeps for that is named KEPT, all else is computed again.
    run = _Chunk(structure, reverse)

    @jax.custom_jvp
    def take_chunk(
        state: State,
        initial: State,
        at_padding: State,
        drives: Any,
        matrices: Any,
        constants: Any,
        masks: Any,
    ):
        final, _, ys, _ = run.forward(
            state, initial, at_padding, drives, matrices, constants, masks
        )
        return final, ys

    @take_chunk.defjvp
    def derivative(primals: Any, tangents: Any):
        state, initial, at_padding, drives, matrices, constants, masks = primals
        # The primal reads one factor of each W; the other one stands in the derivative, and so in
        # the second derivative.
        d_state, d_initial, _, d_drives, d_matrices, d_constants, _ = tangents
        d_initial, initial_rounded = for_sums(d_initial)
        d_constants, constants_rounded = for_sums(d_constants)
        final, before, ys, a = run.forward(
            state, initial, at_padding, drives, matrices, constants, masks
        )
        # Either way the elementwise part is linearized at (state, a) of every step. Where W is
        # narrow, states are the smaller of the two, and a = d + W e is one product for the whole
        # chunk; where it is wide, that product costs more than the memory, and states follow
        # elementwise from a.
        if recompute:
            before = checkpoint_name(before, KEPT)
            a = list(drives)
        else:
            a = checkpoint_name([*a, *drives[len(a) :]], KEPT)
            before = run.states_before(state, initial, at_padding, a, constants, masks)
        at = run.state_evaluated(masks, before, at_padding)
        immediate = list(d_drives)
        for j, product in enumerate(structure.products):
            e = product.operand(constants, at, *a[:j])
            if recompute:
                a[j] = a[j] + products(matrices[j][0], e)
            immediate[j] = immediate[j] + matrix_tangents(d_matrices[j][0], e)

        # Checkpointed, so that the transposed scan keeps the primal values alone that it is given,
        # and linearizes `pointwise` anew in each step: its residuals would be stacked over time
        # otherwise, written once and read once, which takes longer than the arithmetic.
        @functools.partial(jax.checkpoint, prevent_cse=False)
        def step(d_state: Any, at_step: Any):
            at, a, d_a, masks = at_step
            d_constant = constants_rounded(d_constants)
            d_before = masks.state_before(d_state, initial_rounded(d_initial))
            d_at = run.state_evaluated(masks, d_before, jax.tree.map(jnp.zeros_like, d_before))
            for j, (product, (_, W)) in enumerate(zip(structure.products, matrices, strict=True)):
                operand = run.operand(product)
                d_e = jax.jvp(operand, (constants, at, *a[:j]), (d_constant, d_at, *d_a[:j]))[1]
                d_a[j] = d_a[j] + state_tangent(W, d_e)
            d_after, d_y = jax.jvp(run.pointwise, (constants, at, *a), (d_constant, d_at, *d_a))[1]
            return masks.state_after(d_after, d_before), d_y

        d_final, d_ys = jax.lax.scan(step, d_state, (at, a, immediate, masks), reverse=reverse)
        return (final, ys), (d_final, d_ys)

    return take_chunk


class _Chunk(NamedTuple):
    """A structure over the steps of a chunk."""

    structure: Structure
    reverse: bool

    def forward(
        self,
        state: State,
        initial: State,
        at_padding: State,
        drives: Any,
        matrices: Any,
        constants: Any,
        masks: Any,
    ):
        """Return (final state, state before each step, ys, a_j of each step and product)."""
        n = len(matrices)
        # Sliced by gate before the loop over time: XLA on the CPU evaluates a fusion that slices
        # one array both by time and, at several places, by gate one number at a time.
        by_gate = [self.gates(drive, state) for drive in drives[:n]]

        def step(state: State, at: Any):
            drives, masks = at
            before = masks.state_before(state, initial)
            at = self.state_evaluated(masks, before, at_padding)
            a = list(drives)
            for j, (product, (W_T, _)) in enumerate(
                zip(self.structure.products, matrices, strict=True)
            ):
                e = product.operand(constants, at, *a[:j])
                parts = self.gates(e @ W_T, state)
                a[j] = self.joined([d + part for d, part in zip(a[j], parts, strict=True)])
            after, y = self.pointwise(constants, at, *a)
            return masks.state_after(after, before), (before, y, a[:n])

        inputs = ([*by_gate, *drives[n:]], masks)
        final, (before, ys, a) = jax.lax.scan(step, state, inputs, reverse=self.reverse)
        return final, before, ys, a

    def states_before(
        self, state: State, initial: State, at_padding: State, a: Array, constants: Any, masks: Any
    ):
        """Return the state that each step starts from, from the pre-activations of all."""

        def step(state: State, at: Any):
            gates, masks = at
            before = masks.state_before(state, initial)
            at = self.state_evaluated(masks, before, at_padding)
            after, _ = self.pointwise(constants, at, *map(self.joined, gates))
            return masks.state_after(after, before), before

        by_gate = [self.gates(a_j, state) for a_j in a]
        return jax.lax.scan(step, state, (by_gate, masks), reverse=self.reverse)[1]

    def state_evaluated(self, masks: Any, before: Any, at_padding: State):
        """Return what a step is evaluated at, or what the steps of a chunk are."""
        if masks.valid is None:
            return before
        if masks.valid.ndim == 1:
            return masks.state_evaluated(before, at_padding)
        return jax.vmap(StepMasks.state_evaluated, (0, 0, None))(masks, before, at_padding)

    def pointwise(self, constants: Any, state: State, *a: Any):
        """Return (state, y) of one step."""
        return with_wide_sums(self.structure.pointwise)(constants, state, *a)

    def operand(self, product: Any):
        """Map `(constants, state, *a)` of one step to what a W multiplies."""
        return with_wide_sums(product.operand)

    def gates(self, a: Array, state: State):
        """Return `a` split into its gates, each of as many features as there are units."""
        width, leaf = a.shape[-1], jax.tree.leaves(state)[0]
        units = leaf.shape[-1] if self.structure.unitwise else width
        return jax.lax.split(a, [units] * (width // units), axis=a.ndim - 1)

    def joined(self, gates: Any):
        """Return the inverse of `gates`."""
        return jnp.concatenate(gates, axis=-1)
