"""Batches that devices share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import invalid
from rnn_jax.training.scopes import SHARED
from rnn_jax.types import Params, State


def batch_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return the devices, all local ones by default, in a row named "batch".

    Raises:
      ValueError: no devices, or what is no device.
    """
    devices = jax.local_devices() if devices is None else devices
    listed = isinstance(devices, Sequence | np.ndarray) and len(devices) > 0
    if not listed or not all(isinstance(device, jax.Device) for device in devices):
        remedy = "Pass some of jax.local_devices()."
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
    # Parameters come in whole, and a device differentiates its own mean without communication in
    # between: with check_vma, JAX would sum the gradient over devices on its own.
    return jax.shard_map(
        on_its_part,
        mesh=mesh,
        in_specs=(replicated, streams, batch_spec),
        out_specs=(replicated, streams, time_major),
        check_vma=False,
    )


def specs(mesh: Mesh) -> tuple[PartitionSpec, PartitionSpec, PartitionSpec]:
    """Return the specs of what all devices have, of `[B, ...]`, and of `[T, B, ...]`."""
    axes = mesh.axis_names
    return PartitionSpec(), PartitionSpec(axes), PartitionSpec(None, axes)
