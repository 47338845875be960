r"""Truncated backpropagation through time, and how far its gradient is from the full one.

BPTT(k2; k1): after every k1 steps, and at the end, a backward pass takes the losses since the pass
before it back through the last k2 steps. In the (t, k) terms of `decompose_terms`, steps counted
from 0, that is

.. math::
    g(k_1, k_2) = \sum_t \sum_{k = r(t)}^{t}
        \frac{\partial E_t}{\partial h_t} \frac{\partial h_t}{\partial h_k}
        \frac{\partial^+ h_k}{\partial \theta}, \qquad
    r(t) = \max\left(0,\; \min\left((\lfloor t / k_1 \rfloor + 1)\, k_1,\; T\right) - k_2\right)

Each E_t goes back through k2 − k1 + 1 to k2 steps, its own included, or to the beginning. k1 = 1
gives it exactly k2; k2 ≥ T is full BPTT; k1 = k2 = k, which divides T, makes segments of k steps
that hand on their state and no gradient. Where k1 does not divide T, the last pass has fewer losses
and goes back k2 steps all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_integer, invalid
from rnn_jax.gradients.decomposition.decomposition import check_targets
from rnn_jax.lengths import batch_of, select_state, steps_of
from rnn_jax.linalg import log_norm, split_exponent
from rnn_jax.losses import per_step
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, StepLoss
from rnn_jax.unrolling.arguments import checked, checked_masks, masks_of, start_of
from rnn_jax.unrolling.strategies import Strategy, resolve
from rnn_jax.unrolling.trajectory import states_along
from rnn_jax.unrolling.unroll import run


def truncated_gradient(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Array,
    loss: StepLoss,
    initial_state: State | Callable[[Params], State] | None = None,
    *,
    k1: int,
    k2: int,
    lengths: Array | None = None,
    resets: Array | None = None,
    strategy: Strategy | str = "auto",
) -> tuple[Array, Params, State]:
    """Return E and its gradient by BPTT(k2; k1), g(k1, k2) of the equation above.

    The states are computed once, and each backward pass starts from the one k2 steps before its
    end. As many passes as cover T steps run side by side, as examples of one batch: memory is
    about that of full BPTT, and the work k2 / k1 times that of full BPTT.

    Args:
      cell, params, xs, strategy: as for `unroll`; any Cell serves.
      targets: `[T, *batch, ...]`, as the loss takes them.
      loss: `(y, target) -> E_t`, a scalar per example.
      initial_state: as for `unroll`, or a function of params that returns it. What such a function,
        or the cell's own initial state, has of params is counted with the term k = 0; a state that
        is given is a constant.
      k1: steps from one backward pass to the next.
      k2: steps that a pass goes back, at least k1.
      lengths, resets: as for `unroll`. The last pass of an example ends at its own length, and
        E_t = 0 beyond, where no target is read. No pass goes back beyond a reset; passes are
        counted from step 0 of the array.

    Returns:
      E = Σ_t E_t, summed over steps and examples; its truncated gradient, like params; the state
      after the last step.

    Raises:
      ValueError: k1 that is no positive integer, k2 below k1; what `unroll` and the loss raise.

    Departure: the parameters stay the same from the first step to the last, where an on-line
    learner changes them after every pass.

    Reference: Williams and Peng, An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories, Neural Computation 2 (1990), who write BPTT(h; h'); the names
    k1 and k2 are those of Sutskever, Training recurrent neural networks (2013).
    """
    k1, k2s = _checked_steps(k1, [k2], "k2")
    xs, learn, given, how = _checked(
        cell, params, xs, targets, initial_state, lengths, resets, strategy
    )
    value, (gradient,), final_state = _passes(
        cell, params, xs, targets, loss, learn, given, k1, k2s, **how
    )
    return value, gradient, final_state


@flax.struct.dataclass
class TruncationError:
    """How far truncated gradients g are from the full one, ∇E.

    Attributes:
      k2: `[n]`, the steps that a pass goes back.
      cosine: g·∇E / (‖g‖ ‖∇E‖) over all parameters together, `[n]`; NaN where a norm is zero.
      relative_error: ‖g − ∇E‖ / ‖∇E‖ over all parameters together, `[n]`; NaN where ∇E is zero.
      param_cosine, param_relative_error: like params, each leaf `[n]`: the same for that parameter
        by itself. The V and c of a readout are exact at any k2, and can hide the error of W.
    """

    k2: Array
    cosine: Array
    relative_error: Array
    param_cosine: Params
    param_relative_error: Params


def truncation_error(
    cell: Cell,
    params: Params,
    xs: Array,
    targets: Array,
    loss: StepLoss,
    initial_state: State | Callable[[Params], State] | None = None,
    *,
    k1: int,
    k2s: Sequence[int],
    lengths: Array | None = None,
    resets: Array | None = None,
    strategy: Strategy | str = "auto",
) -> TruncationError:
    """Hold the gradients of BPTT(k2; k1) against full BPTT, for each k2 of `k2s`.

    All of them take the time of the largest k2: what each stretch of a pass adds to the gradient is
    kept by itself. The norms do not overflow where the gradients don't.

    Args:
      k2s: each at least k1, in any order.

    The other arguments and the errors are those of `truncated_gradient`.

    Returns:
      A TruncationError in the order of `k2s`.

    Reference: Aicher, Foti and Fox, Adaptively truncating backpropagation through time to control
    gradient bias (2019), who choose k2 by an estimate of the relative error.
    """
    k1, backs = _checked_steps(k1, k2s, "k2s")
    xs, learn, given, how = _checked(
        cell, params, xs, targets, initial_state, lengths, resets, strategy
    )
    _, truncated, _ = _passes(cell, params, xs, targets, loss, learn, given, k1, backs, **how)
    masks = masks_of(xs, how["lengths"], how["resets"])

    def E(params: Params) -> Array:
        start = _starting_from(learn or given, cell, xs)(params)
        _, ys = run(cell, params, xs, start, masks, strategy=how["strategy"])
        return per_step(loss, ys, targets, masks.valid).sum()

    full, tree = jax.tree.flatten(jax.grad(E)(params))
    full = [_rows(leaf[None]) for leaf in full]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *truncated)
    g = [_rows(leaf) for leaf in jax.tree.leaves(stacked)]
    cosines, errors = zip(*map(_compare, g, full), strict=True)
    cosine, error = _compare(jnp.concatenate(g, 1), jnp.concatenate(full, 1))
    by_parameter = (jax.tree.unflatten(tree, values) for values in (cosines, errors))
    return TruncationError(jnp.asarray(k2s), cosine, error, *by_parameter)


def _checked(
    cell: Cell,
    params: Params,
    xs: Any,
    targets: Any,
    initial_state: Any,
    lengths: Any,
    resets: Any,
    strategy: Any,
) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Return xs, the initial state as a function and as it was given, and how to unroll."""
    learn, given = (initial_state, None) if callable(initial_state) else (None, initial_state)
    xs, _ = checked(cell, params, xs, learn(params) if learn else given)
    checked_masks(xs, lengths, resets, reverse=False)
    check_targets(targets, xs)
    as_given = lambda a: None if a is None else jnp.asarray(a)
    how = {"lengths": as_given(lengths), "resets": as_given(resets), "strategy": resolve(strategy)}
    return xs, learn, given, how


@compiled("cell", "loss", "learn", "k1", "k2s", "strategy")
def _passes(
    cell: Cell,
    params: Params,
    xs: Any,
    targets: Any,
    loss: Any,
    learn: Any,
    given: Any,
    k1: Any,
    k2s: Any,
    lengths: Any,
    resets: Any,
    strategy: Any,
):
    # BPTT(k2; k1) runs a pass every k1 steps, k2 steps back from there. The passes of all ends are
    # a batch axis N: each starts from the state that the one trajectory has k2 steps before its
    # end. Several k2 share the longest pass, cut into stretches with parameters of their own: the
    # gradient of a shorter k2 is what the last stretches add.
    initial = _starting_from(learn or given, cell, xs)
    states = states_along(cell, params, xs, initial(params), masks_of(xs, lengths, resets))
    T, batch = steps_of(xs), batch_of(xs)
    # Where lengths differ, so do the steps of a pass: they then have the axes of the batch too.
    ends = T if lengths is None else lengths
    places = [] if lengths is None else list(jnp.indices(batch, sparse=True))
    passes = -(-T // k1)
    reaches = [min(k2, T) for k2 in k2s]
    falling = sorted(set(reaches), reverse=True)

    def over_batch(of_pass: Any):
        """Return `[.., N]` to `[.., N, *batch]`, if it is not so yet."""
        lead = of_pass.shape if lengths is None else of_pass.shape[: of_pass.ndim - len(batch)]
        shape = (*lead, *[1] * len(batch)) if lengths is None else of_pass.shape
        return jnp.broadcast_to(of_pass.reshape(shape), (*lead, *batch))

    def at(tree: Any, steps: Any):
        """Return leaves `[T, *batch, ...]` at `steps [.., N]` or `[.., N, *batch]`."""
        return jax.tree.map(lambda leaf: leaf[(steps, *places)], tree)

    def E(params_of_stretch: Any, n: Any):
        """Return Σ E_t over the passes `n [N]`.

        The i-th stretch of a pass, from falling[i] steps before its end to falling[i+1], has
        parameters of its own, whose gradient is what that stretch adds.
        """
        if lengths is not None:
            n = n.reshape(-1, *[1] * len(batch))
        end = jnp.minimum((n + 1) * k1, ends)
        first = jnp.maximum(end - falling[0], 0)
        state = at(states, first)
        for params, back, rest in zip(params_of_stretch, falling, [*falling[1:], 0], strict=True):
            first, stop = jnp.maximum(end - back, 0), jnp.maximum(end - rest, 0)
            start = jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), initial(params), state)
            # The stretch with step 0 is the one that a learned initial state answers to.
            state = select_state(first == 0, start, state)
            steps = first + jnp.arange(back - rest).reshape(-1, *[1] * first.ndim)
            stretch = at(xs, steps)
            resets_here = None if resets is None else at(resets, steps)
            masks = masks_of(stretch, over_batch(stop - first), resets_here)
            state, ys = run(cell, params, stretch, state, masks, strategy=strategy)
        its_own = (steps >= n * k1) & (steps < end)
        return per_step(loss, ys, at(targets, steps), over_batch(its_own)).sum()

    def add_passes(total: Any, n: Any):
        return jax.tree.map(jnp.add, total, jax.value_and_grad(E)([params] * len(falling), n)), None

    # Memory is that of one full backward pass at most, however k2 compares with k1.
    # As many passes at a time as cover T steps, in rounds of equal size.
    rounds = -(-passes // -(-T // falling[0]))
    together = -(-passes // rounds)
    n = jnp.arange(rounds * together).reshape(rounds, together)
    shapes = jax.eval_shape(jax.value_and_grad(E), [params] * len(falling), n[0])
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (value, added), _ = jax.lax.scan(add_passes, zero, n)

    sums = accumulate(reversed(added), lambda *trees: jax.tree.map(jnp.add, *trees))
    truncated = dict(zip(reversed(falling), sums, strict=True))
    final_state = jax.tree.map(lambda leaf: leaf[-1], states)
    return value, [truncated[reach] for reach in reaches], final_state


def _starting_from(initial_state: Any, cell: Cell, xs: Any) -> Callable[[Params], State]:
    """Return the initial state as a function of params, however it was given."""
    learn = initial_state if callable(initial_state) else lambda params: initial_state
    return lambda params: start_of(cell, params, xs, learn(params))


def _checked_steps(k1: Any, k2s: Any, name: str) -> tuple[int, tuple[int, ...]]:
    remedy = "A pass goes back k2 steps, at least over the k1 whose losses it takes."
    if not hasattr(k2s, "__len__") or len(k2s) == 0:
        raise invalid("k2s", k2s, "at least one number of steps", "Pass (1, 10, 100), say.")
    k1 = check_integer("k1", k1, remedy=remedy)
    return k1, tuple(check_integer(name, k2, least=k1, remedy=remedy) for k2 in k2s)


def _rows(leaf: Array) -> Array:
    """Return `[n, ...]` as n real vectors."""
    rows = leaf.reshape(len(leaf), -1)
    return jnp.concatenate([rows.real, rows.imag], 1) if jnp.iscomplexobj(rows) else rows


def _compare(g: Array, full: Array) -> tuple[Array, Array]:
    """Return cosine and relative error `[n]` of `g [n, P]` against `full [1, P]`."""

    def unit(rows: Any):
        mantissas, _ = split_exponent(rows, (1,))
        return mantissas / jnp.linalg.norm(mantissas, axis=1, keepdims=True)

    cosine = (unit(g) * unit(full)).sum(1)
    return cosine, jnp.exp(log_norm(g - full, (1,)) - log_norm(full, (1,)))
