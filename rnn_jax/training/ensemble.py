"""Many networks as one program, spread over the devices that there are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rnn_jax.errors import check_function, check_size, invalid, is_traced
from rnn_jax.training._batch_mesh import sharded_as
from rnn_jax.training.checks import check_mesh
from rnn_jax.training.processes import are_several

CACHE = 2**18
"""Bytes of arguments of the members that a CPU core goes through at once."""


def over_ensemble(
    function: Callable[..., Any],
    members: int,
    *,
    at_once: int | None = None,
    mesh: Mesh | None = None,
) -> Callable[..., Any]:
    """Map a function of one network over the leading axis of every argument, jitted.

    The members are spread evenly over as many devices as divide their number; where there are
    several processes, over all devices of all of them. They never wait for each other: no
    communication is compiled in.

    Keep `jnp.linalg` out of the function where jaxlib is older than 0.12: two batched LAPACK calls
    that run at the same time on the CPU, be it in two devices or in one program, can there wait for
    each other's threads forever. Draw and measure with `jax.jit(jax.vmap(...))`.

    Args:
      function: arrays (pytrees of them) to arrays.
      members: the size of the leading axes.
      at_once: most members that a device goes through at once, side by side in each operation; the
        others follow. By default all on an accelerator, and on a CPU as many as its cache holds:
        what a backward pass keeps of more of them is read from memory, which takes up to twice as
        long.
      mesh: the devices, if not all: the members are spread over all of its axes.

    Raises:
      ValueError: no function; a number of members, or of those at once, that is not a positive
        integer, or is not the size of every leading axis; a mesh that is none, or of more devices
        than members can be spread over evenly.
    """
    check_function("function", function, "of arrays")
    members = check_size("members", members)
    most = None if at_once is None else check_size("at_once", at_once)
    check_mesh(mesh)
    if mesh is None:
        devices = jax.devices()
        count = _largest_divisor(members, len(devices))
        if are_several() and count < len(devices):
            expected, remedy = f"a multiple of {len(devices)} devices", "Or pass a mesh of some."
            raise invalid("members", members, expected, remedy)
        mesh = Mesh(np.array(devices[:count]), ("member",))
    elif members % mesh.size:
        expected = f"one of as many devices as divide {members} members"
        raise invalid("mesh", mesh, expected, "Leave it out, or change the number of members.")
    on_each, platform = members // mesh.size, mesh.devices.flat[0].platform
    spec = PartitionSpec(mesh.axis_names)

    def of_device(*args: Any) -> Any:
        width = _width(args, on_each, most, platform)
        if width == on_each:
            return jax.vmap(function)(*args)
        one = lambda args: function(*args)
        return jax.lax.map(one, args, batch_size=width if width > 1 else None)

    # No argument is shared between the shards, so there is nothing for check_vma to check.
    shards = jax.shard_map(of_device, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    run_all = lambda *args: shards(*sharded_as(spec, args, mesh))
    sharding = NamedSharding(mesh, spec)
    # Of several processes each has all members in its own memory, which JAX takes its part of; over
    # explicit axes it takes arguments as they are.
    as_they_are = are_several() or AxisType.Explicit in mesh.axis_types
    on_all = jax.jit(run_all) if as_they_are else jax.jit(run_all, in_shardings=sharding)

    @functools.wraps(function)
    def run(first: Any, *others: Any) -> Any:
        _check_leading((first, others), members)
        if as_they_are:
            return on_all(first, *others)
        leaf = next(iter(jax.tree.leaves(first)), None)
        # The state that a loop begins with lies on one device, and those that come out on all: two
        # types of argument, and two compilations, unless it is put there.
        if not is_traced(leaf) and getattr(leaf, "sharding", None) != sharding:
            first = jax.device_put(first, sharding)
        return on_all(first, *others)

    run.lower = on_all.lower  # type: ignore[attr-defined]
    return run


def _check_leading(args: Any, members: int) -> None:
    """Raise ValueError unless the leading axis of each array is that of the members."""
    for leaf in jax.tree.leaves(args):
        if np.shape(leaf)[:1] != (members,):
            got = f"{members} for an array {list(np.shape(leaf))}"
            remedy = "Stack the members along the first axis of every array."
            raise invalid("members", got, "the size of every leading axis", remedy)


def _width(args: Any, members: int, most: int | None, platform: str) -> int:
    """Return how many of a device's members it goes through at once."""
    if most is None:
        if platform != "cpu":
            return members
        sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(args)]
        most = CACHE * members // max(sum(sizes), 1)
    # A divisor: for a remainder the function would be compiled once more.
    return _largest_divisor(members, max(most, 1))


def _largest_divisor(number: int, most: int) -> int:
    return max(n for n in range(1, min(number, most) + 1) if number % n == 0)
