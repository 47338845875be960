"""The recurrent matrices of a cell, by name."""

from __future__ import annotations

from rnn_jax.cell import Cell, check_cell, state_shapes
from rnn_jax.errors import invalid
from rnn_jax.types import Array, Params


def recurrent_matrices(cell: Cell, params: Params) -> dict[str, Array]:
    """Return the recurrent matrices of a structured cell, in square blocks: `{name: [G, H, H]}`.

    An Elman network has "W" of one block; an LSTM's W has four, in the order of its gates. With
    several products they are "W_1", "W_2" and so on, in the order in which they are taken. A matrix
    `[m, n]` that is not made of square blocks comes as one, `[1, m, n]`.

    Raises:
      ValueError: a cell without a structure, or without a recurrent matrix in it.
    """
    check_cell("cell", cell)
    products = cell.structure.products if cell.structure is not None else ()
    state_shapes(cell, params)
    if not products:
        raise invalid(
            "cell",
            "one whose recurrent matrices are not known",
            "a cell with a structure that has products",
            "Choose leaves of params yourself: the penalties take any matrix.",
        )
    names = ["W"] if len(products) == 1 else [f"W_{j + 1}" for j in range(len(products))]
    blocks = {}
    for name, product in zip(names, products, strict=True):
        W = product.W(params)
        G, E = W.shape
        blocks[name] = W.reshape(-1, E, E) if E and G % E == 0 else W[None]
    return blocks
