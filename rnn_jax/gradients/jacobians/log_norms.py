"""Step Jacobians J_i = ∂h_i/∂h_{i-1} and their products ∂h_t/∂h_k = J_t ··· J_{k+1}.

h is the flattened state, in the order of `jax.flatten_util.ravel_pytree`: (c, h) for an LSTM.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.cell import Cell
from rnn_jax.errors import check_array, check_number, choose
from rnn_jax.gradients.jacobians.state_blocks import Block, Entries, block_entries
from rnn_jax.gradients.jacobians.step_jacobians import jacobians_along
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.linalg.norms import LogNorm
from rnn_jax.linalg.product_norms import (
    NORMS,
    in_dtype,
    log_norm_table,
    tables_of_examples,
    with_rounding,
)
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State, at_least_float32


def jacobian_log_norms(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    norm: str = "spectral",
    block: Block | None = None,
    rtol: float | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """Return ln ‖∂h_t/∂h_k‖ at [t, k], `[T+1, T+1, *batch]`.

    t and k count states as `trajectory` does, 0 being the initial one. The diagonal is ln ‖I‖ (0
    in the spectral norm, ½ ln S in Frobenius'), and k > t is -inf. Each product is carried as a
    mantissa and an exponent, so nothing under- or overflows at any lag in any dtype; where the
    trajectory is not finite the answer is NaN.

    Spectral norms are Lanczos': never above the truth but for rounding, and below it by no more
    than `certified_log_norms` says. Time grows as T² S² steps, some ten steps for each norm, more
    where singular values crowd below the largest; Frobenius norms take T² S³. Memory for each
    example: about 5 T S² + 2 T², the first T rounded up to a power of two. Derivatives of spectral
    norms are not followed: NaN in forward mode, JAX's error for a while loop in reverse mode.

    Args:
      cell, params, xs, initial_state: as for `unroll`; any Cell serves.
      norm: "spectral" or "frobenius".
      block: (to, from), names of parts of the state: ("c", "h") for ∂c_t/∂h_k, all paths in
        between included; see `state_blocks`. The whole state by default.
      rtol: relative accuracy asked of spectral norms; 1e-12 in float64, 1e-5 in float32 by default.
      mesh: devices that share the pairs (t, k) of each example, `training.batch_mesh()`, say.

    Raises:
      ValueError: an unknown norm or block, and what `unroll` raises.
    """
    check_norm(norm, rtol)
    entries = block_entries(cell, params, block)
    cell, xs, start = continuous(cell, params, xs, initial_state)
    jacobians = jacobians_along(cell, params, xs, start)
    return tables(jacobians, norm, rtol, mesh, entries).value


def product_log_norms(
    jacobians: Array,
    *,
    norm: str = "spectral",
    rtol: float | None = None,
    mesh: Mesh | None = None,
) -> Array:
    """Find `jacobian_log_norms` from `jacobians [T, *batch, S, S]` that are at hand."""
    check_norm(norm, rtol)
    jacobians = check_array("jacobians", jacobians, ("T", "*batch", "S", "S"))
    return tables(jacobians, norm, rtol, mesh, _whole(jacobians)).value


def certified_log_norms(
    jacobians: Array,
    *,
    norm: str = "spectral",
    rtol: float | None = None,
    mesh: Mesh | None = None,
) -> LogNorm:
    """Return `product_log_norms` and how far from the truth each may be: `[T+1, T+1, *batch]`.

    The truth, ln of the norm of the exact product of these matrices, lies within value ± error. The
    error is that of Lanczos' method, which holds but for a probability of 1e-6 for each norm, and
    that of rounding on the way, which `products.with_rounding` estimates and BENCHMARKS.md
    measures; it is large where products cancel, and +inf where nothing but rounding is left of
    them. NaN where a matrix in between is not finite.
    """
    check_norm(norm, rtol)
    jacobians = check_array("jacobians", jacobians, ("T", "*batch", "S", "S"))
    return tables(jacobians, norm, rtol, mesh, _whole(jacobians), certified=True)


@compiled("norm", "rtol", "mesh", "entries", "certified")
def tables(
    jacobians: Array,
    norm: str,
    rtol: float | None,
    mesh: Mesh | None,
    entries: Entries,
    certified: bool = False,
) -> LogNorm:
    """Return tables of `entries` of all products; their errors are None unless `certified`."""
    rows, columns = map(np.array, entries)
    axes = () if mesh is None else mesh.axis_names
    keep = (lambda x: x) if certified else (lambda found: found._replace(error=None))

    def table_of(J: Any):
        table = log_norm_table(J, NORMS[norm](rtol), rows, columns, keep, axes)
        return with_rounding(table) if certified else table

    tables_of = functools.partial(tables_of_examples, table_of)
    if mesh is not None:
        whole = PartitionSpec()
        tables_of = jax.shard_map(
            tables_of, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False
        )
    return in_dtype(tables_of(at_least_float32(jacobians)), jacobians.dtype)


def check_norm(norm: str, rtol: float | None) -> None:
    """Raise ValueError for an unknown norm, or a tolerance that is no number from 0."""
    choose("norm", norm, NORMS)
    if rtol is not None:
        check_number("rtol", rtol, least=0, remedy="Pass None for the default tolerance.")


def _whole(jacobians: Array) -> Entries:
    entries = tuple(range(jacobians.shape[-1]))
    return entries, entries
