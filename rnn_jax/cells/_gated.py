"""Cells of gates: one matrix product, elementwise operations, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, NormBoundTerms, Product, Structure
from rnn_jax.cells._structured import AffineParams, structured
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
    r"""Return a cell that is one product with W, in `blocks` of H rows, and elementwise operations.

    .. math::
        a_t = b + W\, \mathrm{fed\_back}(s_{t-1}) + U x_t, \qquad
        s_t, y_t = \mathrm{pointwise}(s_{t-1}, a_t)

    An update-gate network, for example:

    ```
    def pointwise(h, a):
        g, candidate = jnp.split(a, 2, axis=-1)
        g = jax.nn.sigmoid(g)
        h = g * h + (1 - g) * jnp.tanh(candidate)
        return h, h

    cell = gated(64, 2, pointwise)
    ```

    Args:
      hidden_size: H.
      blocks: how many blocks of H rows W, U and b have, one a gate.
      pointwise: `(state, a [*batch, blocks H]) -> (state, y)`.
      fed_back: `state -> [*batch, H]`, what W multiplies.
      initial_state: zeros `[*batch, H]` to the initial state.
      bias: zeros `[blocks H]` to the initial b.
      recurrent_init: draws each block of W.
      input_init: draws each block of U.
      dtype: of the parameters, and with them of the state.
      extend: `(W U b, key) -> params`, for parameters besides W, U and b.
      constants: `params -> pytree`, those that `pointwise` reads; it then takes them as its first
        argument.
      effective: `params -> [blocks H, H]`, the matrix of the product where it is not W itself.
      drive: see `Structure`; b + U x by default.
      norm_bound_terms: see `Cell`.
      unitwise: see `Structure`; True makes the step Jacobians cheap.

    Raises:
      ValueError: a size that is not a positive integer; an input that does not fit U.
    """
    hidden_size, blocks = check_size("hidden_size", hidden_size), check_size("blocks", blocks)
    H, G = hidden_size, blocks * hidden_size

    def init(key: Key, input_size: int):
        check_size("input_size", input_size, least=0)
        W_key, U_key, more_key = jax.random.split(key, 3)
        affine = AffineParams(
            W=stacked(recurrent_init, blocks)(W_key, (G, H), dtype),
            U=stacked(input_init, blocks)(U_key, (G, input_size), dtype),
            b=bias(jnp.zeros(G, dtype)),
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
    start = lambda params, batch=(): initial_state(jnp.zeros((*batch, H), params.W.dtype))
    return structured(init, start, structure, norm_bound_terms)
