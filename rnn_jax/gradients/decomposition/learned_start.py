"""Gradients of the parameters that a learned initial state is made of.

With h_0 = h_0(θ), a term of k = 0 has (∂E_t/∂h_0) (∂h_0/∂θ) in it besides what step 0 has of θ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.gradients.step.continuous import real_leaves
from rnn_jax.types import Array, Params, State

Start = State | Callable[[Params], State] | None
"""An initial state, a function of params that returns it, or None for the cell's own."""


GIVEN: Literal["given"] = "given"
Learn = Callable[[Params], State] | Literal["given"] | None
"""How h_0 is made of parameters: by a function, by the cell itself (None), or not at all."""


class LearnedStart:
    """∂h_0/∂θ of one example at a time.

    Attributes:
      leaves: those of the parameters, by number, that h_0 depends on; a state that is given is a
        constant.
    """

    def __init__(self, cell: Cell, params: Params, learn: Learn, batch: tuple[int, ...]):
        self._batch = batch
        self._params = params
        self._each = learn is None  # the same for every example
        self._of: Callable[[Params], State] | None = None
        if learn is None:
            self._of = lambda p: cell.initial_state(p, ())
        elif callable(learn):
            self._of = lambda p: real_leaves(learn(p))
        self.leaves = frozenset() if self._of is None else _inputs_used(self._of, params)

    def examples(self) -> Array:
        """Return the number of each example, `[*batch]`."""
        return jnp.asarray(np.arange(np.prod(self._batch, dtype=int)).reshape(self._batch))

    def pull(self, example: Array) -> Callable[[Array], Params] | None:
        """Return `∂E/∂h_0 [S] -> its part in ∂E/∂θ` of one example, None where it has none."""
        of = self._of
        if of is None or not self.leaves:
            return None

        def flat(params: Params):
            state = of(params)
            if not self._each:
                lead = len(self._batch)
                rows = lambda leaf: leaf.reshape(-1, *leaf.shape[lead:])
                state = jax.tree.map(lambda leaf: rows(leaf)[example], state)
            return ravel_pytree(state)[0]

        return lambda received: jax.vjp(flat, self._params)[1](received)[0]


def _inputs_used(function: Callable[[Any], Any], argument: Any) -> frozenset[int]:
    """Return the leaves of the argument that the result of `function` is computed from."""
    jaxpr = jax.make_jaxpr(function)(argument).jaxpr
    sources: dict[Any, frozenset[int]] = {v: frozenset([i]) for i, v in enumerate(jaxpr.invars)}
    nothing: frozenset[int] = frozenset()
    of = lambda atom: nothing if isinstance(atom, core.Literal) else sources.get(atom, nothing)
    for equation in jaxpr.eqns:
        read = nothing.union(*map(of, equation.invars))
        sources.update(dict.fromkeys(equation.outvars, read))
    return nothing.union(*map(of, jaxpr.outvars))
