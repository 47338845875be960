"""The Cell, and the letters that every file of this package uses.

| letter  | meaning                                                           |
| ------- | ----------------------------------------------------------------- |
| T       | steps of a sequence                                               |
| *batch  | any number of leading batch axes, also none; B where there is one |
| I, H, O | sizes of the input, of a hidden layer, of the output              |
| S       | size of the flattened state (H for Elman, 2 H for an LSTM)        |

Sequences are time-major: `xs [T, *batch, I]`, `ys [T, *batch, O]`. Weights are `[out, in]`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

if TYPE_CHECKING:
    from rnn_jax.structure import Structure

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
Params: TypeAlias = Any
"""A pytree of arrays: all that is learned."""
State: TypeAlias = Any
"""A pytree of arrays `[*batch, ...]`: all that one step hands to the next."""
Initializer: TypeAlias = Callable[[Key, tuple[int, ...], Any], Array]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""
StepLoss: TypeAlias = Callable[[Array, Array], Array]
"""`(y [*batch, O], target) -> E_t [*batch]`: one step's loss, a scalar per example."""


class Recurrence(NamedTuple):
    """What the norm bound of Pascanu, Mikolov and Bengio (2013) needs to know of a cell.

    Attributes:
      W: `[H, H]`, the matrix in J_t = W diag(φ'(·)) or J_t = diag(φ'(·)) W.
      lambda_phi: sup |φ'|.
    """

    W: Array
    lambda_phi: float


@flax.struct.dataclass
class Complex:
    """A complex state as two real leaves, `re` and `im`, each `[*batch, H]`.

    Jacobians, norms and finite differences are then those of a real state of twice the size.
    """

    re: Array
    im: Array


def as_number(state: State) -> Any:
    """`state` with one complex array for each Complex, in float32 or more."""

    def number(leaf):
        if isinstance(leaf, Complex):
            return jax.lax.complex(at_least_float32(leaf.re), at_least_float32(leaf.im))
        return at_least_float32(leaf)

    return jax.tree.map(number, state, is_leaf=lambda node: isinstance(node, Complex))


def as_state(number: Any, dtype: Any) -> State:
    """The inverse of `as_number`, in `dtype`."""

    def leaf(number):
        if jnp.iscomplexobj(number):
            return Complex(number.real.astype(dtype), number.imag.astype(dtype))
        return number.astype(dtype)

    return jax.tree.map(leaf, number)


def at_least_float32(x: Array) -> Array:
    """`x`, or `x` in float32 where its precision is less."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


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
      recurrence: `params -> Recurrence` for a cell whose step Jacobian ∂h_t/∂h_{t-1} is one matrix
        times one diagonal of φ', which is what `gradients.norm_bound` is a theorem about; None
        for every other cell.
      structure: the description that `step` is derived from, for a cell that has one.
      over_time: for a cell that is made of other cells, `(run, params, xs, start, marks, reverse)
        -> (final state, ys)`: its parts one after the other, each over the whole sequence by
        `run(cell, params, xs, start, marks, reverse)`.
      name: the call that made it, as in `lstm(64)`, which it prints as; two Cells that are equal
        may differ in it.
    """

    init: Callable[..., Params]
    initial_state: Callable[..., State]
    step: Callable[[Params, State, Array], tuple[State, Array]]
    recurrence: Callable[[Params], Recurrence] | None = None
    structure: Structure | None = None
    over_time: Callable[..., tuple[State, Array]] | None = None
    name: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        step = getattr(self.step, "__qualname__", type(self.step).__name__)
        return self.name or f"Cell(step={step})"


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype to draw numbers in that are then rounded to `dtype`: at least float32.

    Half precision has 256 or 2,048 uniform numbers: those that are drawn in it have a mean and
    logarithms that are off.
    """
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)
