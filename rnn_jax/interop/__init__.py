"""Flax, Haiku, Equinox and PyTorch: their cells as ours, ours as theirs, weights both ways.

Each framework is imported by the function that needs it.
"""

from typing import TYPE_CHECKING

from rnn_jax.interop.cells_from_libraries import from_equinox, from_haiku, from_linen, from_nnx
from rnn_jax.interop.linen_cell import LinenCell
from rnn_jax.interop.weights import export_weights, import_weights

if TYPE_CHECKING:
    from rnn_jax.interop.nnx_cell import NNXCell

__all__ = [
    "LinenCell",
    "NNXCell",
    "export_weights",
    "from_equinox",
    "from_haiku",
    "from_linen",
    "from_nnx",
    "import_weights",
]


def __getattr__(name: str):
    if name == "NNXCell":
        from rnn_jax.interop.nnx_cell import NNXCell

        return NNXCell
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
