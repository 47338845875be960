"""A Cell from the description of its step: drive, what is fed back, pointwise maths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnn_jax.cell import Cell, Linear, Product, Recurrence, Structure, as_number, as_state
from rnn_jax.cells.initializers import gaussian, orthogonal, stacked
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_function, check_size, invalid
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Initializer, Key, Params, State, at_least_float32


@flax.struct.dataclass
class AffineParams:
    """Of a = b + W e + U x: `W [G, H]`, `U [G, I]`, `b [G]`; G is H for each gate."""

    W: Array
    U: Array
    b: Array


@named
def structured(
    init: Callable[..., Params],
    initial_state: Callable[..., State],
    structure: Structure,
    recurrence: Callable[[Params], Recurrence] | None = None,
) -> Cell:
    """A Cell whose step is derived from `structure`, so that the two cannot drift apart.

    Raises:
      ValueError: no functions, no Structure.
    """
    check_function("init", init, "(key, input_size) -> params")
    check_function("initial_state", initial_state, "(params, batch) -> state")
    if not isinstance(structure, Structure):
        raise invalid("structure", structure, "a Structure", "See rnn_jax.structure.")

    def start(params: Params, batch: tuple[int, ...] = ()) -> State:
        state = with_wide_sums(lambda params: initial_state(params, batch))(params)
        return with_own_buffers(state, params)

    return Cell(init, start, structure.step, recurrence, structure)


def with_own_buffers(state: State, others: Any) -> State:
    """Return `state` with no array in it twice, nor one of `others`: each can then be donated."""
    taken = {id(leaf) for leaf in jax.tree.leaves(others)}

    def own(leaf):
        if isinstance(leaf, jax.core.Tracer):
            return leaf
        leaf = jnp.copy(leaf) if id(leaf) in taken else leaf
        taken.add(id(leaf))
        return leaf

    return jax.tree.map(own, state)


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
    recurrence: Callable[[Params], Recurrence] | None = None,
    unitwise: bool = False,
) -> Cell:
    r"""A cell that is one product with W, in `blocks` blocks of H rows, and pointwise maths.

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
      recurrence: see `Cell`.
      unitwise: see `Structure`; True makes the step Jacobians cheap.

    Raises:
      ValueError: a size that is not a positive integer; an input that does not fit U.
    """
    hidden_size, blocks = check_size("hidden_size", hidden_size), check_size("blocks", blocks)
    H, G = hidden_size, blocks * hidden_size

    def init(key, input_size):
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
    return structured(init, start, structure, recurrence)


@named
def linear(
    init: Callable[..., Params],
    initial_state: Callable[..., State],
    U: Callable[[Params], Array],
    drive: Callable[..., tuple[Array, ...]],
    coefficients: Callable[..., tuple[Any, Any]],
    *,
    emit: Callable[..., Array] = lambda constants, s, *drives: s,
    constants: Callable[[Params], Any] = lambda params: (),
    output: Callable[[Params, Array], Array] = lambda params, y: y,
    recurrence: Callable[[Params], Recurrence] | None = None,
    unitwise: bool = False,
) -> Cell:
    r"""A cell whose step is linear in its state, which `unroll` can take for all times at once.

    .. math::
        s_t = \alpha_t \odot s_{t-1} + \beta_t, \qquad y_t = \mathrm{emit}(s_t)

    α and β depend on the input and on parameters alone. A `types.Complex` in the state is one
    complex array to the functions below, and what they are given has float32 at least.

    Args:
      init, initial_state: see `Cell`.
      U, drive, output, unitwise: see `Structure`.
      coefficients: `(constants, *drives) -> (α, β)`, each like the state.
      emit: `(constants, s, *drives) -> y`; s itself by default.
      constants: `params -> pytree`, the parameters that `coefficients` and `emit` read.
      recurrence: see `Cell`.

    Raises:
      ValueError: what is no function.
    """
    functions = {"U": U, "drive": drive, "coefficients": coefficients, "emit": emit}
    functions |= {"constants": constants, "output": output}
    for argument, function in functions.items():
        check_function(argument, function, "as above")

    def in_full(function):
        wide = lambda tree: jax.tree.map(at_least_float32, tree)
        return lambda constants, *rest: function(wide(constants), *map(wide, rest))

    described = Linear(in_full(coefficients), in_full(emit))

    def pointwise(constants: Any, state: State, *drives: Array) -> tuple[State, Array]:
        dtype = jax.tree.leaves(state)[0].dtype
        alpha, beta = described.coefficients(constants, *drives)
        s = jax.tree.map(lambda a, s, b: a * s + b, alpha, as_number(state), beta)
        after = as_state(s, dtype)
        # y reads the state as it is handed on, so that ∂y_t/∂s_t is there to be seen.
        return after, described.emit(constants, as_number(after), *drives).astype(dtype)

    structure = Structure(
        U=U,
        drive=drive,
        products=(),
        pointwise=pointwise,
        constants=constants,
        output=output,
        unitwise=unitwise,
        linear=described,
    )
    return structured(init, initial_state, structure, recurrence)


def zeros_like_W(*shape: int) -> Callable[..., Array]:
    """An initial state of zeros `[*batch, *shape]` in the dtype of W."""
    return lambda params, batch=(): jnp.zeros((*batch, *shape), params.W.dtype)


def split_blocks(a: Array, blocks: int) -> list[Array]:
    """`a [.., blocks H]` in blocks of H. The gradient of `lax.split` is one concatenation."""
    return list(jax.lax.split(a, [a.shape[-1] // blocks] * blocks, axis=a.ndim - 1))
