"""Type aliases, and the letters that every file of this package uses.

| letter  | meaning                                                           |
| ------- | ----------------------------------------------------------------- |
| T       | steps of a sequence                                               |
| *batch  | any number of leading batch axes, also none; B where there is one |
| I, H, O | sizes of the input, of a hidden layer, of the output              |
| S       | size of the flattened state (H for Elman, 2 H for an LSTM)        |

Sequences are time-major: `xs [T, *batch, I]`, `ys [T, *batch, O]`. Weights are `[out, in]`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Array: TypeAlias = jax.Array
Key: TypeAlias = jax.Array
Params: TypeAlias = Any
"""A pytree of arrays, the learned parameters."""
State: TypeAlias = Any
"""A pytree of arrays `[*batch, ...]`, all that one step passes to the next."""
Initializer: TypeAlias = Callable[[Key, tuple[int, ...], Any], Array]
"""`(key, shape, dtype) -> array`, as in `jax.nn.initializers`."""
StepLoss: TypeAlias = Callable[[Array, Array], Array]
"""`(y [*batch, O], target) -> E_t [*batch]`: one step's loss, a scalar per example."""


def at_least_float32(x: Array) -> Array:
    """Return `x`, or `x` in float32 where its precision is less."""
    return x.astype(jnp.float32) if x.dtype.itemsize < 4 else x


def wide_dtype(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype, float32 at least, in which to draw numbers that are rounded to `dtype`."""
    # Half precision has 256 or 2,048 uniform numbers: drawn in it, their mean is off, and so are
    # their logarithms.
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Return names that moved to `rnn_jax.cell`."""
        if name in ("Cell", "Complex", "Recurrence", "as_number", "as_state"):
            name = "NormBoundTerms" if name == "Recurrence" else name
            return getattr(importlib.import_module("rnn_jax.cell"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
