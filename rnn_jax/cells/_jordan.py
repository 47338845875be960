"""Jordan's network: output-to-hidden recurrence."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Product, Structure
from rnn_jax.cells._structured import structured, zero_state
from rnn_jax.cells.activations import ActivationLike, activation_of
from rnn_jax.cells.initializers import gaussian
from rnn_jax.cells.maker import maker
from rnn_jax.types import Array, Initializer, Key


@flax.struct.dataclass
class JordanParams:
    """`W [H, O]`, `U [H, I]`, `b [H]` of the hidden layer; `V [O, H]`, `c [O]` of the output."""

    W: Array
    U: Array
    b: Array
    V: Array
    c: Array


@maker
def jordan(
    hidden_size: int,
    output_size: int | None = None,
    activation: ActivationLike = "tanh",
    *,
    output_activation: ActivationLike = "identity",
    recurrent_init: Initializer = gaussian(),
    input_init: Initializer = gaussian(),
    output_init: Initializer = gaussian(),
    dtype: DTypeLike = jnp.float32,
) -> Cell:
    r"""Return the network of Jordan (1986), which feeds back its output, not its hidden layer.

    .. math::
        a_t = b + W o_{t-1} + U x_t, \qquad h_t = \varphi(a_t), \qquad
        o_t = \varphi_o(c + V h_t), \qquad y_t = o_t

    The state is the output o: what an output does not show is lost. With targets in place
    of o_{t-1} (teacher forcing) the steps do not depend on each other, and time is one more batch
    axis: `cell.step(params, targets_before [T, *batch, O], xs [T, *batch, I])`.

    Args:
      hidden_size: number of units, H.
      output_size: number of outputs, O; H if None.
      activation: φ, a name of `ACTIVATIONS`, an elementwise function, or an `Activation`.
      output_activation: φ_o, likewise.
      recurrent_init, input_init, dtype: see `gated`; W is `[H, O]`.
      output_init: initializer of V. c starts at zero.

    Returns:
      A Cell with state o `[*batch, O]`, initially zero.

    Raises:
      ValueError: a size that is not a positive integer, an unknown activation, an input that does
        not fit U.

    Reference: Jordan, Serial order (1986), ICS report 8604. Departure: Jordan's context units keep
    a decaying trace of the output; here, as in most textbooks, they hold the last output alone.
    """
    H, O = hidden_size, hidden_size if output_size is None else output_size
    phi = activation_of("activation", activation, dtype).phi
    phi_o = activation_of("output_activation", output_activation, dtype).phi

    def init(key: Key, input_size: int) -> JordanParams:
        W_key, U_key, V_key = jax.random.split(key, 3)
        return JordanParams(
            W=recurrent_init(W_key, (H, O), dtype),
            U=input_init(U_key, (H, input_size), dtype),
            b=jnp.zeros(H, dtype),
            V=output_init(V_key, (O, H), dtype),
            c=jnp.zeros(O, dtype),
        )

    def drive(params: JordanParams, Ux: Array) -> tuple[Array, Array]:
        return Ux + params.b, jnp.broadcast_to(params.c, (*Ux.shape[:-1], O))

    # Scopes name operations; `checkpoint_name` names a value, which `rnn_jax.graph` then draws as a
    # layer of its own: h, which no other step reads, and the state, which is o here and not h.
    def hidden(_: Any, o: Array, a: Array) -> Array:
        with jax.named_scope("h"):
            return checkpoint_name(phi(a), "h")

    def pointwise(_: Any, o: Array, a: Array, a_o: Array) -> tuple[Array, Array]:
        with jax.named_scope("o"):
            o = checkpoint_name(phi_o(a_o), "o")
        return o, o

    products = (
        Product(lambda params: params.W, lambda _, o: o),
        Product(lambda params: params.V, hidden),
    )
    structure = Structure(lambda params: params.U, drive, products, pointwise, unitwise=O == H)
    return structured(init, zero_state(O), structure)
