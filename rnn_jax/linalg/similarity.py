r"""Changes of a square matrix that keep its eigenvalues exactly.

- An entry that lies on no cycle of the graph of W, i → j where W_ij ≠ 0, is in no term of the
  characteristic polynomial. Without those entries W is block diagonal, a block for each strongly
  connected component; a triangular matrix becomes its diagonal.
- D⁻¹ W D with D a diagonal of powers of two. Balanced, so that row i is as large as column i, it
  has lost the part of ‖W‖ that is a matter of units (Osborne 1960, On pre-conditioning of matrices,
  J. ACM 7).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

SWEEPS = 100
"""The most passes over all rows that balancing takes; 2 to 5 are usual."""


def same_component(W: Array) -> Array:
    """Return whether a path leads from i to j and one back, in the graph of `W [n, n]`."""
    n = len(W)
    reach = (W != 0) | jnp.eye(n, dtype=bool)
    # Paths of up to 2, 4, 8, .. steps, by squaring. As float32: products of bools and integers are
    # not BLAS's. A sum of up to n ones stays above 0, whatever is rounded.
    for _ in range(max(n - 1, 1).bit_length()):
        paths = reach.astype(jnp.float32)
        reach = paths @ paths > 0
    return reach & reach.T


def balance(W: Array) -> Array:
    """Return d, int32 `[n]`, for which D⁻¹ W D, D = diag(2^d), has rows as large as its columns.

    The largest entries of row i and of column i, the diagonal left out, are then alike within a
    factor of four. No entry of D⁻¹ W D is larger than the largest of W.
    """
    n = len(W)
    # Logarithms, so that nothing overflows; d in whole numbers, so that scaling is exact. One row
    # at a time, with the d of those before: all at once, the two entries of a 2-cycle would change
    # places for ever. The diagonal is the same for any D. A row or a column that is empty besides
    # lies on no cycle and is left alone.
    counts = (W != 0) & ~jnp.eye(n, dtype=bool)
    logs = jnp.where(counts, jnp.log2(jnp.abs(jnp.where(counts, W, 1))), -jnp.inf)

    def one_row(i: Any, carry: Any):
        d, moved = carry
        row = jnp.max(logs[i] + d) - d[i]
        column = jnp.max(logs[:, i] - d) + d[i]
        both = jnp.isfinite(row) & jnp.isfinite(column)
        shift = jnp.where(both, jnp.round((row - column) / 2), 0)
        return d.at[i].add(shift), jnp.maximum(moved, jnp.abs(shift))

    def sweep(carry: Any):
        sweeps, d, _ = carry
        d, moved = jax.lax.fori_loop(0, n, one_row, (d, jnp.zeros((), W.dtype)))
        return sweeps + 1, d, moved

    unfinished = lambda carry: (carry[0] < SWEEPS) & (carry[2] > 0)
    start = jnp.zeros((), jnp.int32), jnp.zeros(n, W.dtype), jnp.ones((), W.dtype)
    return jax.lax.while_loop(unfinished, sweep, start)[1].astype(jnp.int32)
