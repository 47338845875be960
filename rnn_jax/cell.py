"""The Cell, which every tool takes: three pure functions, and the structure of its step.

Most cells are matrix products wrapped in elementwise operations, and a Structure describes that: in
Elman's networks, the LSTM, GRUs, leaky and antisymmetric networks only W times the recurrent input
stands between one step and the next; all else is elementwise, or known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from rnn_jax.errors import describe, fitting, invalid
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Params, State, at_least_float32


@dataclass(frozen=True, repr=False)
class Cell:
    """A recurrent cell: three pure functions.

    A Cell is static: built once, closed over, never an argument of a jitted function. Everything
    differentiable is in `params` and `state`.

    Attributes:
      init: `(key, input_size) -> params`.
      initial_state: `(params, batch=()) -> state`, leaves `[*batch, ...]`.
      step: `(params, state, x [*batch, I]) -> (state, y [*batch, O])`, one instant. It must serve
        a single example (no batch axes) and any leading batch axes; `cells.from_function` makes
        such a step from one that is written for a single example.
      norm_bound_terms: `params -> (W, sup |φ'|)` for a cell whose step Jacobian ∂h_t/∂h_{t-1} is
        one matrix times one diagonal of φ', as `gradients.norm_bound` needs; None for every other
        cell.
      structure: description that `step` is derived from, for a cell that has one.
      unroll_layers: for a cell that is made of layers, `(run, params, xs, start, masks, reverse) ->
        (final state, ys)`: its layers one after the other, each over the whole sequence by
        `run(cell, params, xs, start, masks, reverse)`.
      name: call that made it, as in `lstm(64)`, which it prints as; two Cells that are equal may
        differ in it.
    """

    init: Callable[..., Params]
    initial_state: Callable[..., State]
    step: Callable[[Params, State, Array], tuple[State, Array]]
    norm_bound_terms: Callable[[Params], NormBoundTerms] | None = None
    structure: Structure | None = None
    unroll_layers: Callable[..., tuple[State, Array]] | None = None
    name: str | None = field(default=None, compare=False)

    @property
    def recurrence(self) -> Callable[[Params], NormBoundTerms] | None:
        """Return `norm_bound_terms` by its former name."""
        return self.norm_bound_terms

    def __repr__(self) -> str:
        step = getattr(self.step, "__qualname__", type(self.step).__name__)
        return self.name or f"Cell(step={step})"


class Product(NamedTuple):
    """A recurrent matrix and the vector that it multiplies at each step.

    Attributes:
      W: `params -> [G, E]`.
      operand: `(constants, state, *a) -> [*batch, E]`, the vector that W multiplies (the recurrent
        input): elementwise in the state before the step and in the a_1 .. a_{j-1} of the products
        before this one.
    """

    W: Callable[[Params], Array]
    operand: Callable[..., Array]


class Linear(NamedTuple):
    r"""A recurrence that is elementwise and linear in its state.

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
    r"""A step as matrix products wrapped in elementwise operations.

    .. math::
        d = \mathrm{drive}(\theta, U x_t), \qquad
        a_j = d_j + W_j\, \mathrm{operand}_j(s_{t-1}, a_1 .. a_{j-1}), \qquad
        s_t, y_t = \mathrm{pointwise}(s_{t-1}, a)

    `unroll` takes the products out of the loop over time wherever the mathematics allows it.

    Attributes:
      U: `params -> [G, I]`, the matrix that multiplies the input.
      drive: `(params, U x [*lead, G]) -> (d_1, d_2, ..)`, each `[*lead, G_j]`: the part of the
        pre-activations that does not depend on the state. There are at least as many as products;
        `pointwise` reads those that are left over as they are.
      products: recurrent products, in the order in which they are taken.
      pointwise: `(constants, state, *a) -> (state, y)`, elementwise.
      constants: `params -> pytree`, the parameters that `operand` and `pointwise` read; none by
        default.
      output: `(params, y [*lead, H]) -> [*lead, O]`, a readout of y outside the recurrence.
      unitwise: whether every leaf of the state has H units, every a_j and operand is gates of H
        units, and unit n of the results of `pointwise` and `operand` depends on unit n of the
        states and of each gate, and on no other unit. The step Jacobian then consists of diagonals
        and of their products with the W_j, which makes `gradients.step_jacobian` cheap. Layer
        normalization, for one, is not unit-wise.
      linear: coefficients of a step without products that is linear in its state, from which all
        steps can be computed in parallel.
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
        """Take one step.

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

    def preactivations(
        self, constants: Any, state: State, drives: Any, matrices: Any, add_product: Any
    ) -> list[Array]:
        """Return [a_1, a_2, ..] with a_j = `add_product(d_j, W_j, e_j)`."""
        # One after the other, as the operand of a product may read the a of those before it: the
        # candidate of a GRU multiplies W_n by r ⊙ h. How a product is added is up to the caller:
        # a tool that perturbs or linearizes the step adds it in its own way.
        a = list(drives)
        for j, (product, W) in enumerate(zip(self.products, matrices, strict=True)):
            a[j] = add_product(a[j], W, product.operand(constants, state, *a[:j]))
        return a

    def inside(
        self, part: Callable[[Params], Params], output: Callable[[Params, Array], Array]
    ) -> Structure:
        """Return the structure of a cell around this one, with `part` of its params inside."""

        def of_part(product: Product) -> Product:
            return Product(lambda params: product.W(part(params)), product.operand)

        return replace(
            self,
            U=lambda params: self.U(part(params)),
            drive=lambda params, Ux: self.drive(part(params), Ux),
            products=tuple(map(of_part, self.products)),
            constants=lambda params: self.constants(part(params)),
            output=lambda params, y: output(params, self.output(part(params), y)),
        )


class NormBoundTerms(NamedTuple):
    """The terms of the norm bound of Pascanu, Mikolov and Bengio (2013).

    Attributes:
      W: matrix of J_t = W diag(φ'(·)) or J_t = diag(φ'(·)) W, `[H, H]`.
      lambda_phi: sup |φ'|.
    """

    W: Array
    lambda_phi: float


@flax.struct.dataclass
class Complex:
    """A complex state as two real leaves, `re` and `im`, each `[*batch, H]`.

    Jacobians, norms and finite differences are those of a real state of twice the size.
    """

    re: Array
    im: Array


def as_number(state: State) -> Any:
    """Return `state` with each Complex as one complex array, in float32 at least."""

    def number(leaf: Any):
        if isinstance(leaf, Complex):
            return jax.lax.complex(at_least_float32(leaf.re), at_least_float32(leaf.im))
        return at_least_float32(leaf)

    return jax.tree.map(number, state, is_leaf=lambda node: isinstance(node, Complex))


def as_state(number: Any, dtype: Any) -> State:
    """Return the state that `number` stands for, in `dtype`: the inverse of `as_number`."""

    def leaf(number: Any):
        if jnp.iscomplexobj(number):
            return Complex(number.real.astype(dtype), number.imag.astype(dtype))
        return number.astype(dtype)

    return jax.tree.map(leaf, number)


def check_cell(argument: str, cell: Any) -> Cell:
    """Return `cell`. ValueError for anything but a Cell."""
    if not isinstance(cell, Cell):
        remedy = (
            "Call it first: cells.lstm(64)."
            if callable(cell)
            else "Pass rnn_jax.cells.lstm(64), say, or cells.from_function(step, state)."
        )
        raise invalid(argument, cell, "a Cell", remedy)
    return cell


def state_shapes(cell: Cell, params: Params, batch: Sequence[int] = ()) -> State:
    """Return the shapes of `cell`'s state. ValueError for params that are not the cell's."""
    with fitting(params, "cell.initial_state"):
        return jax.eval_shape(lambda p: cell.initial_state(p, tuple(batch)), params)


def check_input(x: Array, U: Array) -> None:
    """Raise ValueError unless `x [*batch, I]` is floating and fits `U [.., I]`."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        raise invalid("xs", x, f"{U.dtype} numbers", "Symbols enter as jax.nn.one_hot(symbols, I).")
    if x.shape[-1] != U.shape[-1]:
        raise invalid(
            "xs",
            f"{describe(x)} at one step",
            f"[*batch, {U.shape[-1]}], the input size that params were made for",
            "Pass xs [T, *batch, I], or params = cell.init(key, I) for this I.",
        )
