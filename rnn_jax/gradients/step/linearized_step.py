"""The step of any cell between flat states, and its Jacobian in every form that is asked for."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.step_jacobian import StepJacobian, step_jacobian
from rnn_jax.lengths import batch_of
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State
from rnn_jax.unrolling.trajectory import states_along


class LinearizedStep:
    """The step of one example as a map of flat states `h [S]`, in `ravel_pytree` order.

    This is the one place that asks whether a structure is unit-wise: such a J is diagonals around
    the matrices of the cell, and any other step is differentiated along what J multiplies.

    Attributes:
      unitwise: whether J is known in its parts.
    """

    def __init__(self, cell: Cell, params: Params, start: State):
        """`start`, of one example, gives the layout of the state."""
        self._cell, self._params, self._start = cell, params, start
        self._unravel = ravel_pytree(start)[1]
        self.unitwise = is_unitwise(cell)

    def __call__(self, h: Array, x: Array) -> tuple[Array, Array]:
        """Return the state after the step, `[S]`, and y."""
        after, y = self._cell.step(self._params, self._unravel(h), x)
        return ravel_pytree(after)[0], y

    def states(self, xs: Array) -> Array:
        """Return the trajectory of `xs` from the start, `[T+1, S]`."""
        states = states_along(self._cell, self._params, xs, self._start)
        return jax.vmap(lambda state: ravel_pytree(state)[0])(states)

    def parts(self, h: Array, x: Array) -> StepJacobian:
        """Return J at `h` and `x` in its parts; of a unit-wise structure."""
        structure: Any = self._cell.structure
        return step_jacobian(structure, self._params, self._unravel(h), x)

    def jacobian(self, h: Array, x: Array) -> Array:
        """Return J `[S, S]`."""
        if self.unitwise:
            return self.parts(h, x).dense()
        return jax.jacfwd(lambda h: self(h, x)[0])(h)

    def jvp(self, h: Array, x: Array, V: Array) -> Array:
        """Return J v for each row v of `V [n, S]`."""
        if self.unitwise:
            return self.parts(h, x).times(V.T).T
        _, tangent = jax.linearize(lambda h: self(h, x)[0], h)
        return jax.vmap(tangent)(V)

    def vjp(self, h: Array, x: Array, U: Array) -> Array:
        """Return uᵀ J for each row u of `U [n, S]`."""
        if self.unitwise:
            return self.parts(h, x).left_times(U)
        _, cotangent = jax.vjp(lambda h: self(h, x)[0], h)
        return jax.vmap(lambda u: cotangent(u)[0])(U)

    def advance(self, h: Array, M: Array, x: Array) -> tuple[Array, Array]:
        """Return the state after the step and J M, of a frame of columns `M [S, K]`.

        J is in the state's dtype; M keeps its own.
        """
        if self.unitwise:
            J = self.parts(h, x)
            return self(h, x)[0], J.times(M.astype(h.dtype)).astype(M.dtype)
        h, tangent = jax.linearize(lambda h: self(h, x)[0], h)
        columns = jax.vmap(tangent, in_axes=1, out_axes=1)(M.astype(h.dtype))
        return h, columns.astype(M.dtype)


@compiled("cell")
def flat_trajectory(cell: Cell, params: Params, xs: Any, start: State) -> Array:
    """Return the flat states of `xs [T, *batch, I]` from `start`, `[T+1, *batch, S]`."""
    one_example = lambda start, xs: LinearizedStep(cell, params, start).states(xs)
    return over_batch(one_example, len(batch_of(xs)), out_axis=1)(start, xs)


def is_unitwise(cell: Cell) -> bool:
    """Return whether the cell's step Jacobian is diagonals around matrices."""
    return cell.structure is not None and cell.structure.unitwise


def flat_state(state: State, batch_ndim: int) -> Array:
    """Return `[*batch, S]`, in `ravel_pytree` order."""
    ravel = lambda state: ravel_pytree(state)[0]
    for _ in range(batch_ndim):
        ravel = jax.vmap(ravel)
    return ravel(state)


def zeros_of_one(state: State, batch_ndim: int) -> State:
    """Return zeros like the state of one example."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[batch_ndim:], leaf.dtype), state)
