r"""Norms of all products of consecutive matrices, from pairs of factors.

P_{t,k} = J_t ··· J_{k+1} is A_t B_k with A_t = J_t ··· J_{s+1} and B_k = J_s ··· J_{k+1} for any s
in between. Halve the sequence at s, the halves again, and so on: T log T matrix products are behind
all T²/2 pairs, and a norm of A_t B_k asks for A_t B_k only as it acts on a few vectors. That goes
on down to blocks of `BLOCK` steps, whose products are formed one by one.

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
    jacobians: Array, norm: Norm, rows: np.ndarray, columns: np.ndarray, keep: Keep
) -> Any:
    """ln ‖P_{t,k}[rows, columns]‖ at [t, k], `[T+1, T+1]`, of `jacobians [T, S, S]`.

    -inf for k > t, with an error of zero. On the diagonal P is the identity. Memory: 3 T S², and
    T² for each part that is kept.
    """
    T, S, _ = jacobians.shape
    n, L = -(-T // BLOCK), min(T, BLOCK)
    identity = jnp.eye(S, dtype=jacobians.dtype)
    J = jnp.concatenate([jacobians, jnp.broadcast_to(identity, (n * L - T, S, S))])
    states = np.arange(n * L + 1)
    minus_inf, zero = (jnp.full((len(states),) * 2, x, J.dtype) for x in (-jnp.inf, 0))
    table = keep(LogNorm(minus_inf, zero))
    of_identity = norm.of_ones(len(np.intersect1d(rows, columns)))
    table = _set(table, states, states, keep(LogNorm(*jnp.asarray([of_identity, 0], J.dtype))))
    table = _within_blocks(table, J.reshape(n, L, S, S), norm, rows, columns, keep)
    if n > 1:
        table = _across_blocks(table, J, norm, rows, columns, keep)
    return jax.tree.map(lambda part: part[: T + 1, : T + 1], table)


def _within_blocks(table, J, norm, rows, columns, keep):
    """The pairs of states of one block, its products one after the other: `J [n, L, S, S]`."""
    n, L, S, _ = J.shape
    t, k, restarts = _folded_triangle(L)

    def multiply(carry, indices):
        t, restart = indices
        before, exponent = carry
        J_t = J[:, t - 1].swapaxes(0, 1)
        restart = restart[:, None]
        product = jnp.where(restart[..., None, None], J_t, J_t @ before)
        product, e = split_exponent(product, (-2, -1))
        exponent = jnp.where(restart, 0, exponent) + e
        found = norm.of_matrices(product[..., rows, :][..., columns])
        return (product, exponent), keep(_times_power_of_two(found, exponent))

    slots = t.shape[1]
    first = (jnp.zeros((slots, n, S, S), J.dtype), jnp.zeros((slots, n), jnp.int32))
    _, norms = jax.lax.scan(multiply, first, (t, restarts))
    offset = L * jnp.arange(n, dtype=jnp.int32)
    return _set(table, t[..., None] + offset, k[..., None] + offset, norms)


def _across_blocks(table, J, norm, rows, columns, keep):
    """The pairs of states of different blocks: `J [n BLOCK, S, S]`."""
    t_blocks, k_blocks, ends = _tiles(len(J) // BLOCK)
    step = jnp.arange(len(J), dtype=jnp.int32)

    def level(table, of_level):
        half, first, end = of_level
        within = step % (2 * half)
        A = running_products(J, within == half)
        B = running_products(J, within == half - 1, reverse=True)
        A, B = Scaled(A.m[:, rows], A.e), Scaled(B.m[:, :, columns], B.e)

        def tile(i, table):
            # A of step j leads to state j + 1, B of step j from state j.
            t, k = BLOCK * t_blocks[i], BLOCK * k_blocks[i]
            A_t, B_k = (
                Scaled(*(jax.lax.dynamic_slice_in_dim(part, at, BLOCK) for part in X))
                for X, at in ((A, t), (B, k))
            )
            found = norm.of_products(A_t.m, B_k.m)
            found = keep(_times_power_of_two(found, A_t.e[:, None] + B_k.e))
            put = lambda whole, part: jax.lax.dynamic_update_slice(whole, part, (t + 1, k))
            return jax.tree.map(put, table, found)

        return jax.lax.fori_loop(first, end, tile, table), None

    halves = BLOCK * 2 ** np.arange(len(ends))
    firsts = np.concatenate([[0], ends[:-1]])
    levels = tuple(jnp.asarray(x, jnp.int32) for x in (halves, firsts, ends))
    return jax.lax.scan(level, table, levels)[0]


def _times_power_of_two(norms: LogNorm, e: Array) -> LogNorm:
    return LogNorm(norms.value + log_power_of_two(e, norms.value.dtype), norms.error)


def _tiles(n: int) -> tuple[Array, Array, np.ndarray]:
    """All pairs of blocks (of t, of k), level by level, and where each level's pairs end.

    A pair belongs to the level of the highest bit in which its numbers differ: there, and only
    there, the one is in a second half and the other in the first half before it.
    """
    t, k = np.tril_indices(n, -1)
    level = np.log2(t ^ k).astype(int)
    order = np.argsort(level, kind="stable")
    t, k = t[order].astype(np.int32), k[order].astype(np.int32)
    return jnp.asarray(t), jnp.asarray(k), np.cumsum(np.bincount(level))


def running_products(J: Array, restart: Array, *, reverse: bool = False) -> Scaled:
    """J_i ··· J_r, r the last restart up to i; reverse: J_r ··· J_i, r the first one from i on.

    `J [n, S, S]`, `restart [n]`. Before any restart, the first J counts as one.
    """

    def multiply(carry, at_i):
        before, exponent = carry
        J, restart = at_i
        product = before @ J if reverse else J @ before
        product, e = split_exponent(jnp.where(restart, J, product), (-2, -1))
        exponent = jnp.where(restart, 0, exponent) + e
        return (product, exponent), Scaled(product, exponent)

    first = (jnp.eye(J.shape[-1], dtype=J.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.scan(multiply, first, (J, restart), reverse=reverse)[1]


def _folded_triangle(T: int) -> tuple[Array, Array, Array]:
    """Which (t, k) each slot works on at each of T rounds: t, k, restart `[T, T//2 + 1]`.

    The products from source k need T − k rounds. Slot j serves source j for T − j rounds and then
    source T − j for the remaining j, so that the triangle of all (t, k) fills a rectangle.
    """
    rounds = jnp.arange(1, T + 1, dtype=jnp.int32)[:, None]
    j = jnp.arange(T // 2 + 1, dtype=jnp.int32)[None, :]
    first = rounds <= T - j
    t = jnp.where(first, j + rounds, rounds)
    k = jnp.where(first, j, T - j)
    return t, k, t == k + 1


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


def log_norm_tables(
    jacobians: Array, norm: Norm, rows: np.ndarray, columns: np.ndarray, keep: Keep
) -> Any:
    """`log_norm_table` of each example of `jacobians [T, *batch, S, S]`: `[T+1, T+1, *batch]`."""
    T, *batch, S, _ = jacobians.shape
    if not batch:
        return log_norm_table(jacobians, norm, rows, columns, keep)
    examples = jnp.moveaxis(jacobians.reshape(T, math.prod(batch), S, S), 1, 0)
    one = lambda jacobians: log_norm_table(jacobians, norm, rows, columns, keep)
    tables = over_examples(one, examples, BLOCK**2 * S)
    return jax.tree.map(lambda t: jnp.moveaxis(t, 0, -1).reshape(T + 1, T + 1, *batch), tables)
