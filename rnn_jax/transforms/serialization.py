"""Registration of the classes of parameters and states for `jax.export`."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import Any

import jax

PACKAGE = "rnn_jax"


def register_classes() -> None:
    """Register every dataclass and named tuple of the package that is a pytree.

    A program whose arguments or results hold one can then be serialized by
    `jax.export.export(..).serialize()`, and read where rnn_jax has been imported. The name is the
    class's public one, "rnn_jax.LSTMParams"; classes with fields that are no pytrees are left out.
    """
    for name, module in list(sys.modules.items()):
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            continue
        for kind in list(vars(module).values()):
            if isinstance(kind, type) and kind.__module__ == name and kind.__name__[0] != "_":
                _register(kind)


def _register(kind: type) -> None:
    name = f"{PACKAGE}.{kind.__name__}"
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        register: Any = jax.export.register_namedtuple_serialization
        options: dict[str, Any] = {}
    elif hasattr(kind, "_flax_dataclass") and all(
        field.metadata.get("pytree_node", True) for field in dataclasses.fields(kind)
    ):
        register = jax.export.register_pytree_node_serialization
        options = {"serialize_auxdata": lambda _: b"", "deserialize_auxdata": lambda _: ()}
    else:
        return
    with contextlib.suppress(ValueError):  # registered before, or by the user
        register(kind, serialized_name=name, **options)
