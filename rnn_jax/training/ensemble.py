"""Many networks as one program, spread over the devices that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.errors import check_function, check_size


def over_ensemble(function: Callable[..., Any], members: int) -> Callable[..., Any]:
    """Map a function of one network over the leading axis of every argument, jitted.

    The members are spread evenly over as many local devices as divide their number. They never
    wait for each other: no communication is compiled in.

    Keep `jnp.linalg` out of the function where jaxlib is older than 0.12: two batched LAPACK calls
    that run at the same time on the CPU, be it in two devices or in one program, can there wait for
    each other's threads forever. Draw and measure with `jax.jit(jax.vmap(...))`.

    Args:
      function: arrays (pytrees of them) to arrays.
      members: the size of the leading axes.

    Raises:
      ValueError: no function; a number of members that is not a positive integer.
    """
    check_function("function", function, "of arrays")
    check_size("members", members)
    devices = jax.local_devices()
    count = max(n for n in range(1, len(devices) + 1) if members % n == 0)
    mesh = Mesh(np.array(devices[:count]), ("member",))
    spec = PartitionSpec("member")
    # No argument is shared between the shards, so there is nothing for check_vma to check.
    return jax.jit(
        jax.shard_map(jax.vmap(function), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    )
