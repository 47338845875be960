"""The state that one train step hands to the next, and its makers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_size, invalid
from rnn_jax.training.checks import check_optimizer, check_params
from rnn_jax.training.telemetry import PowerIteration, Telemetry, begin_monitor, check_telemetry
from rnn_jax.types import Array, Params, State


@flax.struct.dataclass
class TrainState:
    """The state of training, of whatever kind.

    Attributes:
      step: number of steps taken.
      params: parameters of the network.
      opt_state: state of the optimizer.
      carried: state of each stream, leaves `[B, ...]`; None unless training is stateful.
      monitor: power iterations of each matrix by name; None unless there is telemetry.
    """

    step: Array
    params: Params
    opt_state: optax.OptState
    carried: State = None
    monitor: dict[str, PowerIteration] | None = None

    @property
    def followed(self) -> dict[str, PowerIteration] | None:
        """Return `monitor`, by its earlier name."""
        return self.monitor


StatefulTrainState = TrainState
MonitoredTrainState = TrainState


def create_train_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first step.

    Raises:
      ValueError: params that are no pytree of floating arrays; an optimizer that is none.
    """
    check_optimizer(optimizer)
    check_params(params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def check_same_optimizer(optimizer: optax.GradientTransformation, state: TrainState) -> None:
    """Raise ValueError unless the state is one that the optimizer would begin with."""
    try:
        wanted: Any = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    except Exception:  # one whose init looks at numbers: nothing can be said of it here
        return
    found = jax.tree.structure(state.opt_state)
    if wanted != found:
        remedy = "Create the state with the optimizer of the step."
        raise invalid("state", f"one of an optimizer with {found}", f"{wanted}", remedy)


def create_stateful_train_state(
    cell: Cell,
    params: Params,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    *,
    telemetry: Telemetry | None = None,
) -> TrainState:
    """Return the state before the first step: `batch_size` streams at the cell's initial state.

    Args:
      cell: any Cell.
      params: its parameters.
      optimizer: any of optax.
      batch_size: number of streams, B.
      telemetry: the Telemetry of the step, if any.

    Raises:
      ValueError: a batch size that is no positive integer; what `create_train_state` raises; no
        Telemetry.
    """
    check_cell("cell", cell)
    check_size("batch_size", batch_size)
    if telemetry is None:
        start = create_train_state(params, optimizer)
    else:
        start = create_monitored_train_state(params, optimizer, telemetry)
    return replace(start, carried=cell.initial_state(params, (int(batch_size),)))


def create_monitored_train_state(
    params: Params, optimizer: optax.GradientTransformation, telemetry: Telemetry
) -> TrainState:
    """Return the state before the first step, with the power iterations of each matrix.

    Raises:
      ValueError: what `create_train_state` raises; no Telemetry, or one of another cell.
    """
    check_telemetry(telemetry)
    start = create_train_state(params, optimizer)
    return replace(start, monitor=begin_monitor(telemetry, params))


def check_state(state: Any) -> None:
    """Raise ValueError unless `state` is a TrainState."""
    if not isinstance(state, TrainState):
        raise invalid("state", state, "a TrainState", "Make one with training.create_train_state.")
