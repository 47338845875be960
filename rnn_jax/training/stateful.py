"""Training along streams: each batch goes on where the one before it ended.

The state of every stream is handed from batch to batch, and no gradient goes back through it: BPTT
truncated at the batches, over sequences of any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_function, check_integer, check_size, invalid
from rnn_jax.gradients.decomposition.truncation import truncated_gradient
from rnn_jax.lengths import length_mask, select_state
from rnn_jax.losses import per_step
from rnn_jax.training._batch_mesh import mean_over_devices, specs
from rnn_jax.training.gradient import Gradient, Unroll
from rnn_jax.training.telemetry import Telemetry, check_telemetry
from rnn_jax.training.train_state import TrainState
from rnn_jax.training.train_step import TrainStep, compose
from rnn_jax.types import Array, Params, State, StepLoss, at_least_float32
from rnn_jax.unrolling.strategies import Strategy, resolve


def make_stateful_train_step(
    cell: Cell,
    loss: StepLoss,
    optimizer: optax.GradientTransformation,
    *,
    k1: int | None = None,
    k2: int | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    mesh: Mesh | None = None,
    strategy: Strategy | str = "auto",
    telemetry: Telemetry | None = None,
) -> TrainStep:
    """Return `train_step(state, batch) -> (state, metrics)`, whose state carries the streams'.

    A batch is `(xs [T, B, I], targets [T, B, ...])`, `(xs, targets, starts [B])`, as
    `tasks.consecutive_characters` makes them, or a mapping with `xs`, `targets` and any of

    - `starts [B]`, booleans: True for a stream that starts from the cell's initial state, False for
      one that goes on where the batch before ended;
    - `resets [T, B]`, booleans: True where a new sequence begins, within the batch (`unroll`);
      `starts` is their first row;
    - `lengths [B]`, integers: number of steps of each stream in this batch. Past them its state is
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
      clip_norm, clip_value: as for `make_train_step`.
      mesh: devices that share the streams (`batch_mesh`).
      strategy: as for `unroll`; with telemetry, as for `gradients.unroll_nudged`.
      telemetry: quantities to measure, the gradient within each batch; not with k1 and k2. The
        state is then one of `create_stateful_train_state(..., telemetry=telemetry)`.

    Returns:
      The step, to be jitted, vmapped or exported, and for `fit` and `over_ensemble` as that of
      `make_train_step` is, with the same metrics, and those of `Telemetry` if there is one; `loss`
      is the mean of E_t, 0 where all lengths are.

    Raises:
      ValueError: one of k1 and k2 without the other, or with telemetry; what `make_train_step`,
        `unroll`, `truncated_gradient` and the loss raise; a batch of another form; starts that are
        not booleans `[B]`, another number of streams than the state carries.
    """
    check_cell("cell", cell)
    check_function("loss", loss, "(y, target) -> E_t")
    _check_truncation(k1, k2, telemetry)
    streams = _Streams(cell, loss, resolve(strategy), mesh)
    return compose(
        streams.mean_loss,
        optimizer,
        clip_norm=clip_norm,
        clip_value=clip_value,
        mesh=mesh,
        batch_spec=None if mesh is None else _shared_axes(mesh),
        telemetry=telemetry,
        gradient=None if k1 is None or k2 is None else streams.truncated_gradient(k1, k2),
        prepare=streams.prepare,
    )


class StreamBatch(NamedTuple):
    """The next steps of all streams, as `make_stateful_train_step` lists them."""

    xs: Any
    targets: Any
    starts: Any = None
    resets: Any = None
    lengths: Any = None

    @property
    def masks(self) -> dict[str, Array]:
        """Return what `unroll` is told of the steps."""
        named = {"lengths": self.lengths, "resets": self.resets}
        return {name: mask for name, mask in named.items() if mask is not None}


def _shared_axes(mesh: Mesh) -> StreamBatch:
    """Return which axis of each array of a batch is that of the streams."""
    _, streams, time_major = specs(mesh)
    return StreamBatch(time_major, time_major, streams, time_major, streams)


@dataclass(frozen=True)
class _Streams:
    """The loss of a cell along streams, that devices of a mesh may share."""

    cell: Cell
    loss: StepLoss
    strategy: Strategy
    mesh: Mesh | None

    def mean_loss(
        self, params: Params, carried: State, batch: StreamBatch, unroll: Unroll
    ) -> tuple[Array, State]:
        """Return the mean of E_t, and the state of each stream after the batch."""
        # Only params are differentiated, not what is carried: here BPTT is truncated.
        start = self.start(params, carried, batch)
        how = {"strategy": self.strategy, **batch.masks}
        final_state, ys = unroll(self.cell, params, batch.xs, start, **how)
        has_lengths = batch.lengths is not None
        mask = length_mask(batch.lengths, len(batch.targets)) if has_lengths else None
        E = per_step(self.loss, ys, batch.targets, mask)
        return self.mean(batch, at_least_float32(E).sum()).astype(E.dtype), final_state

    def truncated_gradient(self, k1: int, k2: int) -> Gradient:
        """Return the gradient of BPTT(k2; k1) within each batch."""

        def gradient(params: Params, carried: State, batch: StreamBatch):
            value, grads, final_state = truncated_gradient(
                self.cell,
                params,
                batch.xs,
                batch.targets,
                self.loss,
                # A function of params, so that a learned initial state receives its gradient.
                lambda params: self.start(params, carried, batch),
                k1=k1,
                k2=k2,
                strategy=self.strategy,
                **batch.masks,
            )
            mean = lambda total: self.mean(batch, total)
            return jax.tree.map(mean, (value, grads)), final_state, None

        return gradient

    def start(self, params: Params, carried: State, batch: StreamBatch) -> State:
        """Return the state that each stream starts from."""
        if batch.starts is None:
            return carried
        initial = self.cell.initial_state(params, batch.starts.shape)
        return select_state(batch.starts, initial, carried)

    def mean(self, batch: StreamBatch, total: Array) -> Array:
        """Scale `total`, summed over this device's steps, so that its mean over devices is E's.

        With lengths, devices may have different numbers of steps: each divides by their mean.
        """
        T, B = _first_leaf(batch.xs).shape[:2]
        steps = jnp.asarray(T * B, jnp.float32)
        if batch.lengths is not None:
            steps = batch.lengths.sum().astype(jnp.float32)
            steps = steps if self.mesh is None else mean_over_devices(steps, self.mesh)
        wide = at_least_float32(total)
        # No steps at all have the loss 0, not 0 / 0, whose gradient would be NaN.
        return (wide / jnp.maximum(steps, 1).astype(wide.dtype)).astype(total.dtype)

    def prepare(self, state: TrainState, batch: Any) -> StreamBatch:
        """Return the batch by name, once it is known to fit the streams of the state."""
        named = _named(batch)
        xs = _first_leaf(named.xs)
        if getattr(xs, "ndim", 0) != 3:
            raise invalid("xs", xs, "an array [T, B, I]", "Streams are the one batch axis.")
        # By structure, not by `is None`: the state of a cell without one has no leaves either.
        expected = jax.eval_shape(lambda p: self.cell.initial_state(p, xs.shape[1:2]), state.params)
        carried: Any = jax.tree.structure(state.carried)
        if carried != jax.tree.structure(expected):
            remedy = "Make one with training.create_stateful_train_state."
            raise invalid("state", state, "one that carries the state of each stream", remedy)
        counts = {leaf.shape[0] for leaf in jax.tree.leaves(state.carried)}
        if counts and counts != {xs.shape[1]}:
            raise invalid(
                "xs",
                xs,
                f"[T, B, I] with the B = {min(counts)} streams that the state carries",
                "Pass the batch's size to create_stateful_train_state.",
            )
        starts = named.starts
        if starts is not None and (starts.shape != xs.shape[1:-1] or starts.dtype != jnp.bool_):
            remedy = "Pass one boolean for each stream, or leave starts out."
            raise invalid("starts", starts, f"bool{list(xs.shape[1:-1])}", remedy)
        return named


def _check_truncation(k1: Any, k2: Any, telemetry: Any) -> None:
    if telemetry is not None:
        check_telemetry(telemetry)
    if (k1 is None) != (k2 is None):
        raise invalid("k2", f"k1 = {k1} and k2 = {k2}", "both or none", "Give the other one too.")
    if k1 is None:
        return
    check_integer("k2", k2, least=check_size("k1", k1), remedy="Go back k1 steps at least.")
    if telemetry is not None:
        remedy = (
            "The passes of truncated BPTT overlap: a state receives a gradient from each of them, "
            "and there is no one ∂L/∂h_t to measure. Leave k1 and k2 out, or the telemetry."
        )
        raise invalid("telemetry", telemetry, f"None with k1 = {k1} and k2 = {k2}", remedy)


def _named(batch: Any) -> StreamBatch:
    """Return the parts of a batch by name."""
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):
        batch = StreamBatch(*batch)._asdict()
    names = StreamBatch._fields
    if isinstance(batch, Mapping) and {"xs", "targets"} <= set(batch) <= set(names):
        as_array = lambda part: None if part is None else jnp.asarray(part)
        of_steps = {name: as_array(batch.get(name)) for name in names[2:]}
        return StreamBatch(batch["xs"], batch["targets"], **of_steps)
    got = f"a mapping of {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else batch
    remedy = "Pass (xs, targets), (xs, targets, starts), or these by name."
    raise invalid("batch", got, f"xs, targets and any of {', '.join(names[2:])}", remedy)


def _first_leaf(xs: Any) -> Any:
    """Return the array of the inputs, or the first of several."""
    return next(iter(jax.tree.leaves(xs)), xs)
