r"""Norms of all products of consecutive matrices, from pairs of factors.

P_{t,k} = J_t ··· J_{k+1} is A_t B_k with A_t = J_t ··· J_{s+1} and B_k = J_s ··· J_{k+1} for any s
in between. The sequence is halved at s, the halves again, and so on: T log T matrix products give
the factors of all T²/2 pairs, and for its norm A_t B_k is only applied to a few vectors.

Matrices are carried with exponents (`scaled`), so that nothing under- or overflows. Rounding
changes P_{t,k} by about ε max_s ‖P_{t,s}‖ ‖P_{s,k}‖, as in a product taken step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.linalg import log_norm, log_power_of_two, split_exponent
from rnn_jax.linalg.exponents import ZERO, power_of_two
from rnn_jax.linalg.lanczos import default_tolerance, root_of_largest_eigenvalue, start_vector
from rnn_jax.linalg.norms import LogNorm
from rnn_jax.linalg.scaled import Scaled, exact_unless, exponent_range
from rnn_jax.transforms.batch_axes import vmap_in_groups
from rnn_jax.types import Array

ROUNDING = 64
"""C of `with_rounding`."""

TILE = 16
"""Steps of a tile. The norms of all TILE² products A_t B_k of two tiles are found together."""


class Norm(NamedTuple):
    """A norm, as functions of many matrices at once.

    Attributes:
      of_ones: ln of the norm of a matrix with n ones, at most one in a row or column.
      of_matrices: norms of matrices, `[..., R, C] -> LogNorm`, each part `[...]`.
      of_products: norms of all A_i B_j, `A, B -> LogNorm`, each part `[p, q]`, of p and q Factors.
    """

    of_ones: Callable[[int], float]
    of_matrices: Callable[[Array], LogNorm]
    of_products: Callable[[Factors, Factors], LogNorm]


class Factors(NamedTuple):
    """n factors of products, the S states between them first: `m [n, S, R]`, int32 `e [n, S]`.

    A left factor is A = (2^e m)ᵀ, a right one B = 2^e m. The exponents of A_i B_j, a sum of two e
    for each state in between, are so known before the product is taken, and a state that is large
    in A and dead in B does not flush the others.
    """

    m: Array
    e: Array

    def at_one_scale(self) -> tuple[Array, Array, Array]:
        """Return m' `[n, S, R]`, e' `[n]` of 2^e' m', and whether nothing is lost by it."""
        top, narrow = exponent_range(self.e)
        m = self.m * power_of_two(self.e - top, self.m.dtype)[..., None]
        return m, top[:, 0], narrow

    def between(self, right: Factors) -> tuple[Array, Array]:
        """Return d `[p, q, S]`, at most 1, and the exponents `[p, q]` of A d B 2^e."""
        e = self.e[:, None] + right.e
        top = e.max(-1)
        return power_of_two(e - top[..., None], self.m.dtype), jnp.where(top < ZERO // 2, 0, top)


def frobenius_norm() -> Norm:
    """Return the Frobenius norm, of products that are formed: exact but for rounding."""

    def of_matrices(P: Array):
        value = log_norm(P, (-2, -1))
        return LogNorm(value, jnp.where(jnp.isnan(value), jnp.nan, jnp.zeros_like(value)))

    def of_products(A: Factors, B: Factors):
        (left, e, narrow_A), (right, f, narrow_B) = A.at_one_scale(), B.at_one_scale()
        (p, S, R), (q, _, C) = left.shape, right.shape
        P = left.swapaxes(1, 2).reshape(p * R, S) @ right.swapaxes(0, 1).reshape(S, q * C)
        value, error = of_matrices(P.reshape(p, R, q, C).swapaxes(1, 2))
        quick = LogNorm(value + log_power_of_two(e[:, None] + f, value.dtype), error)

        def exact(A: Factors, B: Factors) -> LogNorm:
            d, e = A.between(B)
            of_left = lambda at: of_matrices(at[0].T @ (at[1][..., None] * B.m))
            value, error = jax.lax.map(of_left, (A.m, d))
            return LogNorm(value + log_power_of_two(e, value.dtype), error)

        return exact_unless(narrow_A & narrow_B, quick, exact, A, B)

    of_ones = lambda n: 0.5 * math.log(n) if n else -math.inf
    return Norm(of_ones, of_matrices, of_products)


def lanczos_norm(rtol: float | None, solve: Any = root_of_largest_eigenvalue) -> Norm:
    """Return the spectral norm by Lanczos' method, certain to the relative accuracy rtol."""

    def of_matrices(P: Array):
        # (PᵀP)⁴ has the largest eigenvalue σ⁸, four times as far apart from the next in logarithms:
        # fewer Lanczos steps for two matrix products. ln σ is then a quarter of the result, and its
        # error too, so that four times the tolerance does.
        G, exponent = split_exponent(P.mT @ P, (-2, -1))
        for _ in range(2):
            G, e = split_exponent(G @ G, (-2, -1))
            exponent = 2 * exponent + e
        start = start_vector((*P.shape[:-2], P.shape[-1]), P.dtype)
        gram = lambda v: jnp.einsum("...rc,...c->...r", G, v)
        wanted = 4 * (default_tolerance(P.dtype) if rtol is None else rtol)
        value, error = solve(gram, start, rtol=wanted)
        return LogNorm((value + log_power_of_two(exponent, P.dtype) / 2) / 4, error / 4)

    def of_products(A: Factors, B: Factors):
        (p, *_), (q, _, C) = A.m.shape, B.m.shape
        d, top = A.between(B)
        start = start_vector((q, p, C), A.m.dtype)
        # The barrier has both transposes stored, once, rather than read the other way round in
        # every step of Lanczos' loop.
        L_T, R = A.m, B.m
        L, R_T = jax.lax.optimization_barrier((L_T.mT, R.mT))
        # Lanczos wants PᵀP of about 1, and A B may be far below A and B. ‖A B start‖ is ‖A B‖ to
        # within a factor of about √C, for a random start, and so gives the exponent to take out.
        Bv, e = split_exponent((start @ R_T).swapaxes(0, 1) * d, (-1,))
        _, f = split_exponent(Bv @ L_T, (-1,))
        exponent = e + f
        d = d * power_of_two(-exponent, d.dtype)[..., None]

        def gram(v: Array):
            # In this layout each of the p + q matrices multiplies its vectors in one product.
            u = (d * (v @ R_T).swapaxes(0, 1)) @ L_T
            return (d * (u @ L)).swapaxes(0, 1) @ R

        value, error = (part.T for part in solve(gram, start, rtol=rtol))
        return LogNorm(value + log_power_of_two(exponent + top, value.dtype), error)

    return Norm(lambda n: 0.0 if n else -math.inf, of_matrices, of_products)


NORMS: dict[str, Callable[[float | None], Norm]] = {
    "spectral": lanczos_norm,
    "frobenius": lambda rtol: frobenius_norm(),
}


Keep = Callable[[LogNorm], Any]
"""The parts of a LogNorm that go into a table."""


def log_norm_table(
    jacobians: Array,
    norm: Norm,
    rows: np.ndarray,
    columns: np.ndarray,
    keep: Keep,
    axes: tuple[str, ...] = (),
) -> Any:
    """Return ln ‖P_{t,k}[rows, columns]‖ at [t, k], `[T+1, T+1]`, of `jacobians [T, S, S]`.

    -inf for k > t, with an error of zero. On the diagonal P is the identity. NaN where a J in
    between is not finite. Memory: about 5 T S², the T rounded up to a power of two, and T² for each
    part that is kept. In a `shard_map` the devices along `axes` share the work, and each has the
    whole table.
    """
    T = len(jacobians)
    states = np.arange(T + 1)
    zeros = jnp.zeros((T + 1, T + 1), jacobians.dtype)
    after = states[:, None] < states
    table = keep(LogNorm(jnp.where(after, -jnp.inf, zeros), zeros))
    of_identity = jnp.asarray([norm.of_ones(len(np.intersect1d(rows, columns))), 0], zeros.dtype)
    table = _set(table, states, states, keep(LogNorm(*of_identity)))
    # `Scaled` matrices are finite: one that is not is taken as zero, and counts of these up to each
    # state tell, at the end, which products contain one.
    finite = jnp.isfinite(jacobians).all((1, 2))
    J = Scaled.of(jnp.where(finite[:, None, None], jacobians, 0))
    of_steps = log_norms(J.rows(rows).columns(columns), norm)
    table = _set(table, states[1:], states[:-1], keep(of_steps))
    if T > 1:
        of_pairs = _of_pairs(keep(LogNorm(zeros, zeros)), J, norm, rows, columns, keep, axes)
        table = jax.tree.map(jnp.add, table, jax.lax.psum(of_pairs, axes))
    broken = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(~finite, dtype=jnp.int32)])
    unknown = broken[:, None] > broken
    return jax.tree.map(lambda part: jnp.where(unknown, jnp.nan, part), table)


def log_norms(P: Scaled, norm: Norm) -> LogNorm:
    """Return ln ‖P‖ for each matrix of `P [n, R, C]`."""
    m, e = P.at_one_scale()
    value, error = norm.of_matrices(m)
    return LogNorm(value + log_power_of_two(e, value.dtype), error)


def _of_pairs(table: Any, J: Scaled, norm: Norm, rows: Any, columns: Any, keep: Keep, axes: Any):
    """Return the table of this device's share of all products of two steps or more.

    From `J [T, S, S]`. Segments of half = 1, 2, 4, .. steps lie side by side in pairs. Where step t
    is in the second segment of a pair and step k in the first, s lies between the segments: A_t is
    J_t ··· from there, and B_k is ··· J_k up to there. Both are taken in tiles of `TILE` steps.
    """
    # A pair (t, k) belongs to the level at which the bits of t − 1 and k first differ, from above:
    # there t is in the second segment of a pair and k in the first. So each pair is found once, and
    # segments grow by one product a step and level: T log T products rather than T².
    device, devices = jax.lax.axis_index(axes), jax.lax.axis_size(axes)
    T, S, _ = J.m.shape
    levels = math.ceil(math.log2(T))
    N = 2**levels
    tile_size = min(TILE, N // 2)
    identity = Scaled.of(jnp.broadcast_to(jnp.eye(S, dtype=J.m.dtype), (N - T, S, S)))
    J = jax.tree.map(lambda *parts: jnp.concatenate(parts), J, identity)
    seconds, firsts, ends = _tiles(T, levels, tile_size)

    def level(carry: Any, of_level: Any):
        table, A, B = carry
        half, begin, end = of_level
        first, second, middle = _pairs(N, half)
        of_A = Factors(*A.take(second).rows(rows).mT.by_rows())
        of_B = Factors(*B.take(first).columns(columns).by_rows())

        def tile(i: Any, table: Any):
            of_tile = lambda parts, at: jax.tree.map(
                lambda x: jax.lax.dynamic_slice_in_dim(x, tile_size * at, tile_size), parts
            )
            at = begin + device + devices * i
            A_t, t = of_tile((of_A, second), seconds[at])
            B_k, k = of_tile((of_B, first), firsts[at])
            of_a_pair = t[:, None] // (2 * half) == k // (2 * half)
            # A of step t leads to state t + 1, B of step k from state k. There is no state N + 1.
            t = jnp.where(of_a_pair, t[:, None] + 1, N + 1)
            return _set(table, t, k, keep(norm.of_products(A_t, B_k)))

        mine = (end - begin - device + devices - 1) // devices
        table = jax.lax.fori_loop(0, mine, tile, table)
        # Pairs become segments: the second one's A go on through all of the first, and the first
        # one's B through all of the second.
        A = A.put(second, A.take(second) @ A.take(middle))
        B = B.put(first, B.take(middle + 1) @ B.take(first))
        return (table, A, B), None

    halves = 2 ** np.arange(levels)
    begins = np.concatenate([[0], ends[:-1]])
    per_level = tuple(jnp.asarray(x, jnp.int32) for x in (halves, begins, ends))
    return jax.lax.scan(level, (table, J, J), per_level)[0][0]


def with_rounding(found: LogNorm) -> LogNorm:
    r"""Return a table of `log_norm_table` with rounding included in its errors.

    P_{t,k} is made of products P_{a,b} = P_{a,m} P_{m,b}, m = m(a, b). Each is rounded by about
    ε ‖P_{a,m}‖ ‖P_{m,b}‖, on which P_{t,a} and P_{b,k} act. Relative to ‖P_{t,k}‖ that is

    .. math:: \delta_{t,k} = C \varepsilon \max_{t \ge a > b \ge k}
        \frac{\|P_{t,a}\| \|P_{a,m}\| \|P_{m,b}\| \|P_{b,k}\|}{\|P_{t,k}\|},

    large where products cancel. ln ‖P_{t,k}‖ is then uncertain by −ln(1 − δ), without limit from
    δ = 1 on. C is not derived but measured (BENCHMARKS.md), with a margin.
    """
    L, dtype = found.value, found.value.dtype
    states = np.arange(len(L), dtype=np.int32)
    lag = states[:, None] - states
    middle = _middles(len(L))
    known = jnp.where(jnp.isnan(L), -jnp.inf, L)  # a NaN stays where it is
    made = known[states[:, None], middle] + known[middle, states]
    made = jnp.where(lag > 1, made, -jnp.inf)

    def largest_paths(first: Array, second: Array) -> Array:
        """Return max over m of first[t, m] + second[m, k]."""
        return jax.lax.map(lambda row: (row[:, None] + second).max(0), first)

    # Two products of matrices in the algebra of (max, +), for the maximum over a and b. A detour of
    # −∞ is zero rounding, also where ‖P_{t,k}‖ is zero itself: −∞ less −∞ would be NaN.
    detour = largest_paths(largest_paths(known, made), known)
    eps = jnp.asarray(jnp.finfo(dtype).eps, dtype)
    delta = ROUNDING * eps * jnp.exp(jnp.where(detour == -jnp.inf, -jnp.inf, detour - L))
    return LogNorm(L, jnp.where(lag > 0, found.error + rounding_in_nats(delta, L), 0))


def _middles(states: int) -> np.ndarray:
    """Return m(t, k), at which P_{t,k} is split in two, `[states, states]`, for t > k + 1."""
    # Steps t − 1 and k are in the two segments of a pair at the highest bit in which they differ;
    # the second segment begins at t − 1 with the bits below that one cleared.
    t, k = np.indices((states, states), dtype=np.int32)
    differ = np.maximum((t - 1) ^ k, 1)
    bit = np.frexp(differ)[1] - 1
    return np.clip((t - 1) >> bit << bit, 0, states - 1)


def in_dtype(found: LogNorm, dtype: Any) -> LogNorm:
    """Return values and errors in `dtype`, with the rounding of both added to the errors."""
    if found.error is None or jnp.finfo(dtype).bits >= jnp.finfo(found.value.dtype).bits:
        return jax.tree.map(lambda part: part.astype(dtype), found)
    eps = jnp.asarray(jnp.finfo(dtype).eps, found.value.dtype)
    moved = jnp.where(jnp.isfinite(found.value), eps * jnp.abs(found.value), 0)
    tiny = jnp.asarray(jnp.finfo(dtype).smallest_subnormal, found.value.dtype)
    error = (found.error + moved) * (1 + eps) + tiny
    return LogNorm(found.value.astype(dtype), error.astype(dtype))


def rounding_in_nats(delta: Array, log_norms: Array) -> Array:
    """Return the error of `log_norms` of norms off by a relative `delta`; +inf from δ = 1 on."""
    eps = jnp.asarray(jnp.finfo(log_norms.dtype).eps, log_norms.dtype)
    # The logarithm's own rounding.
    own = eps * (4 + jnp.where(jnp.isneginf(log_norms), 0, jnp.abs(log_norms)))
    return own - jnp.log1p(-jnp.minimum(delta, 1))


def _pairs(N: int, half: Array) -> tuple[Array, Array, Array]:
    """Return the steps of all first and second segments, and the last step of each first one."""
    i = jnp.arange(N // 2, dtype=jnp.int32)
    first = i // half * 2 * half + i % half
    return first, first + half, first - i % half + half - 1


def _tiles(T: int, levels: int, tile_size: int) -> tuple[Array, Array, np.ndarray]:
    """Return the pairs of tiles, of second and of first segments, by level; each level's end."""
    # Where segments are shorter than a tile, a tile holds several, and only the pairs (t, k) of one
    # pair of segments count (`of_a_pair` above). Tiles that begin at T or later are padding.
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


def _set(table: Any, t: Any, k: Any, norms: Any):
    return jax.tree.map(lambda whole, x: whole.at[t, k].set(x, mode="drop"), table, norms)


def tables_of_examples(table_of: Callable[[Array], Any], jacobians: Array) -> Any:
    """Return the table of each example of `jacobians [T, *batch, S, S]`: `[T+1, T+1, *batch]`."""
    T, *batch, S, _ = jacobians.shape
    if not batch:
        return table_of(jacobians)
    examples = jnp.moveaxis(jacobians.reshape(T, math.prod(batch), S, S), 1, 0)
    tables = vmap_in_groups(table_of, examples, TILE**2 * S)
    return jax.tree.map(lambda t: jnp.moveaxis(t, 0, -1).reshape(T + 1, T + 1, *batch), tables)
