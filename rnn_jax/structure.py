"""Most cells are matrix products wrapped in pointwise maths; a Structure says so.

Elman's networks, the LSTM, GRUs, leaky and antisymmetric networks: only W times what is fed back
stands between one step and the next, and all the rest is per unit or known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from rnn_jax.errors import check_input
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Params, State


class Product(NamedTuple):
    """A recurrent matrix and the vector that it multiplies at each step.

    Attributes:
      W: `params -> [G, E]`.
      of: `(constants, state, *a) -> [*batch, E]`, what is fed back: pointwise in the state before
        the step and in the a_1 .. a_{j-1} of the products before this one.
    """

    W: Callable[[Params], Array]
    of: Callable[..., Array]


class Linear(NamedTuple):
    r"""A recurrence that is linear in its state, unit by unit.

    .. math:: s_t = \alpha_t \odot s_{t-1} + \beta_t

    Attributes:
      coefficients: `(constants, *drives) -> (α, β)`, each like `types.as_number(state)`, over any
        leading axes.
      emit: `(constants, s like as_number(state), *drives) -> y`, over any leading axes.
    """

    coefficients: Callable[..., tuple[Any, Any]]
    emit: Callable[..., Array]


@dataclass(frozen=True)
class Structure:
    r"""A step as matrix products wrapped in pointwise maths.

    .. math::
        d = \mathrm{drive}(\theta, U x_t), \qquad
        a_j = d_j + W_j\, \mathrm{of}_j(s_{t-1}, a_1 .. a_{j-1}), \qquad
        s_t, y_t = \mathrm{pointwise}(s_{t-1}, a)

    `unroll` takes the products out of the loop over time wherever the mathematics allows it.

    Attributes:
      U: `params -> [G, I]`, what multiplies the input.
      drive: `(params, U x [*lead, G]) -> (d_1, d_2, ..)`, each `[*lead, G_j]`: all that does not
        depend on the state. There are at least as many as products; those that are left over reach
        `pointwise` as they are.
      products: the recurrent products, in the order in which they are taken.
      pointwise: `(constants, state, *a) -> (state, y)`.
      constants: `params -> pytree`, the parameters that `of` and `pointwise` read; none by default.
      output: `(params, y [*lead, H]) -> [*lead, O]`, what is made of y outside the recurrence.
      unitwise: whether every leaf of the state has H units, every a_j and fed-back vector is blocks
        of H, and unit n of what `pointwise` and `of` return depends on unit n of the states and of
        each block, and on no other unit. The step Jacobian is then diagonals and products of
        diagonals with the W_j, and `gradients.step_jacobian` makes it so; layer normalization, for
        one, is not unit-wise.
      linear: for a step without products that is linear in its state, that step once more as
        coefficients, from which all times can be computed in parallel.
    """

    U: Callable[[Params], Array]
    drive: Callable[[Params, Array], tuple[Array, ...]]
    products: tuple[Product, ...]
    pointwise: Callable[..., tuple[State, Array]]
    constants: Callable[[Params], Any] = lambda params: ()
    output: Callable[[Params, Array], Array] = lambda params, y: y
    unitwise: bool = False
    linear: Linear | None = None

    def step(self, params: Params, state: State, x: Array) -> tuple[State, Array]:
        """The step that this describes.

        Raises:
          ValueError: an x that is not floating or does not fit U.
        """
        check_input(x, self.U(params))
        constants = self.constants(params)
        matrices = [product.W(params) for product in self.products]
        drives = self.drive(params, matvec(self.U(params), x))
        add_product = lambda drive, W, e: drive + matvec(W, e)
        a = self.preactivations(constants, state, drives, matrices, add_product)
        state, y = self.pointwise(constants, state, *a)
        return state, self.output(params, y)

    def preactivations(self, constants, state, drives, matrices, add_product) -> list[Array]:
        """[a_1, a_2, ..] with a_j = `add_product(d_j, W_j, e_j)`."""
        a = list(drives)
        for j, (product, W) in enumerate(zip(self.products, matrices, strict=True)):
            a[j] = add_product(a[j], W, product.of(constants, state, *a[:j]))
        return a

    def inside(
        self, part: Callable[[Params], Params], output: Callable[[Params, Array], Array]
    ) -> Structure:
        """Of a cell that wraps this one: its parameters are a part, its y goes through `output`."""

        def of_part(product: Product) -> Product:
            return Product(lambda params: product.W(part(params)), product.of)

        return replace(
            self,
            U=lambda params: self.U(part(params)),
            drive=lambda params, Ux: self.drive(part(params), Ux),
            products=tuple(map(of_part, self.products)),
            constants=lambda params: self.constants(part(params)),
            output=lambda params, y: output(params, self.output(part(params), y)),
        )
