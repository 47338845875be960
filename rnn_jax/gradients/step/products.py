"""The step Jacobian of any cell as it acts on vectors: J v and uᵀ J, without forming J."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.flat import flat_step
from rnn_jax.gradients.step.step_jacobian import step_jacobian
from rnn_jax.types import Array, Params, State


class StepProducts:
    """Products with J at a flat state `h [S]` and an input `x [I]` of one example.

    A unit-wise `structure` multiplies by its diagonals and W; any other step is differentiated
    along the vectors.
    """

    def __init__(self, cell: Cell, params: Params, start: State):
        """`start`, of one example, gives the layout of the state."""
        _, self._unravel = ravel_pytree(start)
        self._step: Callable = flat_step(cell, params, start)
        unitwise = cell.structure is not None and cell.structure.unitwise
        self._structure = cell.structure if unitwise else None
        self._params = params

    def times(self, h: Array, x: Array, V: Array) -> Array:
        """J v for each row v of `V [n, S]`."""
        if self._structure is not None:
            J = step_jacobian(self._structure, self._params, self._unravel(h), x)
            return J.times(V.T).T
        _, tangent = jax.linearize(lambda h: self._step(h, x)[0], h)
        return jax.vmap(tangent)(V)

    def left_times(self, h: Array, x: Array, U: Array) -> Array:
        """uᵀ J for each row u of `U [n, S]`."""
        if self._structure is not None:
            J = step_jacobian(self._structure, self._params, self._unravel(h), x)
            return J.left_times(U)
        _, cotangent = jax.vjp(lambda h: self._step(h, x)[0], h)
        return jax.vmap(lambda u: cotangent(u)[0])(U)
