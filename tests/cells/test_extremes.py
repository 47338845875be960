"""Every cell in every precision, at its start and where its gates are as good as open or closed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells
from rnn_jax.cells._orthogonal_rnn import exponential_of_skew
from tests.helpers import normal

H, I, T, B = 4, 3, 5, 3
HALVES = (jnp.bfloat16, jnp.float16)
NAMES = list(cells.CELLS)


def finite(tree):
    return [np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(tree))]


@pytest.mark.parametrize("name", NAMES)
def test_drawn_parameters_are_finite_in_every_precision(name):
    """At 20 keys, and with them in range: half precision rounds 0.999 to 1, whose ln is 0."""

    def drawn(dtype, H):
        cell = cells.CELLS[name](H, dtype=dtype)
        return jax.vmap(lambda key: cell.init(key, I))(jax.random.split(jax.random.key(1), 20))

    every = [(dtype, n) for dtype in (*HALVES, jnp.float32) for n in (1, H, 64)]
    sizes = every if name in ("lru", "rg_lru", "selective", "diagonal") else every[1::3]
    made = jax.jit(lambda: [drawn(*one) for one in sizes])()
    for params, (dtype, _) in zip(made, sizes, strict=True):
        assert all(finite(params))
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}


def gates(kind, shape):
    """Pre-activations of a step from inputs: all open, all closed, by turns, and drawn at 30."""
    signs = {"open": 1, "closed": -1, "by turns": (-1) ** np.arange(shape[0])[:, None, None]}
    drawn = np.random.default_rng(0).normal(size=shape)
    return np.where(kind == "drawn", 30 * drawn, 1e4 * signs.get(kind, 1) * np.sign(drawn) ** 2)


def extreme_inputs():
    """`[T, B, I]` for b = 0 and rows of U that are 0 and ±1: pre-activations of ±1e4 or of 30."""
    kinds = np.stack([gates(kind, (T, 1, I)) for kind in ("open", "by turns", "drawn")])
    return kinds[:, :, 0].swapaxes(0, 1)


def with_unit_rows(params):
    """Rows of U that read one input each, with either sign; exact in every dtype."""
    rows = np.zeros(params.U.shape)
    places = np.arange(len(rows))
    rows[places, places % I] = np.where(places % 2, -1, 1)
    return params.replace(U=jnp.asarray(rows, params.U.dtype))


@pytest.mark.parametrize("name", NAMES)
def test_extreme_gates_leave_values_and_gradients_as_they_are_in_float64(name):
    """Finite where float64's are; equal to them in float32, whose pre-activations are the same."""
    xs, weights = extreme_inputs(), np.random.default_rng(1).normal(size=(T, B, H))

    def made(dtype):
        cell = cells.CELLS[name](H, dtype=dtype)
        params = with_unit_rows(cell.init(jax.random.key(0), I))
        return cell, params

    def run(dtype, params, strategy):
        cell, _ = made(dtype)

        def loss(params, xs):
            ys = rnn_jax.unroll(cell, params, xs, strategy=strategy)[1]
            return (ys * jnp.asarray(weights, dtype)).sum(), ys

        args = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, jnp.asarray(xs)))
        return jax.grad(loss, (0, 1), has_aux=True)(*args)

    params = made(jnp.float32)[1]
    widened = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), params)
    true, *got = jax.device_get(
        jax.jit(
            lambda: (
                run(jnp.float64, widened, "scan"),
                run(jnp.float32, params, "fused"),
                *(run(dtype, params, "scan") for dtype in HALVES),
            )
        )()
    )
    assert all(finite(true))
    for one, dtype in zip(got, (jnp.float32, *HALVES), strict=True):
        if name == "selective" and dtype == jnp.float16:
            continue  # its Δ u B is 1e12, which no float16 holds
        for value, exact in zip(*map(jax.tree.leaves, (one, true)), strict=True):
            fits = np.abs(exact) < 0.01 * float(jnp.finfo(dtype).max)
            assert (np.isfinite(value) | ~fits).all(), dtype
            if dtype == jnp.float32:
                scale = np.abs(exact).max() + 1e-3
                np.testing.assert_allclose(value, exact, rtol=1e-2, atol=2e-3 * scale)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_slstm_starts_from_its_first_input_gate(dtype):
    """h_1 = σ(o) tanh(z) whatever the gate is; after a reset and a learned start of zeros too."""
    cell = cells.slstm(1, dtype=dtype)
    p = cell.init(jax.random.key(0), 1)
    gates = jnp.asarray([-1e4, -700, -88, -45, -20, -5, 0, 9, 100, 1e4], dtype)

    @jax.vmap
    def first(gate):
        U = jnp.stack([gate, *jnp.asarray([0, 0, 1], dtype)])[:, None]
        q = p.replace(W=0 * p.W, U=U, b=0 * p.b)
        xs, resets = jnp.ones((2, 1), dtype), jnp.array([False, True])
        last = lambda q: rnn_jax.unroll(cell, q, xs, resets=resets)[1][-1, 0]
        jacobian = jax.jacfwd(lambda s: cell.step(q, s, xs[0])[0])(cell.initial_state(q))
        return *jax.value_and_grad(last)(q), jacobian

    h, slopes, jacobian = jax.jit(first)(gates)
    o, z = 0.5, np.tanh(1)
    tolerance = {"rtol": 4 * float(jnp.finfo(dtype).eps)}
    np.testing.assert_allclose(h.astype(jnp.float64), np.full(10, o * z), **tolerance)
    expected = np.tile([0, 0, z / 4, o * (1 - z**2)], (10, 1))
    got = slopes.U[..., 0].astype(jnp.float64)
    np.testing.assert_allclose(got, expected, atol=4 * float(jnp.finfo(dtype).eps))
    assert all(finite((slopes, jacobian)))


def test_slstm_does_not_depend_on_the_scale_of_its_memory():
    """(c e^{-a}, n e^{-a}, m + a) is the same memory for every a; an empty one has no scale."""
    cell = cells.slstm(H, dtype=jnp.float64)
    p = cell.init(jax.random.key(0), I)
    xs = 30 * normal(1, T, I)
    full = cells.SLSTMState(c=normal(2, H), n=1 + normal(3, H) ** 2, m=normal(4, H), h=normal(5, H))
    empty = cell.initial_state(p)
    run = jax.jit(lambda start: rnn_jax.unroll(cell, p, xs, start)[1])
    for a in (-50.0, 3.0):
        scaled = full.replace(c=full.c * np.exp(-a), n=full.n * np.exp(-a), m=full.m + a)
        np.testing.assert_allclose(run(scaled), run(full), rtol=1e-9)
        np.testing.assert_array_equal(run(empty.replace(m=empty.m + a)), run(empty))


def test_a_closed_rg_lru_has_the_slope_of_its_limit():
    """α = e^{−x}, x = c σ(r) ln(1 + e^{−a}): √(1 − α²) is √(2x) and its slope in r half of that."""
    cell = cells.rg_lru(1, dtype=jnp.float32)
    a, r = np.meshgrid([-1e4, -30.0, 0.0, 9.0, 30.0, 200.0], [-1e4, -150.0, -80.0, -10.0, 0.0, 1e4])

    def coefficients(a, r):
        r, one = jnp.reshape(r, 1), jnp.ones(1, jnp.float32)
        alpha, beta = cell.structure.linear.coefficients(jnp.reshape(a, 1), r, 99 * one, one)
        return alpha[0], beta[0]

    every = jax.vmap(lambda a, r: (coefficients(a, r), jax.jacfwd(coefficients, (0, 1))(a, r)))
    flat = [jnp.asarray(values.ravel(), jnp.float32) for values in (a, r)]
    (alpha, beta), (d_alpha, d_beta) = jax.jit(every)(*flat)
    L = np.logaddexp(0, -a.ravel())
    with np.errstate(under="ignore"):
        sigma, x = 1 / (1 + np.exp(-r.ravel().clip(-700))), None
        x = 8 * sigma * L
        root = np.sqrt(-np.expm1(-2 * x))
        by_r = np.where(x > 0, np.exp(-2 * x) * x * (1 - sigma) / np.where(root > 0, root, 1), 0)
    np.testing.assert_allclose(alpha, np.exp(-x), rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(beta, root, rtol=1e-5, atol=1e-19)
    assert (np.abs(np.asarray(d_beta[1]) - by_r) <= 1e-4 * by_r + 1e-6 * root + 1e-19).all()
    assert all(finite((d_alpha, d_beta)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_exponentials_of_skew_matrices_are_orthogonal_at_any_norm(dtype):
    n = 24
    W = normal(0, n, n)
    one = jnp.zeros((n, n)).at[0, 1].set(3e4)
    sizes = jnp.stack([0 * W, 1e-30 * W, W, 30 * W, 1e3 * W, 1e5 * W, 1e20 * W, one])
    A = (sizes - sizes.mT).astype(dtype)
    Q = jax.jit(jax.vmap(exponential_of_skew))(A)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(Q @ Q.mT, np.tile(np.eye(n), (8, 1, 1)), atol=20 * eps)
    for q, a in zip(Q[:5], A[:5], strict=True):  # beyond, rounding of A itself turns the angles
        values, vectors = np.linalg.eigh(1j * np.asarray(a, np.float64))
        exact = ((vectors * np.exp(-1j * values)) @ vectors.conj().T).real
        np.testing.assert_allclose(q, exact, atol=eps * (10 + np.abs(a).sum(0).max()))
    slopes = jax.jit(jax.grad(lambda A: (exponential_of_skew(A - A.T) * W.astype(dtype)).sum()))
    assert all(finite([slopes(a) for a in A[::3]]))
