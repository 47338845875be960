r"""Matrices with an exponent for each row and each column, so that nothing is flushed to zero.

A product of many step Jacobians leaves the range of any float, and not all of it in the same
direction: of two units that are not connected, one may vanish and the other explode. One exponent
for the whole matrix keeps the leading one and flushes the other, which is then missing when the
leading one dies in a later step. So

.. math:: P_{ij} = 2^{r_i} m_{ij} 2^{c_j}

with the largest \|m\| of every row, and then of every column, of the order of 1. What is flushed is
2^126 (in float64 2^1022) below both, columns being compared once the rows are scaled; all else is,
bit for bit, what it would be in a float of unlimited range, since scaling by a power of two is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.linalg.exponents import (
    ZERO,
    exponents,
    invertible_exponents,
    log_power_of_two,
    power_of_two,
)
from rnn_jax.linalg.norms import log_norm
from rnn_jax.types import Array

NARROW, FITS = 32, 24
"""Ranges of exponents, of a vector and of the sums taken at one scale, in which nothing is lost."""

MAX_BANDS = 4
"""The most bands of exponents that `Entries.mapped` takes one after the other, by default."""


class Scaled(NamedTuple):
    """A matrix 2^r m 2^c: finite `m [..., R, C]`, int32 `r [..., R]`, `c [..., C]`, or ZERO."""

    m: Array
    r: Array
    c: Array

    @staticmethod
    def of(P: Array) -> Scaled:
        """Return a finite matrix, `P [..., R, C]`, as a `Scaled` one."""
        none = jnp.zeros((), jnp.int32)
        return _balanced(P, none, none)

    @property
    def mT(self) -> Scaled:
        """Return the transpose."""
        return Scaled(self.m.mT, self.c, self.r)

    def __matmul__(self, other: Scaled) -> Scaled:
        """Return the product."""
        # The exponents between the factors, c + r, differ from term to term of a sum. Taken at one
        # scale, that of the largest, the product is one matmul. Terms down to 2^-NARROW of the
        # scale and sums down to 2^-FITS of it leave 70 of float32's 126 powers of two to entries
        # below the largest of their row. Where more is missing, the exact product is taken.
        between = self.c + other.r
        top, narrow = exponent_range(between)
        at_one_scale = _times(self.m, between - top) @ other.m
        P = _balanced(at_one_scale, self.r + top, other.c)
        # A row or column of sums that are all small at that scale may consist of flushed terms:
        # what leads at that scale has met zeros.
        whole_rows = (P.r > self.r + top - FITS) | (self.r == ZERO)
        whole_columns = (P.c > other.c - FITS) | (other.c == ZERO)

        def exact(self: Scaled, other: Scaled) -> Scaled:
            # Half of the scale to the left, by rows, and half to the right, by columns.
            between = self.c + other.r
            half = between // 2
            left, r = _by_rows(self.m, half)
            right, c = _by_rows(other.m.mT, between - half)
            return _balanced(left @ right.mT, self.r + r, other.c + c)

        fits = narrow & whole_rows.all() & whole_columns.all()
        return exact_unless(fits, P, exact, self, other)

    def by_rows(self) -> tuple[Array, Array]:
        """Return m' `[..., R, C]` and r' `[..., R]` of 2^r' m'."""
        top, narrow = exponent_range(self.c)
        quick = _times(self.m, self.c - top), jnp.broadcast_to(top, self.r.shape)
        m, r = exact_unless(narrow, quick, _by_rows, self.m, self.c)
        return m, jnp.maximum(self.r + r, ZERO)

    def at_one_scale(self) -> tuple[Array, Array]:
        """Return m' `[..., R, C]` and e `[...]` of m' 2^e, enough for a norm."""
        m, r = self.by_rows()
        e = jnp.max(r, -1, initial=ZERO)
        m = m * power_of_two(r - e[..., None], m.dtype)[..., None]
        return m, jnp.where(e == ZERO, 0, e)

    def log2_size(self) -> Array:
        """Return an upper bound on the exponents of all entries, `[...]`; ZERO for zeros."""
        return jnp.maximum(self.r.max(-1) + self.c.max(-1), ZERO)

    def rows(self, i: Any) -> Scaled:
        """Return some rows."""
        part = Scaled(_some(self.m, i, -2), _some(self.r, i, -1), self.c)
        return part if _is_all(i, self.m.shape[-2]) else _balanced(*part)

    def columns(self, i: Any) -> Scaled:
        """Return some columns."""
        part = Scaled(_some(self.m, i, -1), self.r, _some(self.c, i, -1))
        return part if _is_all(i, self.m.shape[-1]) else _balanced(*part)

    def take(self, i: Any) -> Scaled:
        """Return the i-th matrices along a leading axis."""
        # XLA on the CPU does not compile a product of which both factors are gathered.
        return jax.lax.optimization_barrier(jax.tree.map(lambda part: part[i], self))

    def put(self, i: Any, others: Scaled) -> Scaled:
        """Return this with `others` in the place of the i-th matrices."""
        return jax.tree.map(lambda part, new: part.at[i].set(new), self, others)


class Entries(NamedTuple):
    """A vector m 2^e, elementwise: `m [..., n]`, |m| in [½, 1) or zero, int32 `e [..., n]`.

    Or m 2^e with one exponent for each row, `e [..., 1]`, the largest |m| of it of the order of 1.
    """

    m: Array
    e: Array

    @staticmethod
    def of(x: Array, e: Array | int = 0) -> Entries:
        """Return x 2^e."""
        own = invertible_exponents(x)
        zero = own == ZERO
        m = x * power_of_two(jnp.where(zero, 0, -own), x.dtype)
        return Entries(m, jnp.where(zero, ZERO, own + e))

    def plus(self, other: Entries) -> Entries:
        """Return the sum, elementwise."""
        e = jnp.maximum(self.e, other.e)
        m = self.m * power_of_two(self.e - e, self.m.dtype)
        return Entries.of(m + other.m * power_of_two(other.e - e, self.m.dtype), e)

    def at(self, e: Array) -> Array:
        """Return this over 2^e `[...]`, 0 where that is too small for the dtype."""
        return self.m * power_of_two(self.e - e[..., None], self.m.dtype)

    def by_row(self) -> Entries:
        """Return this with one exponent for each index of the first axis, 0 for a row of zeros."""
        e = jnp.max(self.e, tuple(range(1, self.e.ndim)), initial=ZERO, keepdims=True)
        m = self.m * power_of_two(self.e - e, self.m.dtype)
        return Entries(m, jnp.where(e == ZERO, 0, e))

    def largest(self) -> Array:
        """Return the largest exponent over the last axis, 0 for a vector of zeros: `[...]`."""
        e = self.e.max(-1)
        return jnp.where(e == ZERO, 0, e)

    def log_norm(self) -> Array:
        """Return ln ‖.‖₂ over the last axis."""
        e = self.largest()
        return log_norm(self.at(e), (-1,)) + log_power_of_two(e, self.m.dtype)

    def mapped(
        self,
        linear: Callable[[Array], Any],
        *,
        dtype: Any = None,
        max_bands: int | None = MAX_BANDS,
    ) -> Any:
        """Return `linear(self)` of a linear map of the last axis, no entry of which is flushed.

        `linear` returns an array, or a pytree of arrays, with the leading axes of what it is given;
        for each there are Entries. Entries within half of the dtype's range go through the map
        together, then those below them, `max_bands` times at most: with 4, entries 2^256 (in
        float64 2^2048) below the largest count as zero. `dtype` is that of the map's own
        arithmetic, where it has less range than this.
        """
        # A band is put in the middle of the range, 2^-32 to 2^32 in float32: the map may then grow
        # or shrink an entry by 2^90 before it overflows or is flushed.
        range_ = jnp.finfo(self.m.dtype if dtype is None else dtype).maxexp
        width, high = range_ // 2, range_ // 4
        zeros = lambda like: Entries(
            jnp.zeros(like.shape, like.dtype), jnp.full(like.shape, ZERO, jnp.int32)
        )

        def band(carry: Any):
            e, totals, bands = carry
            top = e.max(-1) - high
            within = (e > top[..., None] + high - width) & (e > ZERO)
            shift = jnp.where(within, e - top[..., None], ZERO)
            images = linear(self.m * power_of_two(shift, self.m.dtype))
            along = lambda image: top.reshape(*top.shape, *[1] * (image.ndim - top.ndim))
            add = lambda image, total: total.plus(Entries.of(image, along(image)))
            return jnp.where(within, ZERO, e), jax.tree.map(add, images, totals), bands + 1

        def unfinished(carry: Any):
            left = (carry[0] > ZERO).any()
            return left if max_bands is None else left & (carry[2] < max_bands)

        totals = jax.tree.map(zeros, jax.eval_shape(linear, self.m))
        return jax.lax.while_loop(unfinished, band, (self.e, totals, 0))[1]


def _some(x: Array, i: Any, axis: int) -> Array:
    if isinstance(i, np.ndarray) and i.size and (np.diff(i) == 1).all():
        # A slice, five times as fast as a gather.
        return jax.lax.slice_in_dim(x, int(i[0]), int(i[-1]) + 1, axis=axis)
    return jnp.take(x, i, axis)


def _is_all(i: Any, size: int) -> bool:
    return isinstance(i, np.ndarray) and np.array_equal(i, np.arange(size))


def _balanced(m: Array, r: Array, c: Array) -> Scaled:
    """Return 2^r m 2^c with the largest |m| of rows, and then of columns, in [½, 1).

    An exponent that nothing but the rows and columns left out has asked for is gone by this.
    """
    # Scaling the columns does not undo the rows: all entries are below 1 by then, so that columns
    # only grow, and the column of a row's largest entry, at least ½, stays as it is. Both at once,
    # since an entry may be out of range by its row alone, and in range by its column.
    own = invertible_exponents(m)
    more_r = jnp.max(own, -1, initial=ZERO)
    more_c = jnp.max(jnp.where(own == ZERO, ZERO, own - more_r[..., None]), -2, initial=ZERO)
    m = m * power_of_two(-more_r[..., None] - more_c[..., None, :], m.dtype)
    total = lambda e, more: jnp.where(more == ZERO, ZERO, e + more)
    return Scaled(m, total(r, more_r), total(c, more_c))


def _by_rows(m: Array, e: Array) -> tuple[Array, Array]:
    """Return m' and r with `m [..., R, C]` 2^e = 2^r m', the largest |m'| of a row in [½, 1)."""
    e = e[..., None, :]
    r = jnp.max(exponents(m) + e, -1, initial=2 * ZERO)
    return m * power_of_two(e - r[..., None], m.dtype), r


def _times(m: Array, e: Array) -> Array:
    """Return `m [..., R, C]` 2^e."""
    return m * power_of_two(e, m.dtype)[..., None, :]


def exponent_range(e: Array) -> tuple[Array, Array]:
    """Return the largest of `e [..., n]`, `[..., 1]`, and whether all but zeros are near it."""
    top = jnp.max(e, -1, keepdims=True, initial=2 * ZERO)
    least = jnp.min(jnp.where(e > ZERO // 2, e, top), -1, keepdims=True, initial=2**30)
    return top, (top - least <= NARROW).all()


def exact_unless(fits: Array, result: Any, exact: Callable[..., Any], *operands: Any) -> Any:
    """Return `result` if `fits`, else `exact(*operands)`."""

    # A loop of at most one turn rather than a cond: `vmap` turns a cond into a select and runs both
    # sides for all examples, while a loop ends where no example asks for another turn. The barrier
    # keeps XLA from moving `exact`, which does not depend on the carry, out of the loop, where it
    # would run always.
    def turn(carry: Any):
        at, _ = jax.lax.optimization_barrier((operands, carry[1]))
        return exact(*at), jnp.ones((), bool)

    return jax.lax.while_loop(lambda carry: ~carry[1], turn, (result, fits))[0]
