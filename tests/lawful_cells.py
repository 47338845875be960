"""The cells that every law is held against, and the kinds of structure that they are of."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax import cells
from rnn_jax.cell import Cell, Complex, Product, Structure

INPUT_SIZE = 3


def _user_step(p, state, x):
    """A user's cell: two state leaves, a tied matrix, a transposed one, a vector readout."""
    h, trace = state["h"], state["trace"]
    h = jnp.tanh(p["W"] @ h + h @ p["W"] + p["U"].T @ x + p["leak"] * trace[:4])
    trace = p["leak"] * trace + jnp.concatenate([h, h[:2]])
    return {"h": h, "trace": trace}, trace * p["scale"]


def user_cell(dtype=jnp.float64):
    def init(key, input_size):
        keys = jax.random.split(key, 3)
        return {
            "W": jax.random.normal(keys[0], (4, 4), dtype) / 2,
            "U": jax.random.normal(keys[1], (input_size, 4), dtype),
            "leak": jnp.asarray(0.7, dtype),
            "scale": jax.random.normal(keys[2], (6,), dtype),
        }

    state = {"h": jnp.zeros(4, dtype), "trace": jnp.zeros(6, dtype)}
    return cells.from_function(_user_step, state, init)


class StructuredParams(NamedTuple):
    W: jax.Array
    U: jax.Array
    leak: jax.Array


def structured_cell(dtype=jnp.float64):
    """A user's structure: constants, layer normalization, a y of its own size."""

    def init(key, input_size):
        W_key, U_key = jax.random.split(key)
        return StructuredParams(
            W=jax.random.normal(W_key, (6, 6), dtype),
            U=jax.random.normal(U_key, (6, input_size), dtype),
            leak=jnp.linspace(0.1, 0.9, 6, dtype=dtype),
        )

    def pointwise(leak, h, a):
        centred = a - a.mean(-1, keepdims=True)
        a = centred / jnp.sqrt(jnp.square(centred).mean(-1, keepdims=True) + 1)
        h = (1 - leak) * h + leak * jnp.tanh(a)
        return h, h[..., :4] * leak[:4]

    structure = Structure(
        U=lambda params: params.U,
        drive=lambda params, Ux: (Ux,),
        products=(Product(lambda params: params.W, lambda leak, h: h * leak),),
        pointwise=pointwise,
        constants=lambda params: params.leak,
        output=lambda params, y: 2 * y,
    )
    start = lambda params, batch=(): jnp.zeros((*batch, 6), dtype)
    return cells.structured(init, start, structure)


def stacked_cell(dtype=jnp.float64):
    """Every wrapper at once, over cells that run by different strategies."""
    user = user_cell(dtype)
    return cells.readout(
        cells.stack(
            cells.lstm(4, dtype=dtype),
            cells.residual(cells.layer_norm(cells.min_gru(4, dtype=dtype))),
            user,
        ),
        3,
    )


LAWFUL = {
    **{name: lambda dtype, make=make: make(4, dtype=dtype) for name, make in cells.CELLS.items()},
    **{
        f"readout({name})": lambda dtype, name=name: cells.readout(
            cells.CELLS[name](4, dtype=dtype), 5
        )
        for name in ("elman", "elman_preactivation", "lstm", "lru")
    },
    "stack": stacked_cell,
    "user's function": user_cell,
    "user's structure": structured_cell,
}
"""Every cell that the laws are held against, by name: `dtype -> Cell`."""


@functools.cache
def cell_named(name: str) -> Cell:
    """Return the lawful cell of that name in float64: one object, so that programs are shared."""
    return LAWFUL[name](jnp.float64)


@functools.cache
def params_named(name: str) -> Any:
    """Return the parameters of `cell_named(name)` at key 0."""
    return cell_named(name).init(jax.random.key(0), INPUT_SIZE)


class Kind(NamedTuple):
    """What drivers over time and the laboratory ask of a cell; all else is its own affair.

    Attributes:
      made_of: "structure", "layers" (a cell over others) or "function".
      several_leaves: whether its state has more than one.
      y_is_state: whether y is a leaf of the state.
      products: how many a step takes; None without a structure, as all that follows.
      coupled: whether a product multiplies what an earlier one computes.
      more_drives: whether there are drives that no product is added to.
      unitwise: whether the step Jacobian is diagonals and the W_j.
      linear: "real" or "complex" for a recurrence that is linear in its state.
    """

    made_of: str
    several_leaves: bool
    y_is_state: bool
    products: int | None = None
    coupled: bool | None = None
    more_drives: bool | None = None
    unitwise: bool | None = None
    linear: str | None = None


def kind_of(cell: Cell) -> Kind:
    """Return the kind of a cell, read off its structure and the shapes of its step."""
    params = jax.eval_shape(lambda key: cell.init(key, INPUT_SIZE), jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    x = jax.ShapeDtypeStruct((INPUT_SIZE,), jax.tree.leaves(params)[0].dtype)
    *leaves, y = jax.make_jaxpr(cell.step)(params, state, x).jaxpr.outvars
    structure = cell.structure
    made_of = "function" if cell.unroll_layers is None else "layers"
    kind = Kind("structure" if structure else made_of, len(leaves) > 1, y in leaves)
    if structure is None:
        return kind
    U = jax.eval_shape(structure.U, params)
    Ux = jax.ShapeDtypeStruct(U.shape[:1], U.dtype)
    drives = jax.eval_shape(structure.drive, params, Ux)
    is_complex = lambda node: isinstance(node, Complex)
    numbers = jax.tree.leaves(state, is_leaf=is_complex)
    products = range(len(structure.products))
    return kind._replace(
        products=len(products),
        coupled=any(_reads_products(structure, j, params, state, drives) for j in products),
        more_drives=len(drives) > len(products),
        unitwise=structure.unitwise,
        linear=structure.linear and ("complex" if any(map(is_complex, numbers)) else "real"),
    )


def _reads_products(structure, j, params, state, drives):
    """Whether the operand of product j has a nonzero derivative in a_1 .. a_{j-1}, at ones."""
    if j == 0:
        return False
    ones = lambda tree: jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), tree)
    constants = structure.constants(ones(params))
    operand = lambda a: structure.products[j].operand(constants, ones(state), *a)
    return any(leaf.any() for leaf in jax.tree.leaves(jax.jacobian(operand)(ones(drives[:j]))))


@functools.cache
def kinds() -> dict[Kind, tuple[str, ...]]:
    """Return the names of all lawful cells by their kind."""
    found: dict[Kind, tuple[str, ...]] = {}
    for name, make in LAWFUL.items():
        kind = kind_of(make(jnp.float32))
        found[kind] = (*found.get(kind, ()), name)
    return found


def one_of_each_kind() -> list[str]:
    """Return the first cell of every kind: what drivers are held against on every run."""
    return [names[0] for names in kinds().values()]


def one_of_each_route() -> list[str]:
    """Return the first cell of every way over time: by structure, parallel, layers, a function."""
    first = {}
    for kind, names in kinds().items():
        first.setdefault((kind.made_of, kind.linear), names[0])
    return list(first.values())
