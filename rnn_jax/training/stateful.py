"""Training along streams: each batch goes on where the one before it ended.

The state of every stream is handed from batch to batch, and no gradient goes back through it: BPTT
truncated at the batches, over sequences of any length.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import check_size, invalid
from rnn_jax.gradients.truncation import truncated_gradient
from rnn_jax.lengths import select_state
from rnn_jax.losses import per_step
from rnn_jax.strategies import Strategy
from rnn_jax.training.train_step import TrainState, create_train_state, make_update
from rnn_jax.types import Array, Cell, Params, State, StepLoss
from rnn_jax.unroll import unroll


@flax.struct.dataclass
class StatefulTrainState(TrainState):
    """A TrainState with `carried`, the state of each stream, leaves `[B, ...]`."""

    carried: State


StatefulTrainStep = Callable[[StatefulTrainState, Any], tuple[StatefulTrainState, dict[str, Array]]]


def create_stateful_train_state(
    cell: Cell, params: Params, optimizer: optax.GradientTransformation, batch_size: int
) -> StatefulTrainState:
    """The state before the first step: `batch_size` streams at the cell's initial state."""
    check_size("batch_size", batch_size)
    start = create_train_state(params, optimizer)
    carried = cell.initial_state(params, (batch_size,))
    return StatefulTrainState(start.step, start.params, start.opt_state, carried)


def make_stateful_train_step(
    cell: Cell,
    loss: StepLoss,
    optimizer: optax.GradientTransformation,
    *,
    k1: int | None = None,
    k2: int | None = None,
    clip_norm: float | None = None,
    mesh: Mesh | None = None,
    strategy: Strategy | str = "auto",
) -> StatefulTrainStep:
    """`train_step(state, batch) -> (state, metrics)`, whose state carries that of the streams.

    A batch is `(xs [T, B, I], targets [T, B, ...])` or `(xs, targets, starts [B])`; where `starts`
    is True the stream starts anew, from the cell's initial state, and elsewhere from where the
    batch before ended (`tasks.consecutive_characters` makes such batches). The gradient is that of
    the mean of E_t over steps and streams, with the carried state a constant; it reaches a learned
    initial state where a stream starts.

    Args:
      cell: any Cell.
      loss: `(y, target) -> E_t`, a scalar per example.
      optimizer: any of optax; the one that `create_stateful_train_state` was given.
      k1, k2: BPTT(k2; k1) within each batch, as `gradients.truncated_gradient` has it; by default
        full BPTT to the batch's first step.
      clip_norm: as for `make_train_step`.
      mesh: devices that share the streams (`batch_mesh`).
      strategy: as for `unroll`.

    Returns:
      The step, to be jitted, vmapped or exported, and for `fit` and `over_ensemble` as that of
      `make_train_step` is, with the same metrics; `loss` is the mean of E_t.

    Raises:
      ValueError: one of k1 and k2 without the other; what `make_train_step`, `unroll`,
        `truncated_gradient` and the loss raise; starts that are not booleans `[B]`, another number
        of streams than the state carries.
    """
    if (k1 is None) != (k2 is None):
        raise invalid("k2", f"k1 = {k1} and k2 = {k2}", "both or none", "Give the other one too.")
    update = make_update(optimizer, clip_norm)

    def gradient(params, carried, batch) -> tuple[Array, Params, State]:
        xs, targets, *starts = batch
        _check_streams(carried, xs, starts)

        def start_of(params):
            if not starts:
                return carried
            return select_state(starts[0], cell.initial_state(params, xs.shape[1:-1]), carried)

        def mean_loss(params):
            final_state, ys = unroll(cell, params, xs, start_of(params), strategy=strategy)
            return per_step(loss, ys, targets).mean(), final_state

        if k1 is None or k2 is None:
            (value, final_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
            return value, grads, final_state
        value, grads, final_state = truncated_gradient(
            cell, params, xs, targets, loss, start_of, k1=k1, k2=k2, strategy=strategy
        )
        value, grads = jax.tree.map(lambda total: total / math.prod(xs.shape[:-1]), (value, grads))
        return value, grads, final_state

    def train_step(
        state: StatefulTrainState, batch: Any
    ) -> tuple[StatefulTrainState, dict[str, Array]]:
        run = gradient if mesh is None else _shared(gradient, mesh, len(batch))
        value, grads, carried = run(state.params, state.carried, batch)
        state, metrics = update(replace(state, carried=carried), grads)
        return state, {"loss": value, **metrics}

    return train_step


def _shared(gradient, mesh, arrays_of_a_batch):
    """`gradient`, each device taking its part of the streams."""

    def of_a_part(params, carried, batch):
        value, grads, carried = gradient(params, carried, batch)
        return *jax.lax.pmean((value, grads), mesh.axis_names), carried

    everywhere, streams = PartitionSpec(), PartitionSpec("batch")
    time_major = PartitionSpec(None, "batch")
    return jax.shard_map(
        of_a_part,
        mesh=mesh,
        in_specs=(everywhere, streams, (time_major, time_major, streams)[:arrays_of_a_batch]),
        out_specs=(everywhere, everywhere, streams),
        check_vma=False,
    )


def _check_streams(carried, xs, starts):
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(carried)}
    if counts and counts != {xs.shape[1]}:
        raise invalid(
            "xs",
            xs,
            f"[T, B, I] with the B = {min(counts)} streams that the state carries",
            "Pass the batch's size to create_stateful_train_state.",
        )
    for fresh in starts:
        if fresh.shape != xs.shape[1:-1] or fresh.dtype != jnp.bool_:
            remedy = "Pass one boolean for each stream, or leave starts out."
            raise invalid("starts", fresh, f"bool{list(xs.shape[1:-1])}", remedy)
