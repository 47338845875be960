"""Penalties on W, to add to a loss, and an optimizer that adds them.

They ask of W that gradients neither vanish nor explode, wherever these point. Ω, in `omega`, asks
it of the one gradient that there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnn_jax.errors import check_array, check_flag, check_number, invalid
from rnn_jax.linalg.largest_singular_value import largest_singular_value
from rnn_jax.types import Array, Params, State


def spectral_norm_penalty(
    W: Array, *, target: float = 1.0, one_sided: bool = True, iterations: int = 50
) -> Array:
    """Return Σ max(0, σ_max(W) − target)² over the leading axes of `W [..., m, n]`: a scalar.

    σ_max is that of `largest_singular_value`, whose docstring states its accuracy.

    Args:
      target: largest σ_max that is not penalized. Below 1/sup |φ'| the gradient of an
        Elman network must vanish.
      one_sided: False to pull σ_max up to the target as well, (σ_max − target)².
      iterations: number of iterations of the power method.

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

    def update(updates: Any, state: State, params: Params = None):
        if params is None:
            raise invalid(
                "params", params, "the parameters", "Call update(updates, state, params)."
            )
        add = lambda u, g: u + jnp.asarray(weight, g.dtype) * g
        return jax.tree.map(add, updates, jax.grad(penalty)(params)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
