"""A state and a frame of tangent vectors, carried along together: of any cell."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.step_jacobian import step_jacobian
from rnn_jax.linalg.orthonormalization import orthonormalize
from rnn_jax.types import Array, Key, Params, State, at_least_float32


class TangentStep:
    """`(h [*batch, S], M [*batch, S, K], x [*batch, I]) -> (h', J M)`: a state and its frame."""

    def __init__(self, cell: Cell, params: Params, start: State, batch_ndim: int):
        """`start` gives the layout of the state."""
        example = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[batch_ndim:], leaf.dtype), start)
        flat, unravel = ravel_pytree(example)

        def step(h, x):
            return ravel_pytree(cell.step(params, unravel(h), x)[0])[0]

        def through(times):
            return lambda M: times(M.astype(flat.dtype)).astype(M.dtype)

        def of_structure(structure, h, M, x):
            J = step_jacobian(structure, params, unravel(h), x)
            return step(h, x), through(J.times)(M)

        def of_any(h, M, x):
            h, tangent = jax.linearize(lambda h: step(h, x), h)
            return h, through(jax.vmap(tangent, in_axes=1, out_axes=1))(M)

        self._step = of_any
        if cell.structure is not None and cell.structure.unitwise:
            self._step = functools.partial(of_structure, cell.structure)
        for _ in range(batch_ndim):
            self._step = jax.vmap(self._step)

    def __call__(self, h: Array, M: Array, x: Array) -> tuple[Array, Array]:
        """One step."""
        return self._step(h, M, x)


def flat_state(state: State, batch_ndim: int) -> Array:
    """`[*batch, S]`, in `ravel_pytree` order."""
    ravel = lambda state: ravel_pytree(state)[0]
    for _ in range(batch_ndim):
        ravel = jax.vmap(ravel)
    return ravel(state)


def initial_frame(key: Key | None, start: State, batch_ndim: int, K: int) -> Array:
    """Orthonormalized Gaussian columns `[*batch, S, K]`, the same for all examples."""
    h = at_least_float32(flat_state(start, batch_ndim))
    key = jax.random.key(0) if key is None else key
    Q, _ = orthonormalize(jax.random.normal(key, (h.shape[-1], K), h.dtype))
    return jnp.broadcast_to(Q, (*h.shape[:-1], *Q.shape))
