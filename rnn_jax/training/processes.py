"""Several processes that train one state: what each of them has to do, and what the first alone."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def is_first() -> bool:
    """Return whether this process is the one that writes files and says how far a run is."""
    return jax.process_index() == 0


def are_several() -> bool:
    """Return whether there are other processes (`jax.distributed.initialize`)."""
    return jax.process_count() > 1


def to_host(array: Any) -> np.ndarray:
    """Return an array as NumPy's, whole in every process; all of them have to call this."""
    if isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    ):
        from jax.experimental.multihost_utils import process_allgather

        return np.asarray(process_allgather(array, tiled=True))
    return np.asarray(array)


def of_first(number: int) -> int:
    """Return what the first process has passed, in every process."""
    if not are_several():
        return number
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return int(broadcast_one_to_all(np.int32(number)))
