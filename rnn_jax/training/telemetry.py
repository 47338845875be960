r"""Telemetry: its metrics, and the power iterations of recurrent matrices while they are trained.

A few power iterations a step go on from where those of the step before ended; the gradient at the
states is measured in `training.state_gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.struct
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_function, check_size, invalid
from rnn_jax.gradients.regularization.recurrent_matrices import recurrent_matrices
from rnn_jax.linalg.largest_singular_value import (
    generic_vector,
    largest_singular_value,
    mean_log_growth,
)
from rnn_jax.types import Array, Params

EMA_DECAY = 0.9
"""Decay of the moving average of ln ‖W w‖ from one step to the next."""
WARM_UP = 100
"""Power iterations before the first step."""


@dataclass(frozen=True)
class Telemetry:
    r"""Measurements of a monitored step, by the backward pass that training takes anyway.

    Its metrics are those of `make_train_step`, `grad_norm` before clipping, `clipped`, whose mean
    is the clip rate, and `skipped` among them; and

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

    Attributes:
      cell: the cell that is unrolled.
      matrices: `params -> {name: W [..., m, n]}`, whose norms are measured; by default the
        recurrent matrices of a cell with a structure (`gradients.recurrent_matrices`), and none of
        another.
      every: number of steps from one measurement of the gradient to the next; NaN in between.
      iterations: number of power iterations a step.
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
        """Return the matrices that are measured, by name."""
        if self.matrices is not None:
            return dict(self.matrices(params))
        structure = self.cell.structure
        known = structure is not None and structure.products
        return recurrent_matrices(self.cell, params) if known else {}


@flax.struct.dataclass
class PowerIteration:
    """State of the power iterations of one matrix `W [..., m, n]`.

    Attributes:
      v: estimate of the right singular vector, `[..., n]`.
      w: direction of Wᵏ w, `[..., n]`; None for a W that is not square.
      log_growth: moving average of ln ‖W w‖, `[...]`; None likewise.
    """

    v: Array
    w: Array | None
    log_growth: Array | None


def check_telemetry(telemetry: Any) -> None:
    """Raise ValueError unless `telemetry` is a Telemetry."""
    if not isinstance(telemetry, Telemetry):
        remedy = "Pass training.Telemetry(cell)."
        raise invalid("telemetry", telemetry, "a Telemetry", remedy)


def begin_monitor(telemetry: Telemetry, params: Params) -> dict[str, PowerIteration]:
    """Return the power iterations before the first step, by name of the matrix."""
    return {name: _begin(W) for name, W in telemetry.matrices_of(params).items()}


def _begin(W: Array) -> PowerIteration:
    v = largest_singular_value(W, iterations=WARM_UP).v
    if W.shape[-1] != W.shape[-2]:
        return PowerIteration(v, None, None)
    # Growth is averaged over a second warm-up: during the first, w still turns, and ‖W w‖ may be
    # anything up to ‖W‖.
    _, w = mean_log_growth(W, generic_vector(W), iterations=WARM_UP)
    log_growth, w = mean_log_growth(W, w, iterations=WARM_UP)
    return PowerIteration(v, w, log_growth)


def iterate(
    telemetry: Telemetry, params: Params, monitor: Mapping[str, PowerIteration] | None
) -> tuple[dict[str, PowerIteration], dict[str, Array]]:
    """Take the power iterations of one step; return their state then, and their metrics.

    Raises:
      ValueError: a monitor of other matrices, or none.
    """
    matrices = telemetry.matrices_of(params)
    if monitor is None or monitor.keys() != matrices.keys():
        got = f"a TrainState that monitors {'nothing' if monitor is None else sorted(monitor)}"
        remedy = "Pass the step's telemetry to the function that makes the state."
        raise invalid("state", got, f"one that monitors {sorted(matrices)}", remedy)
    after, metrics = {}, {}
    for name, W in matrices.items():
        before = monitor[name]
        n = telemetry.iterations
        sigma, _, v = largest_singular_value(W, iterations=n, start=before.v)
        metrics[f"spectral_norm/{name}"] = _without_axis_of_one(sigma)
        w, log_growth = before.w, before.log_growth
        if w is not None and log_growth is not None:
            # Where a complex pair leads, ‖W w‖ goes up and down as w turns in its plane, and only
            # the mean of its logarithm over many turns is ln ρ.
            growth, w = mean_log_growth(W, w, iterations=n)
            log_growth = EMA_DECAY * log_growth + (1 - EMA_DECAY) * growth
            metrics[f"spectral_radius/{name}"] = _without_axis_of_one(jnp.exp(log_growth))
        after[name] = PowerIteration(v, w, log_growth)
    return after, metrics


def _without_axis_of_one(values: Array) -> Array:
    return values[0] if values.shape[:1] == (1,) else values
