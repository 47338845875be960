"""The programs of recurrent layers, ours and other libraries', that benchmarks run."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from benchmarks.peers import JAX_LIBRARIES

ONE_THREAD = {"xla_cpu_multi_thread_eigen": False}


BATCH = PartitionSpec(None, "batch")


Shape = tuple[int, int, int, int]


def program_of(library: str, cell: str, shape: Shape, mode: str, devices: int):
    """Return the compiled program of a JAX library, and its arguments."""
    B, T, I, H = shape
    layer = JAX_LIBRARIES[library](cell, *shape)
    keys = jax.random.split(jax.random.key(0))
    xs, weights = (
        jax.random.normal(key, (T, B, size)) for key, size in zip(keys, (I, H), strict=True)
    )

    def gradient(params, xs, weights):
        return jax.grad(lambda p: jnp.vdot(layer.run(p, xs), weights))(params)

    function = gradient if mode == "gradient" else lambda params, xs, _: layer.run(params, xs)
    if devices == 1:
        arguments = (layer.params, xs, weights)
        return jax.jit(function).lower(*arguments).compile(), arguments

    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    everywhere = PartitionSpec()

    def of_a_part(*arguments):
        part = function(*arguments)
        return jax.lax.psum(part, "batch") if mode == "gradient" else part

    shared = jax.shard_map(
        of_a_part,
        mesh=mesh,
        in_specs=(everywhere, BATCH, BATCH),
        out_specs=everywhere if mode == "gradient" else BATCH,
        check_vma=False,
    )
    arguments = (
        jax.device_put(layer.params, NamedSharding(mesh, everywhere)),
        *jax.device_put((xs, weights), NamedSharding(mesh, BATCH)),
    )
    return jax.jit(shared, compiler_options=ONE_THREAD).lower(*arguments).compile(), arguments


def gradient_program(library: str, cell: str, shape: Shape):
    """Return the program of a gradient on one device, and its arguments."""
    return program_of(library, cell, shape, "gradient", 1)
