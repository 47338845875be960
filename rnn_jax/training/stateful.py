"""Training along streams: each batch goes on where the one before it ended.

The state of every stream is handed from batch to batch, and no gradient goes back through it: BPTT
truncated at the batches, over sequences of any length.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_function, check_integer, check_size, invalid
from rnn_jax.gradients.decomposition.truncation import truncated_gradient
from rnn_jax.lengths import length_mask, select_state
from rnn_jax.losses import per_step
from rnn_jax.training._batch_mesh import mean_over_devices
from rnn_jax.training.checks import check_mesh, check_state
from rnn_jax.training.train_step import TrainState, create_train_state, make_update
from rnn_jax.types import Array, Params, State, StepLoss, at_least_float32
from rnn_jax.unrolling.strategies import Strategy, resolve
from rnn_jax.unrolling.unroll import unroll


@flax.struct.dataclass
class StatefulTrainState(TrainState):
    """A TrainState with `carried`, the state of each stream, leaves `[B, ...]`."""

    carried: State


StatefulTrainStep = Callable[[StatefulTrainState, Any], tuple[StatefulTrainState, dict[str, Array]]]


def create_stateful_train_state(
    cell: Cell, params: Params, optimizer: optax.GradientTransformation, batch_size: int
) -> StatefulTrainState:
    """Return the state before the first step: `batch_size` streams at the cell's initial state.

    Raises:
      ValueError: a batch size that is no positive integer; what `create_train_state` raises.
    """
    check_cell("cell", cell)
    check_size("batch_size", batch_size)
    start = create_train_state(params, optimizer)
    carried = cell.initial_state(params, (int(batch_size),))
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
    """Return `train_step(state, batch) -> (state, metrics)`, whose state carries the streams'.

    A batch is `(xs [T, B, I], targets [T, B, ...])`, `(xs, targets, starts [B])`, as
    `tasks.consecutive_characters` makes them, or a mapping with `xs`, `targets` and any of

    - `starts [B]`, booleans: where True the stream starts anew, from the cell's initial state, and
      elsewhere from where the batch before ended;
    - `resets [T, B]`, booleans: where True a new sequence begins, within the batch (`unroll`);
      `starts` is their first row;
    - `lengths [B]`, integers: the steps of each stream in this batch. Past them its state is
      carried through unchanged and nothing is read, neither of xs nor of targets.

    The gradient is that of the mean of E_t over the steps that there are of all streams, with the
    carried state a constant; it reaches a learned initial state where a stream starts.

    Where the gradient is not finite and the step is skipped (`make_train_step`), a stream whose
    state is not finite keeps the one from before the batch.

    Args:
      cell: any Cell.
      loss: `(y, target) -> E_t`, a scalar per example.
      optimizer: any of optax; the one that `create_stateful_train_state` was given. `value_fn`
        (see `make_train_step`) is the loss on this batch from the state that it was carried to; its
        derivative goes back to the first step of the batch, whatever k1 and k2.
      k1, k2: BPTT(k2; k1) within each batch, as `gradients.truncated_gradient` has it; by default
        full BPTT to the batch's first step.
      clip_norm: as for `make_train_step`.
      mesh: devices that share the streams (`batch_mesh`).
      strategy: as for `unroll`.

    Returns:
      The step, to be jitted, vmapped or exported, and for `fit` and `over_ensemble` as that of
      `make_train_step` is, with the same metrics; `loss` is the mean of E_t, 0 where all lengths
      are.

    Raises:
      ValueError: one of k1 and k2 without the other; what `make_train_step`, `unroll`,
        `truncated_gradient` and the loss raise; a batch of another form; starts that are not
        booleans `[B]`, another number of streams than the state carries.
    """
    check_cell("cell", cell)
    check_function("loss", loss, "(y, target) -> E_t")
    if (k1 is None) != (k2 is None):
        raise invalid("k2", f"k1 = {k1} and k2 = {k2}", "both or none", "Give the other one too.")
    if k1 is not None:
        check_integer("k2", k2, least=check_size("k1", k1), remedy="Go back k1 steps at least.")
    resolve(strategy)
    check_mesh(mesh)
    update = make_update(optimizer, clip_norm)

    def mean_loss(params: Params, carried: State, batch: Any) -> tuple[Array, State]:
        xs, marks = batch["xs"], _marks(batch)
        start = _start(cell, params, carried, batch)
        final_state, ys = unroll(cell, params, xs, start, strategy=strategy, **marks)
        E = per_step(loss, ys, batch["targets"], _mask(batch))
        return _mean_per_step(batch, mesh, at_least_float32(E).sum()).astype(E.dtype), final_state

    def gradient(params: Params, carried: State, batch: Any) -> tuple[Array, Params, State]:
        if k1 is None or k2 is None:
            run = jax.value_and_grad(mean_loss, has_aux=True)
            (value, final_state), grads = run(params, carried, batch)
            return value, grads, final_state
        value, grads, final_state = truncated_gradient(
            cell,
            params,
            batch["xs"],
            batch["targets"],
            loss,
            lambda params: _start(cell, params, carried, batch),
            k1=k1,
            k2=k2,
            strategy=strategy,
            **_marks(batch),
        )
        mean = lambda total: _mean_per_step(batch, mesh, total)
        value, grads = jax.tree.map(mean, (value, grads))
        return value, grads, final_state

    def train_step(
        state: StatefulTrainState, batch: Any
    ) -> tuple[StatefulTrainState, dict[str, Array]]:
        check_state(state, StatefulTrainState, "create_stateful_train_state")
        batch = _named(batch)
        _check_streams(state.carried, batch)
        share = (lambda run, outs: run) if mesh is None else _sharing(mesh, batch)
        value, grads, carried = share(gradient, (EVERYWHERE, EVERYWHERE, STREAMS))(
            state.params, state.carried, batch
        )
        value_of = share(mean_loss, (EVERYWHERE, STREAMS))
        before = state.carried
        state, metrics = update(
            state, grads, value, lambda params: value_of(params, before, batch)[0]
        )
        sound = _is_finite(carried) | (metrics["skipped"] == 0)
        state = replace(state, carried=select_state(sound, carried, before))
        return state, {"loss": value, **metrics}

    return train_step


EVERYWHERE, STREAMS, TIME_MAJOR = (
    PartitionSpec(),
    PartitionSpec("batch"),
    PartitionSpec(None, "batch"),
)
AXES = {
    "xs": TIME_MAJOR,
    "targets": TIME_MAJOR,
    "starts": STREAMS,
    "resets": TIME_MAJOR,
    "lengths": STREAMS,
}
"""What a batch may hold, and which of its axes is that of the streams."""


def _sharing(mesh: Any, batch: Any):
    """Return `(function, specs of its results) -> function`, each device taking its part of B."""

    def share(function: Callable[..., Any], results: Any):
        def of_a_part(params: Params, carried: State, batch: Any):
            *averaged, carried = function(params, carried, batch)
            return *mean_over_devices(averaged, mesh), carried

        axes = {name: AXES[name] for name in batch}
        specs = (EVERYWHERE, STREAMS, axes)
        return jax.shard_map(
            of_a_part, mesh=mesh, in_specs=specs, out_specs=results, check_vma=False
        )

    return share


def _start(cell: Cell, params: Params, carried: State, batch: Any):
    """Return the state that each stream starts from."""
    if "starts" not in batch:
        return carried
    initial = cell.initial_state(params, batch["starts"].shape)
    return select_state(batch["starts"], initial, carried)


def _marks(batch: Any):
    """Return what `unroll` is told of the steps."""
    return {name: batch[name] for name in ("lengths", "resets") if name in batch}


def _mask(batch: Any):
    T = len(batch["targets"])
    return length_mask(batch["lengths"], T) if "lengths" in batch else None


def _mean_per_step(batch: Any, mesh: Any, total: Array) -> Array:
    """Scale `total`, summed over this device's steps, so that its mean over devices is E's mean.

    With lengths, devices may have different numbers of steps: each divides by their mean number.
    """
    T, B = _first_leaf(batch["xs"]).shape[:2]
    steps = jnp.asarray(T * B, jnp.float32)
    if "lengths" in batch:
        steps = batch["lengths"].sum().astype(jnp.float32)
        steps = steps if mesh is None else mean_over_devices(steps, mesh)
    wide = at_least_float32(total)
    return (wide / jnp.maximum(steps, 1).astype(wide.dtype)).astype(total.dtype)


def _first_leaf(xs: Any) -> Any:
    """Return the array of the inputs, or the first of several."""
    return next(iter(jax.tree.leaves(xs)), xs)


def _is_finite(state: State) -> Array:
    """Return whether every number of each stream's state is finite: `[B]`."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    each = [jnp.isfinite(leaf).all(tuple(range(1, leaf.ndim))) for leaf in leaves]
    return functools.reduce(jnp.logical_and, each, jnp.asarray(True))


def _named(batch: Any) -> dict[str, Array]:
    """Return the parts of a batch by name."""
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        batch = dict(zip(("xs", "targets", "starts"), batch, strict=False))
    if isinstance(batch, Mapping) and {"xs", "targets"} <= set(batch) <= set(AXES):
        as_array = lambda name, part: jnp.asarray(part) if name in [*AXES][2:] else part
        return {name: as_array(name, part) for name, part in batch.items() if part is not None}
    got = f"a mapping of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else batch
    remedy = "Pass (xs, targets), (xs, targets, starts), or these by name."
    raise invalid("batch", got, f"xs, targets and any of {', '.join([*AXES][2:])}", remedy)


def _check_streams(carried: State, batch: Any):
    xs = _first_leaf(batch["xs"])
    if getattr(xs, "ndim", 0) != 3:
        raise invalid("xs", xs, "an array [T, B, I]", "Streams are the one batch axis.")
    counts = {leaf.shape[0] for leaf in jax.tree.leaves(carried)}
    if counts and counts != {xs.shape[1]}:
        raise invalid(
            "xs",
            xs,
            f"[T, B, I] with the B = {min(counts)} streams that the state carries",
            "Pass the batch's size to create_stateful_train_state.",
        )
    starts = batch.get("starts")
    if starts is not None and (starts.shape != xs.shape[1:-1] or starts.dtype != jnp.bool_):
        remedy = "Pass one boolean for each stream, or leave starts out."
        raise invalid("starts", starts, f"bool{list(xs.shape[1:-1])}", remedy)
