"""A batch that devices share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import invalid
from rnn_jax.training.scopes import SHARED
from rnn_jax.types import Params


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


def share(function: Callable[..., Any], mesh: Any, batch_spec: Any):
    """Return `function(params, batch)`, each device taking its part of the batch, averaged."""

    def of_a_part(params: Params, batch: Any):
        return mean_over_devices(function(params, batch), mesh)

    replicated = PartitionSpec()
    return jax.shard_map(
        of_a_part,
        mesh=mesh,
        in_specs=(replicated, batch_spec),
        out_specs=replicated,
        check_vma=False,
    )
