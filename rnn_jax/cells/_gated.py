"""Cells of gates: one matrix product, elementwise operations, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, NormBoundTerms, Product, Structure
from rnn_jax.cells._structured import AffineParams, structured, zero_state
from rnn_jax.cells.initializers import gaussian, orthogonal, stacked
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_size
from rnn_jax.types import Array, Initializer, Key, Params, State


@named
def gated(
    hidden_size: int,
    blocks: int,
    pointwise: Callable[..., tuple[State, Array]],
    *,
    fed_back: Callable[[State], Array] = lambda h: h,
    initial_state: Callable[[Array], State] = lambda zeros: zeros,
    bias: Callable[[Array], Array] = lambda zeros: zeros,
    recurrent_init: Initializer = orthogonal(),
    input_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
    extend: Callable[[AffineParams, Key], Params] = lambda params, key: params,
    constants: Callable[[Params], Any] | None = None,
    effective: Callable[[Params], Array] = lambda params: params.W,
    drive: Callable[..., tuple[Array, ...]] = lambda params, Ux: (Ux + params.b,),
    norm_bound_terms: Callable[[Params], NormBoundTerms] | None = None,
    unitwise: bool = False,
) -> Cell:
    r"""Return a cell that is one product with W and elementwise operations.

    .. math::
        a_t = b + W\, \mathrm{fed\_back}(s_{t-1}) + U x_t, \qquad
        s_t, y_t = \mathrm{pointwise}(s_{t-1}, a_t)

    An update-gate network, for example, is `gated(64, 2, pointwise)` with

    ```
    def pointwise(h, a):
        g, n = jnp.split(a, 2, axis=-1)
        g = jax.nn.sigmoid(g)
        h = g * h + (1 - g) * jnp.tanh(n)
        return h, h
    ```

    Args:
      hidden_size: number of units, H.
      blocks: number of gates, G: each has H rows of W, U and b.
      pointwise: `(state, a [*batch, G H]) -> (state, y)`, elementwise.
      fed_back: `state -> [*batch, H]`, the recurrent input.
      initial_state: zeros `[*batch, H]` to the initial state.
      bias: zeros `[G H]` to the initial b.
      recurrent_init: initializer of each gate of W.
      input_init: initializer of each gate of U.
      dtype: dtype of the parameters, and with them of the state.
      extend: `(W U b, key) -> params`, for parameters besides W, U and b.
      constants: `params -> pytree`, those that `pointwise` reads, as its first argument.
      effective: `params -> [G H, H]`, the recurrent matrix where it is not W itself.
      drive: see `Structure`; b + U x by default.
      norm_bound_terms: see `Cell`.
      unitwise: see `Structure`; True makes the step Jacobians cheap.

    Raises:
      ValueError: a size that is not a positive integer; an input that does not fit U.
    """
    H, G = check_size("hidden_size", hidden_size), check_size("blocks", blocks)

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, U_key, more_key = jax.random.split(key, 3)
        affine = AffineParams(
            W=stacked(recurrent_init, G)(W_key, (G * H, H), dtype),
            U=stacked(input_init, G)(U_key, (G * H, input_size), dtype),
            b=bias(jnp.zeros(G * H, dtype)),
        )
        return extend(affine, more_key)

    structure = Structure(
        U=lambda params: params.U,
        drive=drive,
        products=(Product(effective, lambda _, state: fed_back(state)),),
        pointwise=pointwise if constants else lambda _, state, *a: pointwise(state, *a),
        constants=constants or (lambda params: ()),
        unitwise=unitwise,
    )
    return structured(init, zero_state(H, state=initial_state), structure, norm_bound_terms)
