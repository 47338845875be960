"""Checks of what panels are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.errors import invalid


def check_text(argument: str, value: Any) -> None:
    """Raise ValueError for anything but text."""
    if not isinstance(value, str):
        raise invalid(argument, value, "text", "Pass a str.")


def check_names(argument: str, value: Any) -> Mapping[str, Any]:
    """Return `value`. ValueError unless it is a mapping whose keys are text."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise invalid(argument, value, "a mapping by name", "Pass {name: ...}.")
    return value


def check_rows(argument: str, value: Any) -> Sequence[Any]:
    """Return `value`. ValueError unless it is a list or a tuple."""
    if not isinstance(value, list | tuple):
        raise invalid(argument, value, "a list", "Pass a list.")
    return value


def check_numbers(argument: str, value: Any, rank: int) -> np.ndarray:
    """Return `value` as an array of real numbers of that rank. ValueError for anything else."""
    try:
        array = np.asarray(value)
        real = not np.iscomplexobj(array)
        if real:
            array.astype(float)
    except (TypeError, ValueError):
        raise invalid(argument, value, "an array of numbers", "Pass a NumPy array.") from None
    # "V" are JAX's short floats.
    if not real or array.dtype.kind not in "biufV" or array.ndim != rank:
        expected = f"real numbers of {rank} {'axis' if rank == 1 else 'axes'}"
        raise invalid(argument, value, expected, "Take one network, or a median over several.")
    return array


def check_bands(arrays: Mapping[str, Any], band: Any) -> None:
    """Raise ValueError unless arrays, None for none, and both ends of a band have one length."""
    if band is not None and (not isinstance(band, list | tuple) or len(band) != 2):
        raise invalid("band", band, "its lower and its upper end", "Pass (low, high).")
    ends = [] if band is None else [("band", end) for end in band]
    known = [
        (name, check_numbers(name, v, 1)) for name, v in [*arrays.items(), *ends] if v is not None
    ]
    count = len(known[0][1])
    for name, values in known:
        if len(values) != count:
            got, expected = f"{len(values)} numbers", f"{count}, one for each point"
            raise invalid(name, got, expected, "Pass arrays of one length.")
