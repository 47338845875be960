r"""Scalars to add to a loss, so that gradients neither vanish nor explode.

Pascanu's Ω asks of the gradient that it keeps its norm on its way back through each step:

.. math::
    \Omega = \sum_k \left( \frac{\left\| \frac{\partial E}{\partial h_{k+1}}
        \frac{\partial h_{k+1}}{\partial h_k} \right\|}
        {\left\| \frac{\partial E}{\partial h_{k+1}} \right\|} - 1 \right)^2

The penalties ask of W what would do so wherever the gradient points.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rnn_jax.errors import check_array, check_flag, check_number, choose, invalid
from rnn_jax.gradients.nudges import unroll_nudged, zero_nudges
from rnn_jax.gradients.power_iteration import largest_singular_value
from rnn_jax.types import Array, Cell, Params, State
from rnn_jax.unroll import checked_marks, trajectory

LEAST_SQUARE = 1e-20
"""Of ‖∂E/∂h_{k+1}‖², below which a step is left out of Ω."""


def omega(
    cell: Cell,
    params: Params,
    xs: Array,
    objective: Callable[[Array], Array],
    initial_state: State | None = None,
    *,
    lengths: Array | None = None,
    derivative: str = "immediate",
) -> Array:
    """Ω, summed over steps, and its mean over examples.

    With the immediate derivative, its gradient is taken through the parameters only as they appear
    in ∂h_{k+1}/∂h_k, with h_k and ∂E/∂h_{k+1} held constant. In the paper's network,
    x_{k+1} = W σ(x_k) + W_in u + b (`elman_preactivation`), that is W alone; in a cell whose step
    Jacobian depends on U and b besides, as φ'(W h + U x + b) does, they have a part in it too. With
    the full one, everything is differentiated, the states and ∂E/∂h_{k+1} as well. The values are
    the same. The immediate one takes the time of about two more gradients, the full one that of
    about six (`benchmarks/telemetry.py`).

    Args:
      cell, params, xs, initial_state, lengths: as for `unroll`; any Cell serves, and h is its
        whole state.
      objective: `ys [T, *batch, O] -> E`, a scalar or one for each example, `[*batch]`;
        `lambda ys: per_step(loss, ys, targets)` is one too, of which the sum is meant. An example's
        E must not depend on the others' outputs, and its scale decides which steps are left out.
      derivative: "immediate" or "full".

    Steps where ‖∂E/∂h_{k+1}‖² < 1e-20, and steps of the padding, are left out.

    Raises:
      ValueError: an unknown derivative, what `unroll` and the objective raise.

    Reference: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks
    (2013), arXiv 1211.5063, equations 9 and 10.
    """
    choose("derivative", derivative, {"immediate": None, "full": None})

    def E(nudges):
        ys = unroll_nudged(cell, params, xs, nudges, initial_state, lengths=lengths)[1]
        return objective(ys).sum()

    received = jax.grad(E)(zero_nudges(cell, params, xs)).read
    states = trajectory(cell, params, xs, initial_state, lengths=lengths)
    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    if derivative == "immediate":
        before, received = jax.lax.stop_gradient((before, received))
    marks = checked_marks(xs, lengths, None, reverse=False)

    # All states are known by now, so that time is one more batch axis.
    step = lambda state: cell.step(params, state, marks.zero_padding(xs))[0]
    (passed,) = jax.vjp(step, before)[1](received)

    batch_ndim = xs.ndim - 2
    at, back = (_squared_norms(tree, 1 + batch_ndim) for tree in (received, passed))
    counts = at >= jnp.asarray(LEAST_SQUARE, at.dtype)
    grows = counts & (back > 0)  # the square root has no derivative at zero
    ratio = jnp.sqrt(jnp.where(grows, back, 1) / jnp.where(counts, at, 1))
    terms = jnp.where(counts, jnp.square(jnp.where(grows, ratio, 0) - 1), 0)
    return terms.sum(0).mean()


def recurrent_matrices(cell: Cell, params: Params) -> dict[str, Array]:
    """Return the recurrent matrices of a structured cell, in square blocks: `{name: [G, H, H]}`.

    An Elman network has "W" of one block; an LSTM's W has four, in the order of its gates. With
    several products they are "W_1", "W_2" and so on, in the order in which they are taken. A matrix
    `[m, n]` that is not made of square blocks comes as one, `[1, m, n]`.

    Raises:
      ValueError: a cell without a structure, or without a recurrent matrix in it.
    """
    products = cell.structure.products if cell.structure is not None else ()
    if not products:
        raise invalid(
            "cell",
            "one whose recurrent matrices are not known",
            "a cell with a structure that has products",
            "Choose leaves of params yourself: the penalties take any matrix.",
        )
    names = ["W"] if len(products) == 1 else [f"W_{j + 1}" for j in range(len(products))]
    blocks = {}
    for name, product in zip(names, products, strict=True):
        W = product.W(params)
        G, E = W.shape
        blocks[name] = W.reshape(-1, E, E) if E and G % E == 0 else W[None]
    return blocks


def spectral_norm_penalty(
    W: Array, *, target: float = 1.0, one_sided: bool = True, iterations: int = 50
) -> Array:
    """Return Σ max(0, σ_max(W) − target)² over the leading axes of `W [..., m, n]`: a scalar.

    σ_max is that of `largest_singular_value`, whose docstring states its accuracy.

    Args:
      target: what σ_max may reach. Below 1/sup |φ'| the gradient of an Elman network must vanish.
      one_sided: False to pull σ_max up to the target as well, (σ_max − target)².
      iterations: of the power method.

    Raises:
      ValueError: what `largest_singular_value` raises; a target that is no finite number.
    """
    check_number("target", target)
    check_flag("one_sided", one_sided)
    sigma = largest_singular_value(W, iterations=iterations).sigma
    excess = sigma - jnp.asarray(target, W.dtype)
    return jnp.sum(jnp.square(jnp.maximum(excess, 0) if one_sided else excess))


def orthogonality_penalty(W: Array) -> Array:
    """Return Σ ‖WᵀW − I‖_F² over the leading axes of `W [..., m, n]`: a scalar; W Wᵀ if m < n.

    The soft orthogonality of Vorontsov, Trabelsi, Kadoury and Pal (2017), arXiv 1702.00071.

    Raises:
      ValueError: what is no matrix of floats.
    """
    check_array("W", W, ("*batch", "m", "n"))
    W = W.swapaxes(-1, -2) if W.shape[-2] < W.shape[-1] else W
    gram = jnp.einsum("...ki,...kj->...ij", W, W)
    return jnp.sum(jnp.square(gram - jnp.eye(W.shape[-1], dtype=W.dtype)))


def add_penalty(penalty: Callable[[Params], Array], weight: float) -> optax.GradientTransformation:
    """Add weight · ∇penalty(params) to the updates, as `optax.add_decayed_weights` does for ½‖θ‖².

    At the front of a chain this is the gradient of loss + weight · penalty; after clipping, or
    after the preconditioning of Adam, the penalty is decoupled from it.

    Args:
      penalty: `params -> scalar`.
      weight: a finite number; a traced one will do.

    Raises:
      ValueError: a penalty that is no function, a weight that is no finite number; on the update,
        no parameters.
    """
    if not callable(penalty):
        raise invalid("penalty", penalty, "a function of params", "Pass lambda params: ...")
    check_number("weight", weight)

    def update(updates, state, params=None):
        if params is None:
            raise invalid(
                "params", params, "the parameters", "Call update(updates, state, params)."
            )
        add = lambda u, g: u + jnp.asarray(weight, g.dtype) * g
        return jax.tree.map(add, updates, jax.grad(penalty)(params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _squared_norms(state: State, lead: int) -> Array:
    """Over everything but the first `lead` axes of every leaf."""
    squares = [
        jnp.sum(jnp.square(leaf), axis=tuple(range(lead, leaf.ndim)))
        for leaf in jax.tree.leaves(state)
    ]
    return sum(squares[1:], squares[0])
