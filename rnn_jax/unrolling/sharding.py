"""Arrays on a mesh with explicit axes, which `jax.make_mesh` makes by default.

The shardings of such arrays are part of their types, and each operation must say what it makes of
them. A loop over time says it once: examples stay on the axes that they are on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rnn_jax.types import Array


def over_examples(function: Callable[..., Any], xs: Any, *others: Any) -> Callable[..., Any]:
    """Return `function`, whose results are (leaves `[*batch, ...]`, leaves `[T, *batch, ...]`).

    Where `xs [T, *batch, I]` or one of the `others` is on explicit axes, the compiler shards what
    is inside as it sees fit (`jax.sharding.auto_axes`), and the results are on the batch's axes.
    """
    mesh = next((mesh for leaf in jax.tree.leaves((xs, others)) if (mesh := _explicit(leaf))), None)
    if mesh is None:
        return function
    of_xs = next((leaf for leaf in jax.tree.leaves(xs) if _explicit(leaf)), None)
    batch = () if of_xs is None else tuple(jax.typeof(of_xs).sharding.spec)[1:-1]
    on_batch = NamedSharding(mesh, PartitionSpec(*batch))
    along_time = NamedSharding(mesh, PartitionSpec(None, *batch))

    def call(*args: Any) -> Any:
        of_state, of_time = jax.eval_shape(function, *shapes_of(args))
        out = (
            jax.tree.map(lambda _: on_batch, of_state),
            jax.tree.map(lambda _: along_time, of_time),
        )
        return jax.sharding.auto_axes(function, out_sharding=out)(*args)

    return call


def shapes_of(tree: Any) -> Any:
    """Return the shapes and dtypes of the arrays in `tree`, without their shardings."""
    return jax.tree.map(_shape, tree)


def _shape(leaf: Any):
    if not isinstance(leaf, jax.Array):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=getattr(leaf, "weak_type", False))


def _explicit(leaf: Array) -> Any:
    """Return the mesh of `leaf` if it is sharded over an explicit axis, else None."""
    if not isinstance(leaf, jax.Array):
        return None
    sharding = jax.typeof(leaf).sharding
    mesh = sharding.mesh
    if mesh.empty or AxisType.Explicit not in mesh.axis_types:
        return None
    return mesh if any(axis is not None for axis in sharding.spec) else None
