r"""The gradient of E = Σ_t E_t, term by term.

.. math::
    \frac{\partial E}{\partial \theta} = \sum_t \sum_{k \le t}
        \frac{\partial E_t}{\partial h_t} \frac{\partial h_t}{\partial h_k}
        \frac{\partial^+ h_k}{\partial \theta}

∂⁺ is the immediate derivative at step k, with h_{k-1} held constant; what y_t itself has of θ (V
and c of a readout) belongs to the term k = t.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.errors import invalid
from rnn_jax.gradients.examples import flat_step, flat_trajectory, over_batch
from rnn_jax.gradients.taps import TappedStep
from rnn_jax.linalg import log_norm, log_power_of_two, split_exponent
from rnn_jax.types import Array, Cell, Params, State, StepLoss
from rnn_jax.unroll import checked_start


@flax.struct.dataclass
class Decomposition:
    """Natural logarithms of norms; -inf where a term is zero.

    Attributes:
      state_log_norms: ln ‖∂E_t/∂h_k‖₂ at [t, k], `[T, T+1, *batch]`. t counts steps as `xs` does
        and k counts states as `trajectory` does: state k+1 is the one that step k hands on, and
        E_t reads state t+1. -inf for k > t + 1.
      param_log_norms: like params, each leaf the ln of the Frobenius norm of the (t, k) term of
        that parameter's gradient at [t, k], `[T, T, *batch]`, both counting steps. -inf for k > t.
    """

    state_log_norms: Array
    param_log_norms: Params


def decompose(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Array,
    loss: StepLoss,
    initial_state: State | None = None,
) -> Decomposition:
    """How much of the gradient of E_t passes through each earlier step k, for all (t, k).

    One backward sweep carries the cotangents of every E_t together, each with an exponent of its
    own, so nothing under- or overflows at any lag in any dtype. A parameter matrix that meets a
    vector once a step costs no matrix here, in any cell: its term is an outer product.

    Time grows as T² and memory as T² + T S for each example.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      targets: `[T, *batch, ...]`, as the loss takes them.
      loss: `(y, target) -> E_t`, a scalar per example.

    Returns:
      A Decomposition. ∂E_t/∂h_{t+1} (counting as `trajectory` does) is what y_t reads of the state
      that its step hands on, as the step computes it; -inf where y_t reads none of it.

    Raises:
      ValueError: what `unroll` and the loss raise.
    """
    start = checked_start(cell, params, xs, initial_state)
    check_targets(targets, xs)

    def one_example(start, xs, targets):
        tapped = TappedStep(cell, params, start, xs[0])
        unravel = ravel_pytree(start)[1]
        param_leaves, param_tree = jax.tree.flatten(params)
        steps = jnp.arange(xs.shape[0])

        def step(wrt, h, x):
            (state, y), factors = tapped(wrt, unravel(h), x)
            return ravel_pytree(state)[0], y, factors

        def log_norms(k, cotangents, received, received_now, factors):
            mantissa, exponent = cotangents
            direct = tapped.flat_state_cotangent(received_now)
            state = jnp.where(steps == k, log_norm(direct, (0,)), _log_norms(mantissa, exponent))
            per_leaf = {leaf: _log_norms(ct, exponent) for leaf, ct in received.leaves.items()}
            for leaf, ct in received.products.items():
                per_leaf[leaf] = _log_norms(ct, exponent) + log_norm(factors[leaf], (0,))
            return state, [per_leaf[leaf] for leaf in range(len(param_leaves))]

        hs = flat_trajectory(cell, params, xs, start)[:-1]
        at_start, (states, per_leaf) = _backward_sweep(
            step, tapped.wrt(), loss, hs, xs, targets, log_norms
        )
        states = jnp.concatenate([_log_norms(*at_start)[None], states]).T
        return Decomposition(states, jax.tree.unflatten(param_tree, [leaf.T for leaf in per_leaf]))

    return over_batch(one_example, xs.ndim - 2, out_axis=2)(start, xs, targets)


def decompose_terms(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Array,
    loss: StepLoss,
    initial_state: State | None = None,
) -> Params:
    """The (t, k) terms themselves: like params, each leaf `[T, T, *leaf.shape]`.

    Summed over the batch; exactly zero for k > t; their sum over (t, k) is `jax.grad` of E. For
    small sizes: memory grows as T² times the number of parameters, for each example. Arguments and
    errors are those of `decompose`.
    """
    start = checked_start(cell, params, xs, initial_state)
    check_targets(targets, xs)

    def one_example(start, xs, targets):
        def step(params, h, x):
            after, y = flat_step(cell, params, start)(h, x)
            return after, y, None

        def terms(k, cotangents, received, received_now, _):
            exponent = cotangents[1]
            return jax.tree.map(
                lambda ct: jnp.ldexp(ct, exponent.reshape(-1, *[1] * (ct.ndim - 1))), received
            )

        hs = flat_trajectory(cell, params, xs, start)[:-1]
        _, terms_k_t = _backward_sweep(step, params, loss, hs, xs, targets, terms)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), terms_k_t)

    per_example = over_batch(one_example, xs.ndim - 2, out_axis=0)(start, xs, targets)
    batch_axes = tuple(range(xs.ndim - 2))
    return jax.tree.map(lambda leaf: leaf.sum(batch_axes), per_example)


def _backward_sweep(step, wrt, loss, hs, xs, targets, collect):
    """Backpropagate every E_t at once, from the last step to the first.

    Args:
      step: `(wrt, h [S], x) -> (h [S], y, aux)`.
      wrt: the pytree whose immediate derivatives are asked for, the same at every step.
      hs: `[T, S]`, the state before each step.
      collect: `(k, cotangents, received, received_now, aux)`, called at each step k:
        cotangents: mantissas `[T, S]` and exponents `[T]` of ∂E_t/∂h for the state h that step k
          hands on, zero for t <= k.
        received: like wrt with a leading axis t, what E_t sends to wrt through step k, to be
          scaled by 2^exponents; zero for t < k.
        received_now: its row t = k.

    Returns:
      The cotangents at the initial state, and what was collected, stacked on k.
    """
    T, S = hs.shape

    def body(cotangents, at_k):
        k, h, x, target = at_k
        mantissa, exponent = cotangents

        def advance(wrt, h):
            after, _, aux = step(wrt, h, x)
            return after, aux

        def E_k(wrt, h):
            return loss(step(wrt, h, x)[1], target)

        _, pull, aux = jax.vjp(advance, wrt, h, has_aux=True)
        later = jax.vmap(pull)(mantissa)
        now = jax.grad(E_k, argnums=(0, 1))(wrt, h)
        received, at_h = jax.tree.map(lambda rows, row: rows.at[k].set(row), later, now)
        collected = collect(k, cotangents, received, now[0], aux)
        mantissa, rescaled = split_exponent(at_h, (1,))
        return (mantissa, exponent + rescaled), collected

    nothing = (jnp.zeros((T, S), hs.dtype), jnp.zeros(T, jnp.int32))
    return jax.lax.scan(body, nothing, (jnp.arange(T), hs, xs, targets), reverse=True)


def check_targets(targets: Any, xs: Array) -> None:
    """Raise ValueError unless `targets` is `[T, *batch, ...]`."""
    lead = xs.shape[:-1]
    if not hasattr(targets, "shape") or targets.shape[: len(lead)] != lead:
        remedy = "Pass one target for each step of each example, in the order of xs."
        raise invalid("targets", targets, f"[{', '.join(map(str, lead))}, ...]", remedy)


def _log_norms(mantissa: Array, exponent: Array) -> Array:
    """ln of the norm of each row, `[T]`."""
    norms = log_norm(mantissa, tuple(range(1, mantissa.ndim)))
    return norms + log_power_of_two(exponent, norms.dtype)
