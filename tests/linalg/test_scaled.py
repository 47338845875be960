"""Arithmetic with exponents apart, against sums in float64 at the scale of their largest term."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.linalg.exponents import ZERO, exponents, power_of_two
from rnn_jax.linalg.scaled import Entries, Scaled

DTYPES = [jnp.float32, jnp.float64]


def wide(P):
    """A Scaled as (float64 mantissas, exponents `[.., R, C]`), exactly."""
    e = np.asarray(P.r)[..., :, None].astype(np.int64) + np.asarray(P.c)[..., None, :]
    return np.asarray(P.m, np.float64), e


def log2(m, e):
    with np.errstate(divide="ignore"):
        return np.where(m == 0, -np.inf, np.log2(np.abs(m)) + e)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, *DTYPES])
def test_exponents_and_powers_are_those_of_the_format(dtype):
    info = jnp.finfo(dtype)
    x = jnp.asarray([0.0, 1.0, -0.75, 0.5, float(info.tiny), -float(info.max)], dtype)
    expected = [ZERO, 1, 0, 0, info.minexp + 1, info.maxexp]
    np.testing.assert_array_equal(exponents(x), expected)
    e = jnp.arange(info.minexp, info.maxexp, dtype=jnp.int32)
    exact = np.ldexp(1.0, np.asarray(e))
    np.testing.assert_array_equal(np.asarray(power_of_two(e, dtype), np.float64), exact)
    beyond = power_of_two(jnp.asarray([info.minexp - 1, -(2**30), 2**30], jnp.int32), dtype)
    np.testing.assert_array_equal(beyond[:2], 0)
    assert jnp.isfinite(beyond[2])


def graded(rng, shape, spread, zeros, dtype):
    """A Scaled of entries about 2^±spread by row and by column, some rows and columns zero."""
    m = rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)
    m[rng.random(shape[0]) < zeros] = 0
    m[:, rng.random(shape[1]) < zeros] = 0
    P = Scaled.of(jnp.asarray(m, dtype))
    more = [jnp.asarray(rng.integers(-spread, spread + 1, n), jnp.int32) for n in shape]
    r, c = (jnp.where(e == ZERO, ZERO, e + n) for e, n in zip((P.r, P.c), more, strict=True))
    return Scaled(P.m, r, c)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zeros", [0.0, 0.3])
@pytest.mark.parametrize("spread", [3, 40, 100, 5000])
def test_products_lose_no_row_and_no_column(dtype, spread, zeros):
    """Every entry that no sum cancels, to rounding of the largest term of its sum."""
    rng = np.random.default_rng(spread)
    eps = float(jnp.finfo(dtype).eps)
    multiply = jax.jit(lambda A, B: A @ B)
    held = 0
    for _ in range(10):
        A, B = (graded(rng, shape, spread, zeros, dtype) for shape in ((5, 4), (4, 6)))
        (m_A, e_A), (m_B, e_B) = wide(A), wide(B)
        terms = log2(m_A, e_A)[:, :, None] + log2(m_B, e_B)[None]
        top = terms.max(1)
        zero = np.isneginf(top)
        scale = np.where(zero, 0, top)
        signs = np.sign(m_A)[:, :, None] * np.sign(m_B)[None]
        exact = (
            signs * np.exp2(np.where(np.isneginf(terms), -np.inf, terms - scale[:, None]))
        ).sum(1)
        m, e = wide(multiply(A, B))
        got = m * np.exp2(np.clip(e - scale, -900, 900))
        # What is far below both its row and its column may be flushed.
        with np.errstate(invalid="ignore"):
            kept = (top >= top.max(1, keepdims=True) - 60) | (top >= top.max(0) - 60)
        kept &= ~zero
        held += kept.sum()
        np.testing.assert_allclose(got[kept], exact[kept], atol=16 * eps)
        assert (m[zero] == 0).all()
    assert held > 20


def test_the_leading_direction_may_die():
    """diag(1, 2^-3)^300, then diag(0, 1): 2^-900 in float32, in either order."""
    J = jnp.diag(jnp.asarray([1, 0.125], jnp.float32))
    end = jnp.diag(jnp.asarray([0, 1], jnp.float32))

    @jax.jit
    def norms():
        P, _ = jax.lax.scan(
            lambda P, _: (Scaled.of(J) @ P, None), Scaled.of(jnp.eye(2, dtype=J.dtype)), length=300
        )
        return [(Scaled.of(end) @ P).at_one_scale(), (P @ Scaled.of(end)).at_one_scale()]

    for m, e in norms():
        np.testing.assert_array_equal(np.log2(np.abs(np.asarray(m)).max()) + np.asarray(e), -900)


@pytest.mark.parametrize("dtype", DTYPES)
def test_matrices_of_the_ends_of_the_dtype(dtype):
    """The largest number and the smallest normal one, side by side in a row and in a column."""
    info = jnp.finfo(dtype)
    high, low = float(info.max), float(info.tiny)
    P = np.array([[high, low, 0], [0, 0, 4 * low], [0, 0, high / 3]])
    m, e = wide(jax.jit(Scaled.of)(jnp.asarray(P, dtype)))
    np.testing.assert_array_equal(m * np.exp2(e.astype(np.longdouble)), P)
    x = Entries.of(jnp.asarray(P[0], dtype))
    m, e = np.asarray(x.m, np.float64), np.asarray(x.e, np.longdouble)
    np.testing.assert_array_equal(m * np.exp2(e), P[0])


def test_what_is_left_out_asks_for_no_exponent():
    """Of diag(1, 2^-900) the second row and column alone, whose first entries are zeros."""
    J = Scaled.of(jnp.diag(jnp.asarray([1, 0.5], jnp.float32)))
    P = jax.lax.fori_loop(0, 900, lambda _, P: J @ P, Scaled.of(jnp.eye(2, dtype=jnp.float32)))
    one = np.array([1])
    for part in (P.rows(one).mT, P.columns(one)):
        assert part.r[0] == ZERO
        m, e = part.at_one_scale()
        assert np.log2(np.abs(np.asarray(m)).max()) + np.asarray(e) == -900
    np.testing.assert_array_equal(P.rows(np.arange(2)).m, P.m)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_linear_map_of_entries_of_any_size(dtype):
    """Against sums in float64 of what the largest terms are."""
    rng = np.random.default_rng(0)
    W = jnp.asarray(rng.normal(size=(6, 6)) * (rng.random((6, 6)) < 0.5), dtype)
    spread = 100 if dtype == jnp.float32 else 700
    e = rng.integers(-spread, spread, (20, 6))
    x = Entries.of(jnp.asarray(rng.uniform(0.5, 1, (20, 6)), dtype), jnp.asarray(e, jnp.int32))
    y = jax.jit(lambda x: x.mapped(lambda v: v @ W.T))(x)
    terms = np.asarray(x.m, np.float64)[:, None] * np.asarray(W, np.float64)
    at = np.asarray(x.e)[:, None] + 0 * terms.astype(int)
    top = np.where(terms != 0, at, -(10**6)).max(-1)
    exact = (terms * np.exp2(np.clip((at - top[..., None]).astype(float), -1000, 0))).sum(-1)
    got = np.asarray(y.m, np.float64) * np.exp2(
        np.clip((np.asarray(y.e) - top).astype(float), -900, 900)
    )
    there = top > -(10**6)
    np.testing.assert_allclose(got[there], exact[there], atol=32 * float(jnp.finfo(dtype).eps))
    assert (np.asarray(y.m)[~there] == 0).all()


def test_nan_and_zero_entries():
    x = Entries.of(jnp.asarray([[1.0, jnp.nan], [0.0, 0.0]]))
    y = x.mapped(lambda v: 2 * v)
    np.testing.assert_array_equal(y.log_norm(), [np.nan, -np.inf])
