"""Batches that devices share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rnn_jax.errors import invalid
from rnn_jax.training.scopes import SHARED
from rnn_jax.types import Params, State


def batch_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the devices, by default all of all processes, in a row named "batch".

    Raises:
      ValueError: no devices, or what is no device.
    """
    devices = jax.devices() if devices is None else devices
    listed = isinstance(devices, Sequence | np.ndarray) and len(devices) > 0
    if not listed or not all(isinstance(device, jax.Device) for device in devices):
        remedy = "Pass some of jax.devices()."
        raise invalid("devices", devices, "a sequence of at least one jax.Device", remedy)
    return Mesh(np.array(devices), ("batch",))


def mean_over_devices(values: Any, mesh: Mesh) -> Any:
    """Return the mean of each array over the devices of a mesh, within `shard_map`."""
    with jax.named_scope(SHARED):
        return jax.lax.pmean(values, mesh.axis_names)


def share(function: Callable[..., Any], mesh: Mesh, batch_spec: Any) -> Callable[..., Any]:
    """Return a function of `(params, carried, batch)`, each device taking its part of the batch.

    Args:
      function: `(params, carried, batch) -> (averaged, by_stream, by_step)`. `averaged` is the mean
        over devices; `by_stream`, leaves `[B, ...]` like those of `carried`, and `by_step`,
        `[T, B, ...]`, hold the examples of all devices side by side.
      mesh: the devices.
      batch_spec: which axis of each array of a batch is shared.
    """

    def on_its_part(params: Params, carried: State, batch: Any):
        averaged, by_stream, by_step = function(params, carried, batch)
        return mean_over_devices(averaged, mesh), by_stream, by_step

    replicated, streams, time_major = specs(mesh)
    in_specs = (replicated, streams, batch_spec)
    # Parameters come in whole, and a device differentiates its own mean without communication in
    # between: with check_vma, JAX would sum the gradient over devices on its own.
    run = jax.shard_map(
        on_its_part,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=(replicated, streams, time_major),
        check_vma=False,
    )

    def checked(params: Params, carried: State, batch: Any) -> Any:
        _check_shared_evenly(batch, batch_spec, mesh)
        return run(*sharded_as(in_specs, (params, carried, batch), mesh))

    return checked


def _check_shared_evenly(batch: Any, batch_spec: Any, mesh: Mesh) -> None:
    """Raise ValueError for an array that the devices of a mesh cannot share as its spec says."""

    def of_part(spec: PartitionSpec, part: Any) -> None:
        for leaf in jax.tree.leaves(part):
            for axis, names in enumerate(spec):
                if names is None:
                    continue
                names = names if isinstance(names, tuple) else (names,)
                count = math.prod(mesh.shape.get(name, 1) for name in names)
                shape = np.shape(leaf)
                if axis >= len(shape) or shape[axis] % count:
                    got = f"an array {list(shape)}"
                    expected = f"axis {axis} to be shared evenly by {count} devices"
                    raise invalid("batch", got, expected, "Choose another batch size.")

    jax.tree.map(of_part, batch_spec, batch, is_leaf=lambda s: isinstance(s, PartitionSpec))


def sharded_as(spec: Any, tree: Any, mesh: Mesh) -> Any:
    """Return arrays of the types that `shard_map` takes as `spec`, a prefix of the tree.

    Over explicit axes the sharding is part of an array's type; over others it is JAX's business.
    """
    if AxisType.Explicit not in mesh.axis_types:
        return tree

    def of_part(spec: PartitionSpec, part: Any) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(lambda leaf: jax.sharding.reshard(leaf, sharding), part)

    return jax.tree.map(of_part, spec, tree, is_leaf=lambda s: isinstance(s, PartitionSpec))


def specs(mesh: Mesh) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """Return the specs of what all devices have, of `[B, ...]`, and of `[T, B, ...]`."""
    axes = mesh.axis_names
    return PartitionSpec(), PartitionSpec(axes), PartitionSpec(None, axes)
