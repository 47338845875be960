r"""Norms of all products of consecutive matrices, from pairs of factors.

P_{t,k} = J_t ··· J_{k+1} is A_t B_k with A_t = J_t ··· J_{s+1} and B_k = J_s ··· J_{k+1} for any s
in between. Halve the sequence at s, the halves again, and so on: T log T matrix products are behind
all T²/2 pairs, and a norm of A_t B_k asks for A_t B_k only as it acts on a few vectors.

Matrices are carried as mantissas and exponents, so that nothing under- or overflows. Rounding
changes P_{t,k} by about ε max_s ‖A_t‖ ‖B_k‖, as it does one product after the other.

All loops are XLA's: the size of the program depends on neither T nor S.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.gradients.spectral import (
    LogNorm,
    default_tolerance,
    root_of_largest_eigenvalue,
    start_vector,
)
from rnn_jax.linalg import log_norm, log_power_of_two, split_exponent
from rnn_jax.types import Array

BLOCK = 16
"""Steps of a block. A pair of blocks is BLOCK² products A_t B_k, whose norms are found together."""


class Scaled(NamedTuple):
    """Matrices m · 2^e, `m [..., R, C]` with largest entries in [½, 1), int32 `e [...]`."""

    m: Array
    e: Array

    def take(self, i: Array) -> Scaled:
        """The i-th ones of a leading axis."""
        return Scaled(self.m[i], self.e[i])

    def put(self, i: Array, others: Scaled) -> Scaled:
        """`others` in the place of the i-th ones."""
        return Scaled(self.m.at[i].set(others.m), self.e.at[i].set(others.e))

    def __matmul__(self, other: Scaled) -> Scaled:
        m, e = split_exponent(self.m @ other.m, (-2, -1))
        return Scaled(m, e + self.e + other.e)


class Norm(NamedTuple):
    """How the norms of many matrices are found.

    Attributes:
      of_ones: ln of the norm of a matrix of n ones, one at most in a row or a column.
      of_matrices: `[..., R, C] -> LogNorm`, each part `[...]`.
      of_products: `A [p, R, S], B [q, S, C] -> LogNorm` of all A_i B_j, each part `[p, q]`.
    """

    of_ones: Callable[[int], float]
    of_matrices: Callable[[Array], LogNorm]
    of_products: Callable[[Array, Array], LogNorm]


def frobenius_norm() -> Norm:
    """By the products themselves: exact but for their rounding."""

    def of_matrices(P):
        value = log_norm(P, (-2, -1))
        return LogNorm(value, jnp.where(jnp.isnan(value), jnp.nan, jnp.zeros_like(value)))

    def of_products(A, B):
        (p, R, S), (q, _, C) = A.shape, B.shape
        P = (A.reshape(p * R, S) @ B.swapaxes(0, 1).reshape(S, q * C)).reshape(p, R, q, C)
        value, error = of_matrices(P.swapaxes(1, 2))
        return LogNorm(value, error + _rounding(A, B, value))

    of_ones = lambda n: 0.5 * math.log(n) if n else -math.inf
    return Norm(of_ones, of_matrices, of_products)


def spectral_norm(rtol: float | None, solve=root_of_largest_eigenvalue) -> Norm:
    """By Lanczos' method, each certain to the relative accuracy rtol; see `spectral`."""

    def of_matrices(P):
        # (PᵀP)⁴: its largest eigenvalue is σ⁸, which stands four times as far apart from the next.
        G, exponent = split_exponent(P.mT @ P, (-2, -1))
        for _ in range(2):
            G, e = split_exponent(G @ G, (-2, -1))
            exponent = 2 * exponent + e
        start = start_vector((*P.shape[:-2], P.shape[-1]), P.dtype)
        gram = lambda v: jnp.einsum("...rc,...c->...r", G, v)
        wanted = 4 * (default_tolerance(P.dtype) if rtol is None else rtol)
        value, error = solve(gram, start, rtol=wanted)
        return LogNorm((value + log_power_of_two(exponent, P.dtype) / 2) / 4, error / 4)

    def of_products(A, B):
        (p, _, _), (q, _, C) = A.shape, B.shape
        start = start_vector((q, p, C), A.dtype)
        A_T, B_T = jax.lax.optimization_barrier((A.mT, B.mT))
        # ‖A B start‖ is ‖A B‖ to within a factor of about √C, and A B may be far below A and B.
        Bv, e = split_exponent(start @ B_T, (-1,))
        _, f = split_exponent(Bv.swapaxes(0, 1) @ A_T, (-1,))
        exponent = e.T + f
        scale = jnp.ldexp(jnp.ones((), A.dtype), -exponent)[..., None]

        def gram(v):
            # Laid out so that each of the p + q matrices meets all of its vectors at once.
            u = (scale * (v @ B_T).swapaxes(0, 1)) @ A_T
            return (scale * (u @ A)).swapaxes(0, 1) @ B

        value, error = (part.T for part in solve(gram, start, rtol=rtol))
        value = value + log_power_of_two(exponent, A.dtype)
        return LogNorm(value, error + _rounding(A, B, value))

    return Norm(lambda n: 0.0 if n else -math.inf, of_matrices, of_products)


def _rounding(A: Array, B: Array, log_norms: Array) -> Array:
    """ε ‖A_i‖ ‖B_j‖ / ‖A_i B_j‖, `[p, q]`: what is lost where A_i B_j cancels."""
    sizes = log_norm(A, (-2, -1))[:, None] + log_norm(B, (-2, -1))
    ratio = jnp.where(jnp.isneginf(log_norms), -jnp.inf, sizes - log_norms)
    return jnp.asarray(jnp.finfo(A.dtype).eps, A.dtype) * jnp.exp(ratio)


NORMS: dict[str, Callable[[float | None], Norm]] = {
    "spectral": spectral_norm,
    "frobenius": lambda rtol: frobenius_norm(),
}


Keep = Callable[[LogNorm], Any]
"""What of the norms goes into a table: LogNorm -> any part of it."""


def log_norm_table(
    jacobians: Array,
    norm: Norm,
    rows: np.ndarray,
    columns: np.ndarray,
    keep: Keep,
    axes: tuple[str, ...] = (),
) -> Any:
    """ln ‖P_{t,k}[rows, columns]‖ at [t, k], `[T+1, T+1]`, of `jacobians [T, S, S]`.

    -inf for k > t, with an error of zero. On the diagonal P is the identity. Memory: about
    5 T S², the T rounded up to a power of two, and T² for each part that is kept. Inside a
    `shard_map`, the devices along `axes` share the work, and each has the whole table.
    """
    T = len(jacobians)
    states = np.arange(T + 1)
    zeros = jnp.zeros((T + 1, T + 1), jacobians.dtype)
    after = states[:, None] < states
    table = keep(LogNorm(jnp.where(after, -jnp.inf, zeros), zeros))
    of_identity = jnp.asarray([norm.of_ones(len(np.intersect1d(rows, columns))), 0], zeros.dtype)
    table = _set(table, states, states, keep(LogNorm(*of_identity)))
    J = Scaled(*split_exponent(jacobians, (-2, -1)))
    of_steps = norm.of_matrices(J.m[:, rows][:, :, columns])
    table = _set(table, states[1:], states[:-1], keep(_times_power_of_two(of_steps, J.e)))
    if T == 1:
        return table
    of_pairs = _of_pairs(keep(LogNorm(zeros, zeros)), J, norm, rows, columns, keep, axes)
    return jax.tree.map(jnp.add, table, jax.lax.psum(of_pairs, axes))


def _of_pairs(table, J, norm, rows, columns, keep, axes):
    """All products of two steps or more, this device's of them: `J [T, S, S]`.

    Segments of half = 1, 2, 4, .. steps lie side by side in pairs. Where step t is in the second
    segment of a pair and step k in the first one, s is between them: A_t = J_t ··· from there, and
    B_k = ··· J_k up to there. The steps of all second segments are taken in tiles of `BLOCK`, and
    those of all first segments.
    """
    device, devices = jax.lax.axis_index(axes), jax.lax.axis_size(axes)
    T, S, _ = J.m.shape
    levels = math.ceil(math.log2(T))
    N = 2**levels
    tile_size = min(BLOCK, N // 2)
    identity = jnp.broadcast_to(jnp.eye(S, dtype=J.m.dtype), (N - T, S, S))
    J = Scaled(jnp.concatenate([J.m, identity]), jnp.pad(J.e, (0, N - T)))
    seconds, firsts, ends = _tiles(T, levels, tile_size)

    def level(carry, of_level):
        table, A, B = carry
        half, begin, end = of_level
        first, second, middle = _pairs(N, half)
        of_A = Scaled(A.m[second][:, rows], A.e[second])
        of_B = Scaled(B.m[first][:, :, columns], B.e[first])

        def tile(i, table):
            of_tile = lambda parts, at: jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, tile_size * at, tile_size), parts
            )
            at = begin + device + devices * i
            (A_t, t), (B_k, k) = (
                of_tile((of_A, second), seconds[at]),
                of_tile((of_B, first), firsts[at]),
            )
            found = _times_power_of_two(norm.of_products(A_t.m, B_k.m), A_t.e[:, None] + B_k.e)
            of_a_pair = t[:, None] // (2 * half) == k // (2 * half)
            # A of step t leads to state t + 1, B of step k from state k. There is no state N + 1.
            t = jnp.where(of_a_pair, t[:, None] + 1, N + 1)
            return jax.tree.map(
                lambda whole, x: whole.at[t, k].set(x, mode="drop"), table, keep(found)
            )

        mine = (end - begin - device + devices - 1) // devices
        table = jax.lax.fori_loop(0, mine, tile, table)
        # Two segments in one.
        A = A.put(second, A.take(second) @ A.take(middle))
        B = B.put(first, B.take(middle + 1) @ B.take(first))
        return (table, A, B), None

    halves = 2 ** np.arange(levels)
    begins = np.concatenate([[0], ends[:-1]])
    per_level = tuple(jnp.asarray(x, jnp.int32) for x in (halves, begins, ends))
    return jax.lax.scan(level, (table, J, J), per_level)[0][0]


def _pairs(N: int, half: Array) -> tuple[Array, Array, Array]:
    """Steps of all first segments, of all second ones, and the last of the first one of each."""
    i = jnp.arange(N // 2, dtype=jnp.int32)
    first = i // half * 2 * half + i % half
    return first, first + half, first - i % half + half - 1


def _tiles(T: int, levels: int, tile_size: int) -> tuple[Array, Array, np.ndarray]:
    """Tiles (of second segments, of first ones) that share a pair, level by level; levels' ends."""
    seconds, firsts, counts = [], [], []
    tile = np.arange(2 ** (levels - 1) // tile_size)
    for half in 2 ** np.arange(levels):
        per_segment = max(half // tile_size, 1)
        begins = tile_size * tile // half * 2 * half + tile_size * tile % half + half
        second, first = np.meshgrid(tile, tile, indexing="ij")
        wanted = (second // per_segment == first // per_segment) & (begins[:, None] < T)
        seconds.append(second[wanted])
        firsts.append(first[wanted])
        counts.append(wanted.sum())
    of_A, of_B = (jnp.asarray(np.concatenate(x), jnp.int32) for x in (seconds, firsts))
    return of_A, of_B, np.cumsum(counts)


def _times_power_of_two(norms: LogNorm, e: Array) -> LogNorm:
    return LogNorm(norms.value + log_power_of_two(e, norms.value.dtype), norms.error)


def _set(table, t, k, norms):
    return jax.tree.map(lambda whole, part: whole.at[t, k].set(part), table, norms)


def over_examples(function: Callable, arrays: Array, size: int):
    """`function` of one example over the leading axis, several at once while they are small.

    `size` is the number of entries that one example works on at a time.
    """
    n = len(arrays)
    most = max(1, min(n, 2**16 // size))
    at_once = next(m for m in range(most, 0, -1) if n % m == 0)
    groups = arrays.reshape(n // at_once, at_once, *arrays.shape[1:])
    results = jax.lax.map(jax.vmap(function), groups)
    return jax.tree.map(lambda leaf: leaf.reshape(n, *leaf.shape[2:]), results)


def tables_of_examples(table_of: Callable[[Array], Any], jacobians: Array) -> Any:
    """`table_of` each example of `jacobians [T, *batch, S, S]`: `[T+1, T+1, *batch]`."""
    T, *batch, S, _ = jacobians.shape
    if not batch:
        return table_of(jacobians)
    examples = jnp.moveaxis(jacobians.reshape(T, math.prod(batch), S, S), 1, 0)
    tables = over_examples(table_of, examples, BLOCK**2 * S)
    return jax.tree.map(lambda t: jnp.moveaxis(t, 0, -1).reshape(T + 1, T + 1, *batch), tables)
