r"""The decomposition of long sequences: each loss through a window of its last L + 1 steps.

With l = t − k, and a norm for each example b,

.. math::
    \left\| \frac{\partial E_t}{\partial h_{t-l}} \right\|, \quad
    \left\| \frac{\partial E_t}{\partial h_{t-l}}
            \frac{\partial^+ h_{t-l}}{\partial \theta} \right\|, \qquad l = 0 .. L,

for each t and b, or their means over t, over b, or over both. h_t is the state that step t hands
on, so that what is left of E_t at lag l and what it gives θ there stand at the same index.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cell import Cell
from rnn_jax.errors import check_integer, invalid
from rnn_jax.gradients.decomposition.backward_sweep import shifted_rows, with_bands_if_lost
from rnn_jax.gradients.decomposition.decomposition import (
    LogNormSweep,
    check_targets,
    checked_learned_start,
)
from rnn_jax.gradients.decomposition.learned_start import LearnedStart, Start
from rnn_jax.lengths import batch_of, steps_of
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, StepLoss

MEANS = ("steps", "examples")


@flax.struct.dataclass
class WindowedDecomposition:
    """Natural logarithms of norms by lag; -inf where a term is zero, NaN where it can't be trusted.

    Without means all are `[T, L+1, *batch]` at [t, l]; a mean over steps takes the axis t away, and
    one over examples those of the batch. -inf for lags that reach past the beginning.

    Attributes:
      state_log_norms: ln ‖∂E_t/∂h‖₂ for the state h that step t − l hands on, which is state
        t + 1 − l of `trajectory`; l = t + 1 is the initial state. NaN where a state on the way
        from there to E_t is not finite, and in every mean that has such a term in it.
      param_log_norms: like params, the ln of the Frobenius norm of the (t, t − l) term. NaN
        likewise.
    """

    state_log_norms: Array
    param_log_norms: Params


def decompose_windows(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Any,
    loss: StepLoss,
    initial_state: Start = None,
    *,
    max_lag: int,
    mean_over: Sequence[str] = (),
) -> WindowedDecomposition:
    """Decompose over the lags 0 .. L, in time T L and memory T (L + S) + L S.

    The sweep carries the last L + 1 losses alone. A mean over steps leaves nothing of T in memory
    but the trajectory: T S + L S for each example.

    Args:
      cell, params, xs, targets, loss, initial_state: as for `decompose`.
      max_lag: L, at least 1.
      mean_over: "steps", "examples", both or neither. A mean is ln of the arithmetic mean of the
        norms, over all steps t that have that lag, over all examples: at least the norm of the
        mean term, which may cancel. It does not overflow where a norm would.

    Raises:
      ValueError: max_lag that is no positive integer, an unknown mean; what `decompose` raises.
    """
    max_lag = check_integer("max_lag", max_lag, remedy="L + 1 steps back from each loss are seen.")
    _check_means(mean_over)
    cell, xs, start, learn = checked_learned_start(cell, params, xs, initial_state)
    check_targets(targets, xs)
    return _decompose(
        cell, params, xs, start, targets, loss, learn, max_lag, tuple(sorted(mean_over))
    )


@compiled("cell", "loss", "learn", "max_lag", "mean_over")
def _decompose(
    cell: Cell,
    params: Params,
    xs: Any,
    start: State,
    targets: Any,
    loss: Any,
    learn: Any,
    max_lag: Any,
    mean_over: Any,
) -> WindowedDecomposition:
    T, batch = steps_of(xs), batch_of(xs)
    learned = LearnedStart(cell, params, learn, tuple(batch))
    over_steps = "steps" in mean_over
    names = tuple(f"examples {i}" for i in range(len(batch))) if "examples" in mean_over else ()
    lags = np.arange(max_lag + 1)

    def one_example(bands: bool, start_and_number: Any, xs: Any, targets: Any):
        start, number = start_and_number
        sweep = LogNormSweep(cell, params, start, xs, targets, loss, learned, number)
        none = jnp.full(max_lag + 1, -jnp.inf, sweep.dtype)
        at_start, (states, leaves), lost = sweep(
            max_lag=max_lag,
            bands=bands,
            mean=lambda logs: jax.tree.map(lambda log: _mean(log, names), logs),
            log_sums=(none, [none for _ in jax.tree.leaves(params)]) if over_steps else None,
        )
        if over_steps:
            log_count = lambda n: jnp.asarray(np.log(np.maximum(n, 1)), sweep.dtype)
            states = jnp.logaddexp(states, at_start) - log_count(T - lags + (lags > 0))
            leaves = [leaf - log_count(T - lags) for leaf in leaves]
        else:
            states = jnp.concatenate([at_start[None], states])
            states = shifted_rows(states.T, T + 1, -jnp.inf)[:, 1:].T
            leaves = [shifted_rows(leaf.T, T, -jnp.inf).T for leaf in leaves]
        if names:
            lost = jax.lax.pmax(lost.astype(jnp.int32), names) > 0
        lost = lost.reshape([1] * (out_axis or 0))
        return WindowedDecomposition(states, sweep.like_params(leaves)), lost

    def run(bands: bool):
        example = functools.partial(one_example, bands)
        mapped = over_batch(example, len(batch), out_axis=out_axis, axis_names=names)
        return mapped((start, learned.examples()), xs, targets)

    out_axis = None if names else 2 - over_steps
    return with_bands_if_lost(run)


def _mean(logs: Array, names: tuple[str, ...]) -> Array:
    """Return ln of the mean of exp(logs) over mapped axes."""
    if not names:
        return logs
    top = jax.lax.pmax(logs, names)
    top = jnp.where(jnp.isfinite(top), top, 0)
    return top + jnp.log(jax.lax.pmean(jnp.exp(logs - top), names))


def _check_means(mean_over: Any):
    unknown = [name for name in mean_over if name not in MEANS]
    if unknown or isinstance(mean_over, str):
        raise invalid("mean_over", mean_over, f"some of {MEANS}", "Pass ('steps',), say.")
