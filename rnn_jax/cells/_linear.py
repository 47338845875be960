"""Cells that are linear in their state, unit by unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from rnn_jax.cell import Cell, Linear, NormBoundTerms, Structure, as_number, as_state
from rnn_jax.cells._structured import structured
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_function
from rnn_jax.types import Array, Params, State, at_least_float32


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
    norm_bound_terms: Callable[[Params], NormBoundTerms] | None = None,
    unitwise: bool = False,
) -> Cell:
    r"""Return a cell linear in its state, which `unroll` can take for all times at once.

    .. math::
        s_t = \alpha_t \odot s_{t-1} + \beta_t, \qquad y_t = \mathrm{emit}(s_t)

    α and β depend on the input and on parameters alone. A `Complex` in the state is one complex
    array to the functions below, and their arguments have float32 at least.

    Args:
      init, initial_state: see `Cell`.
      U, drive, output, unitwise: see `Structure`.
      coefficients: `(constants, *drives) -> (α, β)`, each like the state.
      emit: `(constants, s, *drives) -> y`; s itself by default.
      constants: `params -> pytree`, the parameters that `coefficients` and `emit` read.
      norm_bound_terms: see `Cell`.

    Raises:
      ValueError: an argument that is not a function.
    """
    functions = {"U": U, "drive": drive, "coefficients": coefficients, "emit": emit}
    functions |= {"constants": constants, "output": output}
    for argument, function in functions.items():
        check_function(argument, function, "as above")

    # Mixed precision: α near 1 is what these cells are for, and bfloat16 has nothing between 0.996
    # and 1. So α, β and y are computed in float32, and only the state is stored in its own dtype.
    def in_full(function: Callable[..., Any]):
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
    return structured(init, initial_state, structure, norm_bound_terms)
