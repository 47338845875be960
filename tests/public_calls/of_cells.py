"""Calls of makers of cells, wrappers and initializers."""

import inspect

import jax.numpy as jnp

from rnn_jax import (
    cells,
)
from rnn_jax.cells import initializers
from tests.public_calls.call import CELL, DTYPE, KEY, PARAMS, B, Call, H, I, run_cell


def structured_parts():
    return {
        "init": CELL.init,
        "initial_state": CELL.initial_state,
        "structure": CELL.structure,
    }


def linear_parts():
    cell = cells.diagonal(H, dtype=DTYPE)
    return {
        "init": cell.init,
        "initial_state": cell.initial_state,
        "U": lambda params: params.U,
        "drive": lambda params, Ux: (Ux + params.b,),
        "coefficients": lambda params, d: (jnp.full_like(d, 0.5), d),
    }


def cell_makers():
    extra = {
        "gated": {"blocks": 1, "pointwise": lambda h, a: (jnp.tanh(a), jnp.tanh(a))},
        "jordan": {"output_size": 2},
    }
    no_makers = {"draw_masks", "dropout", "from_function", "layer_norm", "linear", "readout"}
    no_makers |= {"learned_initial_state", "residual", "stack", "structured"}
    for name in cells.__all__:
        make = getattr(cells, name)
        if not inspect.isfunction(make) or name in no_makers:
            continue
        good = {"hidden_size": H, **extra.get(name, {})}
        for argument, parameter in inspect.signature(make).parameters.items():
            if isinstance(parameter.default, int | float | str) and argument not in good:
                good[argument] = parameter.default
        yield name, Call(make, good, then=run_cell, cheap=False)


def cell_calls():
    return {
        **dict(cell_makers()),
        "draw_masks": Call(
            cells.draw_masks,
            {
                "key": KEY,
                "cell": CELL,
                "params": PARAMS,
                "input_size": I,
                "batch": (B,),
                "input_rate": 0.5,
                "recurrent_rate": 0.5,
                "output_rate": 0.5,
            },
            kinds={"params": "shape"},
        ),
        "dropout": Call(
            cells.dropout,
            {"cell": CELL, "masks": cells.draw_masks(KEY, CELL, PARAMS, I, input_rate=0.5)},
            then=run_cell,
        ),
        "from_function": Call(
            cells.from_function,
            {
                "step": lambda p, h, x: (jnp.tanh(p["W"] @ h + x), h),
                "state": jnp.zeros(H, DTYPE),
                "init": lambda key, size: {"W": jnp.eye(H, dtype=DTYPE)},
            },
            then=run_cell,
            kinds={"state": "skip"},
        ),
        "layer_norm": Call(cells.layer_norm, {"cell": CELL, "epsilon": 1e-6}, then=run_cell),
        "linear": Call(cells.linear, linear_parts(), then=run_cell),
        "readout": Call(cells.readout, {"cell": CELL, "output_size": 2}, then=run_cell),
        "learned_initial_state": Call(cells.learned_initial_state, {"cell": CELL}, then=run_cell),
        "residual": Call(cells.residual, {"cell": CELL}, then=run_cell),
        "stack": Call(lambda layers: cells.stack(layers, CELL), {"layers": CELL}, then=run_cell),
        "structured": Call(cells.structured, structured_parts(), then=run_cell),
    }


def initializer_calls():
    return {
        name: Call(
            getattr(initializers, name),
            good,
            then=lambda init: init(KEY, (4, 2), jnp.float64),
            kinds={"std": "positive or None"},
        )
        for name, good in {
            "gaussian": {"std": 0.5},
            "identity": {"scale": 1.0},
            "orthogonal": {"gain": 1.0},
            "rotations": {},
            "sparse_spectral_radius": {"radius": 0.9, "connections": 1},
            "stacked": {"init": initializers.gaussian(0.5), "blocks": 2},
            "uniform": {"low": -0.5, "high": 0.5},
        }.items()
        if name != "sparse_spectral_radius"
    } | {
        "sparse_spectral_radius": Call(
            initializers.sparse_spectral_radius,
            {"radius": 0.9, "connections": 2},
            then=lambda init: init(KEY, (4, 4), jnp.float64),
            cheap=False,
        )
    }
