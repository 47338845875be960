r"""What the gradient does inside training, read off the backward pass that training takes anyway.

The loss of a monitored step takes its `unroll` as a third argument; there telemetry nudges the
states by zeros (`gradients.nudges`), whose cotangents, in the backward pass of the parameters, are
∂L/∂h_t. Of these it keeps the norms (`training.state_norms`). Recurrent matrices are measured by a
few power iterations a step, that go on from where those of the step before ended.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_function, check_size, invalid
from rnn_jax.gradients.regularization.omega import counted_steps
from rnn_jax.gradients.regularization.recurrent_matrices import recurrent_matrices
from rnn_jax.gradients.step.perturbations import Nudges, unroll_nudged
from rnn_jax.linalg.largest_singular_value import (
    generic_vector,
    largest_singular_value,
    mean_log_growth,
)
from rnn_jax.training._batch_mesh import mean_over_devices, share
from rnn_jax.training.state_norms import spread_slots, zero_slots
from rnn_jax.training.train_step import TrainState, create_train_state, make_update
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.unroll import unroll as plain_unroll

EMA_DECAY = 0.9
"""Of the average of ln ‖W w‖ from one step to the next."""
WARM_UP = 100
"""Iterations before the first step."""


@dataclass(frozen=True)
class Telemetry:
    """What a monitored step measures.

    Attributes:
      cell: the one whose `unroll` the loss calls.
      matrices: `params -> {name: W [..., m, n]}`, whose norms are followed; by default the
        recurrent matrices of a cell with a structure (`gradients.recurrent_matrices`), and none of
        another.
      every: steps from one measurement of the gradient to the next; NaN in between.
      iterations: of the power methods, a step.
    """

    cell: Cell
    matrices: Callable[[Params], Mapping[str, Array]] | None = None
    every: int = 1
    iterations: int = 2

    def __post_init__(self):
        check_cell("cell", self.cell)
        if self.matrices is not None:
            check_function("matrices", self.matrices, "params -> {name: matrix}")
        check_size("every", self.every)
        check_size("iterations", self.iterations)

    def matrices_of(self, params: Params) -> dict[str, Array]:
        """Return what is followed, by name."""
        if self.matrices is not None:
            return dict(self.matrices(params))
        structure = self.cell.structure
        known = structure is not None and structure.products
        return recurrent_matrices(self.cell, params) if known else {}


@flax.struct.dataclass
class Followed:
    """Where the power iterations of one matrix `W [..., m, n]` stand.

    Attributes:
      v: towards the right singular vector, `[..., n]`.
      w: the direction of Wᵏ w, `[..., n]`; None for a W that is not square.
      log_growth: the running mean of ln ‖W w‖, `[...]`; None likewise.
    """

    v: Array
    w: Array | None
    log_growth: Array | None


@flax.struct.dataclass
class MonitoredTrainState(TrainState):
    """A TrainState with `followed`, the power iterations of each matrix."""

    followed: dict[str, Followed]


MonitoredTrainStep = Callable[
    [MonitoredTrainState, Any], tuple[MonitoredTrainState, dict[str, Array]]
]


def create_monitored_train_state(
    params: Params, optimizer: optax.GradientTransformation, telemetry: Telemetry
) -> MonitoredTrainState:
    """Return the state before the first step.

    Raises:
      ValueError: what `create_train_state` raises; no Telemetry, or one of another cell.
    """
    _check_telemetry(telemetry)
    start = create_train_state(params, optimizer)
    followed = {name: _begin(W) for name, W in telemetry.matrices_of(params).items()}
    return MonitoredTrainState(start.step, start.params, start.opt_state, followed)


def _check_telemetry(telemetry: Any) -> None:
    if not isinstance(telemetry, Telemetry):
        remedy = "Pass training.Telemetry(cell)."
        raise invalid("telemetry", telemetry, "a Telemetry", remedy)


def make_monitored_train_step(
    loss: Callable[[Params, Any, Callable[..., tuple[State, Array]]], Array],
    optimizer: optax.GradientTransformation,
    telemetry: Telemetry,
    *,
    clip_norm: float | None = None,
    mesh: Mesh | None = None,
    batch_spec: Any = PartitionSpec(None, "batch"),
) -> MonitoredTrainStep:
    r"""Make a train step with telemetry: the same updates, more metrics.

    Args:
      loss: `(params, batch, unroll) -> scalar`. It calls `unroll` once, as it would
        `rnn_jax.unroll`, outside of any `vmap` of its own; `unroll=rnn_jax.unroll` as the default
        lets the same loss serve `make_train_step`. Strategies are those of
        `gradients.unroll_nudged`.
      optimizer, clip_norm, mesh, batch_spec: as for `make_train_step`; with a mesh, the first batch
        axis of the states is the one that is shared.
      telemetry: what to measure.

    Returns:
      The step, for `fit` and `over_ensemble`, on a state of `create_monitored_train_state`. Its
      metrics are those of `make_train_step`, `grad_norm` before clipping, `clipped`, whose mean is
      the clip rate, and `skipped` among them; and

      - `state_log_norms`, `[T]`: ln ‖∂L/∂h_t‖₂ over the whole batch, h_t the state that the step at
        xs[t] hands on; -inf where it is zero, in the padding for one.
      - `decay_rate`: nats a step by which the gradient changes on its way back, the mean over steps
        and examples of ln r_t, r_t = ‖(∂L/∂h_{t+1}) (∂h_{t+1}/∂h_t)‖ / ‖∂L/∂h_{t+1}‖. NaN where
        nothing comes back at any.
      - `horizon`: the effective horizon −1 / decay_rate, the steps after which the gradient has
        fallen by e at this rate; +inf where it does not fall.
      - `omega`: Σ_t (r_t − 1)² of L, and its mean over examples: the number that `gradients.omega`
        gives, from the norms that this backward pass has. NaN where L is.
      - `blocked`: the share of the steps of which `omega` is made that pass nothing back, r_t = 0.
      - `spectral_norm/W`, `spectral_radius/W` for each matrix, `[...]` without the axes of the
        matrix, and without a leading axis of one: ‖W‖₂ and ρ(W) of the parameters before the
        update. ‖W‖₂ comes from below (see `largest_singular_value`). ρ is the mean growth of a
        vector over the last 10 steps' iterations: exact for a matrix with one eigenvalue in front,
        and for an orthogonal one; 1 % off, as a rule, where a complex pair leads a matrix that is
        not normal; and as late as the average where W moves fast.

      Steps that `gradients.omega` leaves out are left out of all of these, and steps with r_t = 0,
      which no mean of logarithms has a place for, of `decay_rate`.

    Raises:
      ValueError: a loss that does not call `unroll` once; what `make_train_step` raises.
    """
    check_function("loss", loss, "(params, batch, unroll) -> scalar")
    _check_telemetry(telemetry)
    update = make_update(optimizer, clip_norm)

    def measured(params: Params, batch: Any):
        slots, spread, reverse = _slots_for(loss, params, batch)

        def nudged_loss(params: Params, slots: Any):
            def unroll(cell: Cell, params: Params, xs: Any, *args: Any, **options: Any):
                return unroll_nudged(cell, params, xs, slots, *args, spread=spread, **options)

            return loss(params, batch, unroll)

        value, (grads, log_norms) = jax.value_and_grad(nudged_loss, (0, 1))(params, slots)
        at = log_norms.read
        counted = counted_steps(at, reverse=reverse).astype(at.dtype)
        return value, grads, at, _back(log_norms, reverse), counted

    def unmeasured(params: Params, batch: Any):
        value, grads = jax.value_and_grad(loss)(params, batch, plain_unroll)
        shapes = jax.eval_shape(measured, params, batch)[2:]
        return value, grads, *(jnp.full(shape.shape, jnp.nan, shape.dtype) for shape in shapes)

    def value_of(params: Params, batch: Any):
        return loss(params, batch, plain_unroll)

    if mesh is not None:
        value_of = share(value_of, mesh, batch_spec)
        measured = _shared(measured, mesh, batch_spec)
        unmeasured = _shared(unmeasured, mesh, batch_spec)

    def train_step(
        state: MonitoredTrainState, batch: Any
    ) -> tuple[MonitoredTrainState, dict[str, Array]]:
        if telemetry.every == 1:
            value, grads, *norms = measured(state.params, batch)
        else:
            value, grads, *norms = jax.lax.cond(
                state.step % telemetry.every == 0, measured, unmeasured, state.params, batch
            )
        followed, weights = _follow(telemetry, state)
        value_fn = lambda params: value_of(params, batch)
        state, metrics = update(replace(state, followed=followed), grads, value, value_fn)
        return state, {"loss": value, **metrics, **_summary(value, *norms), **weights}

    return train_step


def _slots_for(
    loss: Any, params: Params, batch: Any
) -> tuple[Nudges, Callable[[Array], State], bool]:
    """Return slots of the one `unroll` that the loss calls, how to spread them, if reversed."""
    calls: list[tuple[Any, Any, bool]] = []

    def unroll(cell: Cell, params: Params, xs: Any, *args: Any, **options: Any):
        slots = jax.eval_shape(functools.partial(zero_slots, cell), params, xs)
        calls.append((slots, spread_slots(cell, params, xs), options.get("reverse", False)))
        return plain_unroll(cell, params, xs, *args, **options)

    jax.eval_shape(lambda params, batch: loss(params, batch, unroll), params, batch)
    if len(calls) != 1:
        raise invalid(
            "loss",
            f"one that calls its unroll {len(calls)} times",
            "one call of it",
            "Call unroll(cell, params, xs) where rnn_jax.unroll stood; leave others as they are.",
        )
    ((slots, spread, reverse),) = calls
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), slots), spread, reverse


def _back(log_norms: Nudges, reverse: bool) -> Array:
    """Return ln of the norm of what comes back of ∂L/∂h_t to the state before t: `[T, *batch]`."""
    start, passed = log_norms.start[None], log_norms.passed
    return jnp.concatenate([passed[1:], start] if reverse else [start, passed[:-1]])


def _summary(value: Array, at: Array, back: Array, counted: Array) -> dict[str, Array]:
    """Return the metrics of the gradient, from L, `read`, `_back` and `counted_steps`."""
    profile = jax.nn.logsumexp(2 * at, axis=tuple(range(1, at.ndim))) / 2
    left_out = counted == 0  # Written so that NaN counts.
    log_ratio = jnp.where(left_out, 0, back - at)
    omega = jnp.square(jnp.expm1(log_ratio)).sum() / math.prod(at.shape[1:])
    blocked = log_ratio == -jnp.inf
    steps = (at.size - left_out.sum()).astype(at.dtype)
    moves = steps - blocked.sum().astype(at.dtype)
    decay_rate = jnp.where(blocked, 0, log_ratio).sum() / moves
    horizon = jnp.where(decay_rate >= 0, jnp.inf, -1 / decay_rate)
    # A NaN state may have let no gradient through at all, which is no number of its own.
    unknown = jnp.isnan(value) | jnp.isnan(counted).any()
    or_nan = lambda metric: jnp.where(unknown, jnp.nan, metric)
    return {
        "state_log_norms": or_nan(profile),
        "decay_rate": or_nan(decay_rate),
        "horizon": or_nan(horizon),
        "omega": or_nan(omega),
        "blocked": or_nan(blocked.sum().astype(at.dtype) / steps),
    }


def _shared(function: Callable[..., Any], mesh: Any, batch_spec: Any):
    """Return `function`, each device taking its part of the batch."""

    def of_a_part(params: Params, batch: Any):
        value, grads, at, back, counted = function(params, batch)
        # L is the mean over devices of each one's own.
        devices = math.log(mesh.size)
        mean = mean_over_devices((value, grads), mesh)
        return *mean, at - devices, back - devices, counted

    everywhere, examples = PartitionSpec(), PartitionSpec(None, mesh.axis_names)
    return jax.shard_map(
        of_a_part,
        mesh=mesh,
        in_specs=(everywhere, batch_spec),
        out_specs=(everywhere, everywhere, examples, examples, examples),
        check_vma=False,
    )


def _begin(W: Array) -> Followed:
    """Return where the first step goes on from: `WARM_UP` iterations, for growth after as many."""
    v = largest_singular_value(W, iterations=WARM_UP).v
    if W.shape[-1] != W.shape[-2]:
        return Followed(v, None, None)
    _, w = mean_log_growth(W, generic_vector(W), iterations=WARM_UP)
    log_growth, w = mean_log_growth(W, w, iterations=WARM_UP)
    return Followed(v, w, log_growth)


def _follow(
    telemetry: Telemetry, state: MonitoredTrainState
) -> tuple[dict[str, Followed], dict[str, Array]]:
    """Take the iterations of one step, and their metrics."""
    followed, metrics = {}, {}
    for name, W in telemetry.matrices_of(state.params).items():
        before = state.followed[name]
        n = telemetry.iterations
        sigma, _, v = largest_singular_value(W, iterations=n, start=before.v)
        metrics[f"spectral_norm/{name}"] = _without_one(sigma)
        w, log_growth = before.w, before.log_growth
        if w is not None and log_growth is not None:
            growth, w = mean_log_growth(W, w, iterations=n)
            log_growth = EMA_DECAY * log_growth + (1 - EMA_DECAY) * growth
            metrics[f"spectral_radius/{name}"] = _without_one(jnp.exp(log_growth))
        followed[name] = Followed(v, w, log_growth)
    return followed, metrics


def _without_one(values: Array) -> Array:
    return values[0] if values.shape[:1] == (1,) else values
