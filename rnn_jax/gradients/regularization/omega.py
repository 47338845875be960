r"""Ω of Pascanu, Mikolov and Bengio (2013): gradients that keep their norm on their way back.

.. math::
    \Omega = \sum_k \left( \frac{\left\| \frac{\partial E}{\partial h_{k+1}}
        \frac{\partial h_{k+1}}{\partial h_k} \right\|}
        {\left\| \frac{\partial E}{\partial h_{k+1}} \right\|} - 1 \right)^2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import choose, describe, invalid
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.perturbations import run_perturbed, zeros_along
from rnn_jax.lengths import StepMasks, batch_of, input_dtype, steps_of
from rnn_jax.linalg import log_power_of_two, split_exponent
from rnn_jax.linalg.largest_singular_value import norm
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, at_least_float32
from rnn_jax.unrolling.arguments import masks_of
from rnn_jax.unrolling.trajectory import states_along

MIN_SQUARED_GRADIENT_NORM = 1e-20
"""‖∂E/∂h_{k+1}‖² relative to that of the last step with a gradient, below which Ω leaves it out."""


def omega(
    cell: Cell,
    params: Params,
    xs: Array,
    objective: Callable[[Array], Array],
    initial_state: State | Callable[[Params], State] | None = None,
    *,
    lengths: Array | None = None,
    derivative: str = "immediate",
) -> Array:
    """Return Ω, summed over steps, and its mean over examples.

    With the immediate derivative, its gradient is taken through the parameters only as they appear
    in ∂h_{k+1}/∂h_k, with h_k and ∂E/∂h_{k+1} held constant. In the paper's network,
    x_{k+1} = W σ(x_k) + W_in u + b (`elman_preactivation`), that is W alone; in a cell whose step
    Jacobian depends on U and b besides, as φ'(W h + U x + b) does, they have a part in it too. With
    the full one, everything is differentiated, the states and ∂E/∂h_{k+1} as well. The values are
    the same. The immediate one takes the time of about two more gradients, the full one that of
    about six (`benchmarks/telemetry.py`).

    Args:
      cell, params, xs, lengths: as for `unroll`; any Cell serves, and h is its whole state.
      objective: `ys [T, *batch, O] -> E`, a scalar or one for each example, `[*batch]`;
        `lambda ys: per_step(loss, ys, targets)`, `[T, *batch]`, is one too, of which the sum is
        meant. An example's E must not depend on the others' outputs.
      initial_state: as for `unroll`, or a function of params that returns it.
      derivative: "immediate" or "full".

    Returns:
      A scalar. Steps where ∂E/∂h_{k+1} is zero, as it is in the padding, or less than 1e-10 of what
      it is at the last step where it is not, are left out: a gradient that has vanished has no
      direction left to keep. No factor of E changes any of this. NaN where a state of the example,
      a parameter, ∂E/∂y or ∂E/∂h is not a finite number, or E has no gradient that its dtype can
      hold.

    Raises:
      ValueError: an unknown derivative, an objective of another shape; what `unroll` raises.

    Reference: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks
    (2013), arXiv 1211.5063, equations 9 and 10. Departure: theirs leaves out steps where
    ‖∂E/∂h_{k+1}‖² is below 1e-20 itself, so that a factor of E decides which.
    """
    choose("derivative", derivative, {"immediate": None, "full": None})
    start = initial_state(params) if callable(initial_state) else initial_state
    cell, xs, start = continuous(cell, params, xs, start, lengths=lengths)
    masks = masks_of(xs, lengths, None)
    return _omega(cell, params, xs, objective, start, masks, derivative)


@compiled("cell", "objective", "derivative")
def _omega(
    cell: Cell,
    params: Params,
    xs: Any,
    objective: Any,
    start: State,
    masks: StepMasks,
    derivative: Any,
) -> Array:
    states = states_along(cell, params, xs, start, masks)
    batch_ndim = len(batch_of(xs))

    def outputs(zeros: Any):
        return run_perturbed(cell, params, xs, start, masks, zeros)[1]

    ys, pull = jax.vjp(outputs, zeros_along(start, steps_of(xs)))
    _check_objective(objective, ys, xs)
    by_y = jax.grad(lambda ys: objective(ys).sum())(ys)
    # An example's E of size one: a power of two changes no ratio.
    from_y, _ = _mantissas(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), by_y), batch_ndim)
    (cotangents,) = pull(jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), from_y))
    received = cotangents.read
    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    if derivative == "immediate":
        before, received = jax.lax.stop_gradient((before, received))

    # The cotangents ∂E/∂h_{k+1} are mantissas of size one here, each example and step with its own
    # exponent: the ratio of norms needs none, and far back in a vanishing network no step is lost.
    # All states are known by now, so that time is one more batch axis.
    step = lambda state: cell.step(params, state, masks.fill(xs))[0]
    mantissas, exponents = _mantissas(received, 1 + batch_ndim)
    (passed,) = jax.vjp(step, before)[1](mantissas)

    at, back = (norm(flat_rows(tree, 1 + batch_ndim)) for tree in (mantissas, passed))
    alive = at > 0
    ratio = back / jnp.where(alive, at, 1)
    log_at = jnp.log(jnp.where(alive, at, 1)) + log_power_of_two(exponents, at.dtype)
    counts = alive & counted_steps(jnp.where(alive, log_at, -jnp.inf))
    terms = jnp.where(counts, jnp.square(ratio - 1), 0)
    known = _all_finite((states, by_y, received)) & ~_any_nan(params)
    return jnp.where(known, terms.sum(0).mean(), jnp.nan).astype(input_dtype(xs))


def counted_steps(log_at: Array, *, reverse: bool = False) -> Array:
    """Return which steps Ω is made of, from `log_at` = ln ‖∂E/∂h_{k+1}‖: bool `[T, *batch]`.

    Args:
      log_at: `[T, *batch]`, -inf where nothing is received.
      reverse: whether the steps were taken from the last to the first.
    """
    there = log_at > -jnp.inf
    last = jnp.argmax(there if reverse else there[::-1], axis=0)
    last = last if reverse else len(log_at) - 1 - last
    # Relative to where the gradient enters the sequence, so that no factor of E decides.
    entered = jnp.take_along_axis(log_at, last[None], axis=0)
    # Written so that NaN counts.
    small = 2 * (log_at - entered) < math.log(MIN_SQUARED_GRADIENT_NORM)
    return ~(small | (log_at == -jnp.inf))


def flat_rows(state: State, lead: int) -> Array:
    """Return everything but the first `lead` axes in one, `[*lead, S]`, in float32 at least."""
    leaves = [at_least_float32(leaf) for leaf in jax.tree.leaves(state)]
    rows = [leaf.reshape(*leaf.shape[:lead], math.prod(leaf.shape[lead:])) for leaf in leaves]
    return jnp.concatenate(rows, -1)


def _mantissas(tree: State, lead: int) -> tuple[State, Array]:
    """Return `tree` over 2^e, the largest entry of each `[*lead]` near one; e is held constant."""
    rows = jax.lax.stop_gradient(flat_rows(tree, lead))
    e = split_exponent(rows, (lead,))[1]

    def scaled(leaf: Any):
        along = e.reshape(*e.shape, *[1] * (leaf.ndim - lead))
        one, half = jnp.ones((), leaf.dtype), along // 2
        return leaf * jnp.ldexp(one, -half) * jnp.ldexp(one, half - along)

    return jax.tree.map(scaled, tree), e


def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _any_nan(params: Params) -> Array:
    floats = [x for x in jax.tree.leaves(params) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.stack([jnp.isnan(leaf).any() for leaf in floats] or [jnp.asarray(False)]).any()


def _check_objective(objective: Any, ys: Any, xs: Any):
    """Raise ValueError unless E is a float for all, for each example or for each step of each."""
    E = jax.eval_shape(objective, ys)
    T, batch = steps_of(xs), batch_of(xs)
    shape, dtype = getattr(E, "shape", None), getattr(E, "dtype", jnp.int32)
    per_example = shape in (tuple(batch), (T, *batch)) or (shape and math.prod(shape) == 1)
    if not (shape == () or per_example) or not jnp.issubdtype(dtype, jnp.floating):
        raise invalid(
            "objective",
            f"one that returns {describe(E)}",
            f"a float, [], {batch} or {[T, *batch]}",
            "Sum over all else: lambda ys: per_step(loss, ys, targets).",
        )
