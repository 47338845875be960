"""Gradients at values inside a step, read off the step's own jaxpr.

A zero that is added to an intermediate value v has the cotangent ∂E/∂v. `PerturbedStep` evaluates
one step of one example again with such zero perturbations of two kinds of value:

- the state that the step hands on. A function (h_{t-1}, x_t) -> (h_t, y_t) does not give ∂y_t/∂h_t
  away, but its computation does, since y_t is computed from the same value h_t;
- each product u = P z of a parameter matrix P with a vector z that is the only use of P. What P
  receives in this step is (∂E/∂u) zᵀ, and the Frobenius norm of that, ‖∂E/∂u‖ ‖z‖, needs no matrix.

Nothing is asked of the cell: any step that JAX can trace will do. A parameter that is used in any
other way is differentiated as it stands.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Cell
from rnn_jax.transforms.program import Place, Product, Program
from rnn_jax.types import Array, Params, State


class Wrt(NamedTuple):
    """The values with respect to which a perturbed step is differentiated.

    Attributes:
      state: `{leaf of the state: zeros}`, for the state handed on.
      products: `{leaf of the parameters: zeros like u}`.
      leaves: `{leaf of the parameters: its value}` for those without a product of their own.
    """

    state: dict[int, Array]
    products: dict[int, Array]
    leaves: dict[int, Array]


class PerturbedStep:
    """The step of a cell for one example, `(wrt, state, x) -> (state, y), factors`.

    `factors` holds z of each perturbed product, `{leaf of the parameters: z}`.
    """

    def __init__(
        self, cell: Cell, params: Params, state: State, x: Array, whole: Collection[int] = ()
    ):
        """Trace `cell.step` at these shapes, none of which has batch axes.

        Leaves of the parameters in `whole` are differentiated as they stand.
        """
        closed, shapes = jax.make_jaxpr(cell.step, return_shape=True)(params, state, x)
        self._param_values = jax.tree.leaves(params)
        self._out_tree = jax.tree.structure(shapes)
        self._program = Program(closed)
        self._params = self._program.inputs[: len(self._param_values)]

        self._state_shapes = jax.tree.leaves(shapes[0])
        written = {place for equation in self._program.equations for place in equation.writes}
        self._state: dict[int, Place] = {}
        for leaf, place in enumerate(self._program.outputs[: len(self._state_shapes)]):
            # A leaf handed on untouched, or twice, has no value of its own to perturb.
            if place in written and place not in self._state.values():
                self._state[leaf] = place

        self._products: dict[int, Product] = {}
        for leaf, place in enumerate(self._params):
            product = self._program.only_matrix_vector_product(place)
            if product and leaf not in whole:
                self._products[leaf] = product

    def wrt(self) -> Wrt:
        """Return all zero perturbations, and the parameters that have none."""
        return Wrt(
            state={leaf: self._state_zeros(leaf) for leaf in self._state},
            products={
                leaf: jnp.zeros(*self._program.shape_and_dtype(product.u))
                for leaf, product in self._products.items()
            },
            leaves={
                leaf: value
                for leaf, value in enumerate(self._param_values)
                if leaf not in self._products
            },
        )

    def flat_state_cotangent(self, received: Wrt) -> Array:
        """Return what the state handed on received, `[S]`; zero for unperturbed leaves."""
        leaves = range(len(self._state_shapes))
        return ravel_pytree([received.state.get(i, self._state_zeros(i)) for i in leaves])[0]

    def _state_zeros(self, leaf: int) -> Array:
        return jnp.zeros(self._state_shapes[leaf].shape, self._state_shapes[leaf].dtype)

    def __call__(
        self, wrt: Wrt, state: State, x: Array
    ) -> tuple[tuple[State, Array], dict[int, Array]]:
        """Take the step at these values, perturbed: `(state, y), factors`."""
        params = [wrt.leaves.get(leaf, value) for leaf, value in enumerate(self._param_values)]
        inputs = [*params, *jax.tree.leaves((state, x))]
        zeros = {self._products[leaf].u: zero for leaf, zero in wrt.products.items()}
        values = self._program.evaluate(inputs, zeros)
        # y_t reads the leaves of the state side by side: a perturbation of the c that an LSTM
        # hands on is none of the h beside it. So the state is computed first, and y from it.
        handed_on = {
            self._state[leaf]: values[self._state[leaf]] + zero for leaf, zero in wrt.state.items()
        }
        reading = self._program.evaluate(inputs, zeros, handed_on)
        outputs = [values[place] for place in self._program.outputs]
        n = len(self._state_shapes)
        outputs[n:] = [reading[place] for place in self._program.outputs[n:]]
        factors = {leaf: values[product.z] for leaf, product in self._products.items()}
        return jax.tree.unflatten(self._out_tree, outputs), factors
