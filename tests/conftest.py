"""Strictness of the whole suite, and the cells that every law is held against."""

import gc
import itertools
import os
from importlib.metadata import version
from typing import NamedTuple

# Small programs, each run a few times: what takes time is tracing and compiling them.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    " --xla_cpu_parallel_codegen_split_count=1"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jax") < "0.12" else ""),
)

import jax
import jax.numpy as jnp
import pytest

import rnn_jax
from rnn_jax import cells
from rnn_jax.cell import Product, Structure

gc.set_threshold(200_000, 20, 100)  # collections after every 700 objects took a tenth of the time
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


def _user_step(p, state, x):
    """A cell of nobody's: two state leaves, a tied matrix, a transposed one, a vector readout."""
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
    """A structure of nobody's: constants, layer normalization, a y of its own size."""

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

INPUT_SIZE = 3
TESTS_RUN = itertools.count(1)


@pytest.fixture(autouse=True)
def few_programs_at_a_time():
    """Thousands of compiled programs would exhaust the memory maps that a process may have."""
    yield
    if next(TESTS_RUN) % 100 == 0:
        jax.clear_caches()


@pytest.fixture(scope="module")
def optax_promotes():
    """Optax multiplies floats by integer counts, which strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(params=LAWFUL, scope="module")
def lawful(request):
    """(make(dtype) -> Cell) for every lawful cell."""
    return LAWFUL[request.param]


@pytest.fixture(scope="module")
def cell(lawful):
    return lawful(jnp.float64)


@pytest.fixture(scope="module")
def params(cell):
    return cell.init(jax.random.key(0), INPUT_SIZE)


def normal(seed, *shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def drawn(tree, seed=3):
    """Random leaves: no bias and no state that is zero."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        [normal(seed + n, *leaf.shape, dtype=leaf.dtype) / 2 for n, leaf in enumerate(leaves)]
    )


def random_state(cell, params, batch, seed=7):
    """A state that the cell reaches, nudged so that it is not zero anywhere."""
    dtype = jax.tree.leaves(jax.eval_shape(cell.initial_state, params))[0].dtype
    xs = normal(seed, 3, *batch, INPUT_SIZE).astype(dtype)
    reached = jax.jit(lambda p, xs: rnn_jax.unroll(cell, p, xs, strategy="scan")[0])(params, xs)
    leaves, tree = jax.tree.flatten(reached)
    nudged = [
        leaf + jnp.asarray(0.1, dtype) * normal(seed + i, *leaf.shape, dtype=dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, nudged)
