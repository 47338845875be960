r"""The gradient of E = Σ_t E_t, term by term.

.. math::
    \frac{\partial E}{\partial \theta} = \sum_t \sum_{k \le t}
        \frac{\partial E_t}{\partial h_t} \frac{\partial h_t}{\partial h_k}
        \frac{\partial^+ h_k}{\partial \theta}

∂⁺ is the immediate derivative at step k, with h_{k-1} held constant; what y_t itself has of θ (V
and c of a readout) belongs to the term k = t.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.errors import invalid
from rnn_jax.gradients.decomposition.backward_sweep import (
    AtStep,
    backward_sweep,
    shifted_rows,
    with_bands_if_lost,
)
from rnn_jax.gradients.decomposition.learned_start import GIVEN, Learn, LearnedStart, Start
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep
from rnn_jax.gradients.step.perturbed_step import PerturbedStep, Wrt
from rnn_jax.lengths import batch_of, step_at, steps_of
from rnn_jax.linalg import log_norm, log_power_of_two
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, StepLoss


@flax.struct.dataclass
class Decomposition:
    """Natural logarithms of norms; -inf where a term is zero, NaN where it cannot be trusted.

    Attributes:
      state_log_norms: ln ‖∂E_t/∂h_k‖₂ at [t, k], `[T, T+1, *batch]`. t counts steps as `xs` does
        and k counts states as `trajectory` does: state k+1 is the one that step k hands on, and
        E_t reads state t+1. -inf for k > t + 1. NaN where any of the states k .. t + 1 is not
        finite.
      param_log_norms: like params, each leaf the ln of the Frobenius norm of the (t, k) term of
        that parameter's gradient at [t, k], `[T, T, *batch]`, both counting steps. -inf for k > t.
        NaN as for the states.
    """

    state_log_norms: Array
    param_log_norms: Params


def decompose(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Any,
    loss: StepLoss,
    initial_state: Start = None,
) -> Decomposition:
    """Measure how much of the gradient of E_t passes through each earlier step k, for all (t, k).

    One backward sweep carries the cotangents of every E_t together, each with an exponent of its
    own, so nothing under- or overflows at any lag in any dtype. A parameter matrix that meets a
    vector once a step costs no matrix here, in any cell: its term is an outer product.

    Time grows as T² and memory as T² + T S for each example; `decompose_windows` has neither.

    Args:
      cell, params, xs: as for `unroll`; any Cell serves.
      initial_state: as for `unroll`, or a function of params that returns it. What such a function,
        or the cell's own initial state, has of params belongs to the terms of k = 0; a state that
        is given is a constant.
      targets: `[T, *batch, ...]`, or a pytree of such arrays, as the loss takes them.
      loss: `(y, target) -> E_t`, a scalar per example. With a weight for each step among the
        targets it is a loss of the last step, of masked steps, or of whichever are meant.

    Returns:
      A Decomposition. ∂E_t/∂h_{t+1} (counting as `trajectory` does) is what y_t reads of the state
      that its step hands on, as the step computes it; -inf where y_t reads none of it.

    Raises:
      ValueError: what `unroll` and the loss raise.
    """
    cell, xs, start, learn = checked_learned_start(cell, params, xs, initial_state)
    check_targets(targets, xs)
    return _decompose(cell, params, xs, start, targets, loss, learn)


@compiled("cell", "loss", "learn")
def _decompose(
    cell: Cell, params: Params, xs: Any, start: State, targets: Any, loss: Any, learn: Any
) -> Decomposition:
    T, learned = steps_of(xs), LearnedStart(cell, params, learn, batch_of(xs))

    def one_example(bands: bool, start_and_number: Any, xs: Any, targets: Any):
        start, number = start_and_number
        sweep = LogNormSweep(cell, params, start, xs, targets, loss, learned, number)
        at_start, (states, per_leaf), lost = sweep(max_lag=T, bands=bands)
        states = jnp.concatenate([at_start[None], states])
        by_t = lambda by_step: shifted_rows(by_step, len(by_step), -jnp.inf).T
        norms = Decomposition(by_t(states)[1:], sweep.like_params([by_t(p) for p in per_leaf]))
        return norms, lost[None, None]

    def run(bands: bool):
        mapped = over_batch(functools.partial(one_example, bands), len(batch_of(xs)), out_axis=2)
        return mapped((start, learned.examples()), xs, targets)

    return with_bands_if_lost(run)


class LogNormSweep:
    """The backward sweep of one example that collects logarithms of norms."""

    def __init__(
        self,
        cell: Cell,
        params: Params,
        start: State,
        xs: Any,
        targets: Any,
        loss: Any,
        learned: Any,
        number: Any,
    ):
        self._perturbed = PerturbedStep(cell, params, start, step_at(xs, 0), learned.leaves)
        self._pull = learned.pull(number)
        self._unravel = ravel_pytree(start)[1]
        self._params = params
        hs = LinearizedStep(cell, params, start).states(xs)[:-1]
        self._sequence = loss, hs, xs, targets
        self.dtype = hs.dtype

    def __call__(
        self,
        *,
        max_lag: int,
        mean: Callable[[Any], Any] = lambda logs: logs,
        log_sums: tuple[Array, list[Array]] | None = None,
        bands: bool = False,
    ) -> tuple[Array, tuple[Array, list[Array]], Array]:
        """Sweep with `mean` of what is collected at each step; see `backward_sweep` on the others.

        Returns:
          The norms at the initial state by lag, `[L+1]`; what was collected, of the states that
          the steps hand on, and for each leaf of the parameters; whether bands were wanted.
        """
        at_start, collected, lost = backward_sweep(
            self._step,
            self._perturbed.wrt(),
            *self._sequence,
            lambda at: mean(self._log_norms(at)),
            max_lag=max_lag,
            log_sums=log_sums,
            from_start=None if self._pull is None else self._from_start,
            bands=bands,
        )
        of_rows = jnp.where(at_start.trusted, at_start.log_norms().astype(self.dtype), jnp.nan)
        # No loss reads the initial state at lag 0, and there are T of them at most.
        of_rows = jnp.where(jnp.arange(max_lag) < len(self._sequence[1]), of_rows, -jnp.inf)
        norms = mean(jnp.concatenate([jnp.full(1, -jnp.inf, self.dtype), of_rows]))
        return norms, collected, lost

    def like_params(self, leaves: list[Array]) -> Params:
        """Return a list with one entry for each leaf, as the pytree that the parameters are."""
        return jax.tree.unflatten(jax.tree.structure(self._params), leaves)

    def _from_start(self, received: Array) -> Wrt:
        assert self._pull is not None
        zeros = jax.tree.map(jnp.zeros_like, self._perturbed.wrt())
        leaves = jax.tree.leaves(self._pull(received))
        return zeros._replace(leaves={leaf: leaves[leaf] for leaf in zeros.leaves})

    def _step(self, wrt: Any, h: Array, x: Array):
        (state, y), factors = self._perturbed(wrt, self._unravel(h), x)
        return ravel_pytree(state)[0], y, factors

    def _log_norms(self, at: AtStep) -> tuple[Array, list[Array]]:
        direct = log_norm(self._perturbed.flat_state_cotangent(at.now), (0,))
        states = jnp.concatenate([direct[None], at.later.log_norms().astype(self.dtype)])
        norms = lambda ct: log_norm(ct, tuple(range(1, ct.ndim)))
        scaled = lambda ct, e: norms(ct) + log_power_of_two(e, self.dtype)
        leaves, products = at.received.leaves, at.received.products
        per_leaf = {leaf: scaled(ct, at.exponent.leaves[leaf]) for leaf, ct in leaves.items()}
        for leaf, ct in products.items():
            per_leaf[leaf] = scaled(ct, at.exponent.products[leaf]) + log_norm(at.aux[leaf], (0,))
        terms = [per_leaf[leaf] for leaf in range(len(per_leaf))]
        return (
            _or_nan(at.trusted, states),
            [_or_nan(at.trusted_before, logs) for logs in terms],
        )


def decompose_terms(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Any,
    loss: StepLoss,
    initial_state: Start = None,
) -> Params:
    """Return the (t, k) terms themselves: like params, each leaf `[T, T, *leaf.shape]`.

    Summed over the batch; exactly zero for k > t; NaN where a state from k to t + 1 is not finite;
    their sum over (t, k) is `jax.grad` of E. For small sizes: memory grows as T² times the number
    of parameters, for each example. Arguments and errors are those of `decompose`.
    """
    cell, xs, start, learn = checked_learned_start(cell, params, xs, initial_state)
    check_targets(targets, xs)
    return _decompose_terms(cell, params, xs, start, targets, loss, learn)


@compiled("cell", "loss", "learn")
def _decompose_terms(
    cell: Cell, params: Params, xs: Any, start: State, targets: Any, loss: Any, learn: Any
) -> Params:
    learned = LearnedStart(cell, params, learn, batch_of(xs))

    def one_example(bands: bool, start_and_number: Any, xs: Any, targets: Any):
        start, number = start_and_number

        def step(params: Params, h: Array, x: Array):
            after, y = LinearizedStep(cell, params, start)(h, x)
            return after, y, None

        def terms(at: Any):
            def term(ct: Any, exponent: Array):
                along = lambda row: row.reshape(-1, *[1] * (ct.ndim - 1))
                values = jnp.ldexp(ct, along(exponent))
                return jnp.where(along(at.trusted_before), values, jnp.nan)

            return jax.tree.map(term, at.received, at.exponent)

        hs = LinearizedStep(cell, params, start).states(xs)[:-1]
        _, by_step, lost = backward_sweep(
            step,
            params,
            loss,
            hs,
            xs,
            targets,
            terms,
            max_lag=steps_of(xs) - 1,
            from_start=learned.pull(number),
            bands=bands,
        )
        by_t = lambda leaf: jnp.swapaxes(shifted_rows(leaf, len(leaf), 0), 0, 1)
        return jax.tree.map(by_t, by_step), lost

    def run(bands: bool):
        mapped = over_batch(functools.partial(one_example, bands), len(batch_of(xs)), out_axis=0)
        return mapped((start, learned.examples()), xs, targets)

    per_example = with_bands_if_lost(run)
    batch_axes = tuple(range(len(batch_of(xs))))
    return jax.tree.map(lambda leaf: leaf.sum(batch_axes), per_example)


def checked_learned_start(
    cell: Cell, params: Params, xs: Array, initial_state: Start
) -> tuple[Cell, Array, State, Learn]:
    """Return cell, xs and start as `continuous` does, and how the start is made of parameters."""
    if not callable(initial_state):
        cell, xs, start = continuous(cell, params, xs, initial_state)
        return cell, xs, start, None if initial_state is None else GIVEN
    cell, xs, start = continuous(cell, params, xs, initial_state(params))
    return cell, xs, start, initial_state


def check_targets(targets: Any, xs: Array) -> None:
    """Raise ValueError unless `targets` is `[T, *batch, ...]`, or a pytree of such arrays."""
    lead = (steps_of(xs), *batch_of(xs))
    for leaf in jax.tree.leaves(targets) or [targets]:
        if not hasattr(leaf, "shape") or leaf.shape[: len(lead)] != lead:
            remedy = "Pass one target for each step of each example, in the order of xs."
            raise invalid("targets", leaf, f"[{', '.join(map(str, lead))}, ...]", remedy)


def _or_nan(trusted: Array, logs: Array) -> Array:
    """Return NaN too where a norm is infinite, which is what it overflowed to."""
    return jnp.where(trusted & (logs < jnp.inf), logs, jnp.nan)
