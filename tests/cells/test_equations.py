"""Every cell against its equation, written once more in NumPy, for one example and one step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnn_jax
from rnn_jax import cells
from tests.helpers import normal

H, I, T = 5, 3, 6
tanh, exp = np.tanh, np.exp


def sigma(a):
    return 1 / (1 + exp(-a))


def relu(a):
    return np.maximum(a, 0)


def softplus(a):
    return np.log1p(exp(a))


def affine(p, h, x, blocks):
    return np.split(p.W @ h + p.U @ x + p.b, blocks)


def elman(p, h, x):
    h = tanh(p.b + p.W @ h + p.U @ x)
    return h, h


def elman_preactivation(p, h, x):
    h = p.b + p.W @ tanh(h) + p.U @ x
    return h, tanh(h)


def irnn(p, h, x):
    h = relu(p.b + p.W @ h + p.U @ x)
    return h, h


def jordan(p, o, x):
    o = p.c + p.V @ tanh(p.b + p.W @ o + p.U @ x)
    return o, o


def leaky(p, h, x):
    h = 0.9 * h + 0.1 * tanh(p.b + p.W @ h + p.U @ x)
    return h, h


def continuous_time(p, h, x):
    h = h + 0.1 * (-h + p.W @ tanh(h) + p.U @ x + p.b)
    return h, tanh(h)


def lstm(p, state, x):
    c, h = state
    i, f, o, g = affine(p, h, x, 4)
    c = sigma(f) * c + sigma(i) * tanh(g)
    h = sigma(o) * tanh(c)
    return (c, h), h


def lstm_peephole(p, state, x):
    c, h = state
    i, f, o, g = affine(p, h, x, 4)
    p_i, p_f, p_o = np.split(p.p, 3)
    c = sigma(f + p_f * c) * c + sigma(i + p_i * c) * tanh(g)
    h = sigma(o + p_o * c) * tanh(c)
    return (c, h), h


def lstm_coupled(p, state, x):
    c, h = state
    f, o, g = affine(p, h, x, 3)
    c = sigma(f) * c + (1 - sigma(f)) * tanh(g)
    h = sigma(o) * tanh(c)
    return (c, h), h


def slstm(p, state, x):
    c, n, m, h = state
    i, f, o, z = affine(p, h, x, 4)
    log_f = np.log(sigma(f))
    # Without the stabilizer: memory and normalizer in their own scale.
    empty, kept = n == 0, log_f + m
    c, n = c * exp(m), n * exp(m)
    c = exp(log_f) * c + exp(i) * tanh(z)
    n = exp(log_f) * n + exp(i)
    m = np.where(empty, i, np.maximum(kept, i))  # an empty memory has no scale of its own
    h = sigma(o) * c / n
    return (c * exp(-m), n * exp(-m), m, h), h


def gru(p, h, x):
    (W_r, W_z, W_n), (U_r, U_z, U_n), (b_r, b_z, b_n) = (np.split(a, 3) for a in (p.W, p.U, p.b))
    r, z = sigma(W_r @ h + U_r @ x + b_r), sigma(W_z @ h + U_z @ x + b_z)
    n = tanh(U_n @ x + b_n + r * (W_n @ h + p.b_n))
    h = (1 - z) * n + z * h
    return h, h


def gru_reset_before(p, h, x):
    (W_r, W_z), (U_r, U_z, U_n), (b_r, b_z, b_n) = (
        np.split(a, n) for a, n in ((p.W, 2), (p.U, 3), (p.b, 3))
    )
    r, z = sigma(W_r @ h + U_r @ x + b_r), sigma(W_z @ h + U_z @ x + b_z)
    n = tanh(U_n @ x + b_n + p.W_n @ (r * h))
    h = (1 - z) * n + z * h
    return h, h


def mgu(p, h, x):
    (U_f, U_n), (b_f, b_n) = np.split(p.U, 2), np.split(p.b, 2)
    f = sigma(p.W @ h + U_f @ x + b_f)
    h = (1 - f) * h + f * tanh(p.W_n @ (f * h) + U_n @ x + b_n)
    return h, h


def mgu_reset_after(p, h, x):
    (W_f, W_n), (U_f, U_n), (b_f, b_n) = (np.split(a, 2) for a in (p.W, p.U, p.b))
    f = sigma(W_f @ h + U_f @ x + b_f)
    h = f * h + (1 - f) * tanh(U_n @ x + b_n + f * (W_n @ h + p.b_n))
    return h, h


def ugrnn(p, h, x):
    g, n = affine(p, h, x, 2)
    h = sigma(g) * h + (1 - sigma(g)) * tanh(n)
    return h, h


def fastgrnn(p, h, x):
    a = p.W @ h + p.U @ x
    z = sigma(a + p.b_z)
    h = (sigma(p.zeta) * (1 - z) + sigma(p.nu)) * tanh(a + p.b) + z * h
    return h, h


def indrnn(p, h, x):
    h = relu(p.w * h + p.U @ x + p.b)
    return h, h


def antisymmetric(p, h, x):
    h = h + 0.1 * tanh((p.W - p.W.T - 0.01 * np.eye(H)) @ h + p.U @ x + p.b)
    return h, h


def antisymmetric_gated(p, h, x):
    e = (p.W - p.W.T - 0.01 * np.eye(H)) @ h
    z, n = np.split(p.U @ x + p.b, 2)
    h = h + 0.1 * sigma(e + z) * tanh(e + n)
    return h, h


def cornn(p, state, x):
    y, z = state
    W_y, W_z = np.split(p.W, 2, axis=1)
    z = z + 0.042 * (tanh(W_y @ y + W_z @ z + p.U @ x + p.b) - 2.7 * y - 4.7 * z)
    y = y + 0.042 * z
    return (y, z), y


def lem(p, state, x):
    y, z = state
    (U_s, U_r, U_z, U_y), (b_s, b_r, b_z, b_y) = np.split(p.U, 4), np.split(p.b, 4)
    W_s, W_r, W_z = np.split(p.W, 3)
    s, r = sigma(W_s @ y + U_s @ x + b_s), sigma(W_r @ y + U_r @ x + b_r)
    z = (1 - s) * z + s * tanh(W_z @ y + U_z @ x + b_z)
    y = (1 - r) * y + r * tanh(p.W_y @ z + U_y @ x + b_y)
    return (y, z), y


def lipschitz(p, h, x):
    A, B = (0.35 * (M + M.T) + 0.65 * (M - M.T) - 0.001 * np.eye(H) for M in np.split(p.W, 2))
    h = h + 0.03 * (A @ h + tanh(B @ h + p.U @ x + p.b))
    return h, h


def orthogonal_rnn(p, h, x):
    h = tanh(scipy.linalg.expm(p.W - p.W.T) @ h + p.U @ x + p.b)
    return h, h


def diagonal(p, h, x):
    h = p.a * h + p.U @ x + p.b
    return h, h


def lru(p, state, x):
    re, im = state
    B_re, B_im, D = np.split(p.U, 3)
    C_re, minus_C_im = np.split(p.C, 2, axis=1)
    s = exp(-exp(p.nu) + 1j * exp(p.theta)) * (re + 1j * im)
    s = s + exp(p.gamma) * ((B_re + 1j * B_im) @ x)
    y = ((C_re - 1j * minus_C_im) @ s).real + D @ x
    return (s.real, s.imag), y


def rg_lru(p, h, x):
    r, i, n = np.split(p.U @ x + p.b, 3)
    a = sigma(p.a) ** (8 * sigma(r))
    h = a * h + np.sqrt(1 - a**2) * sigma(i) * n
    return h, h


def min_gru(p, h, x):
    z, n = np.split(p.U @ x + p.b, 2)
    h = (1 - sigma(z)) * h + sigma(z) * n
    return h, h


def min_lstm(p, h, x):
    i, f, n = np.split(p.U @ x + p.b, 3)
    total = sigma(i) + sigma(f)
    h = sigma(f) / total * h + sigma(i) / total * n
    return h, h


def selective(p, s, x):
    u, delta, B, C = np.split(p.U @ x + p.b, [H, 2 * H, 2 * H + 16])
    step = softplus(delta)
    s = exp(-step[:, None] * exp(p.A)) * s + np.outer(step * u, B)
    return s, s @ C + p.D * u


EQUATIONS = {name: value for name, value in globals().items() if name in cells.CELLS}


@pytest.mark.parametrize("name", cells.CELLS)
def test_each_cell_is_its_equation(name):
    cell = cells.CELLS[name](H, dtype=jnp.float64)
    leaves, tree = jax.tree.flatten(cell.init(jax.random.key(0), I))
    # Nothing is left at zero, where a term of the equation could hide.
    moved = [leaf + 0.3 * normal(i, *leaf.shape) for i, leaf in enumerate(leaves)]
    params = jax.tree.unflatten(tree, moved)
    xs = normal(1, T, I)
    states = rnn_jax.trajectory(cell, params, xs)
    ys = rnn_jax.unroll(cell, params, xs)[1]

    numbers = jax.tree.map(np.asarray, params)
    state = jax.tree.leaves(jax.tree.map(lambda leaf: np.asarray(leaf[0]), states))
    state = state[0] if len(state) == 1 else tuple(state)
    for t in range(T):
        with np.errstate(all="raise"):
            state, y = EQUATIONS[name](numbers, state, np.asarray(xs[t]))
        np.testing.assert_allclose(ys[t], y, rtol=1e-11, atol=1e-13)
        now = jax.tree.leaves(jax.tree.map(lambda leaf, t=t: leaf[t + 1], states))
        np.testing.assert_allclose(np.stack(now), np.stack(jax.tree.leaves(state)), rtol=1e-11)


def test_the_orthogonal_matrix_stays_orthogonal():
    """Whatever W is: after a step of any size its matrix is orthogonal, and λ_W = 1."""
    cell = cells.orthogonal_rnn(8, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), I)
    for scale in (0, 0.01, 1, 10, 100):
        W = scale * normal(3, 8, 8)
        Q = cell.norm_bound_terms(params.replace(W=W)).W
        np.testing.assert_allclose(Q @ Q.T, np.eye(8), atol=1e-13 * max(scale, 1))
        np.testing.assert_allclose(Q, scipy.linalg.expm(W - W.T), atol=1e-12 * max(scale, 1))


def test_rotations_start_at_angles():
    for size in (6, 7):
        cell = cells.orthogonal_rnn(size, dtype=jnp.float64)
        params = cell.init(jax.random.key(0), I)
        eigenvalues = np.linalg.eigvals(cell.norm_bound_terms(params).W)
        angles = np.sort(np.abs(np.angle(eigenvalues)))
        drawn = np.repeat(np.sort(np.abs(np.diagonal(params.W, 1)[::2])), 2)
        np.testing.assert_allclose(angles[size % 2 :], drawn, atol=1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_lru_starts_on_its_ring(dtype):
    cell = cells.lru(2000, r_min=0.5, r_max=0.9, max_phase=0.5, dtype=dtype)
    p = cell.init(jax.random.key(0), 4)
    radius, phase = exp(-exp(np.asarray(p.nu))), exp(np.asarray(p.theta))
    assert 0.5 < radius.min() < 0.51
    assert 0.89 < radius.max() < 0.9
    # Uniform in area: as many inside as outside the radius that halves the ring.
    assert np.mean(radius**2 < (0.5**2 + 0.9**2) / 2) == pytest.approx(0.5, abs=0.04)
    assert 0 < phase.min() < 0.01
    assert 0.49 < phase.max() <= 0.5
    np.testing.assert_allclose(exp(2 * np.asarray(p.gamma)), 1 - radius**2, rtol=1e-4)


def test_gates_of_the_rg_lru_and_selective_start_as_their_papers_have_it():
    factor = sigma(np.asarray(cells.rg_lru(500, dtype=jnp.float64).init(jax.random.key(0), 2).a))
    assert 0.9 < (factor**8).min() < 0.902
    assert 0.997 < (factor**8).max() < 0.999
    p = cells.selective(500, dtype=jnp.float64).init(jax.random.key(0), 2)
    step = softplus(np.asarray(p.b[500:1000]))
    assert 0.001 < step.min() < 0.0011
    assert 0.09 < step.max() < 0.1
    np.testing.assert_allclose(exp(np.asarray(p.A[3])), np.arange(1, 17), rtol=1e-12)


def test_exponential_gates_do_not_overflow():
    """Gates of e^±1000, in float32: the output is that of the equation, and so is a gradient."""
    cell = cells.slstm(2)
    p = cell.init(jax.random.key(0), 1)
    p = p.replace(W=jnp.zeros_like(p.W), U=jnp.zeros_like(p.U).at[0].set(1000).at[6].set(1.0))
    xs = jnp.array([[1.0], [-1.0], [0.5], [1.0]], jnp.float32)
    ys = rnn_jax.unroll(cell, p, xs)[1]
    # Unit 0 keeps what came with the largest gate: the candidates of steps 0 and 3, e^0 : e^f.
    f = sigma(1.0)
    kept = (f**3 * tanh(1.0) + tanh(1.0)) / (f**3 + 1)
    np.testing.assert_allclose(ys[-1, 0], 0.5 * kept, rtol=1e-5)
    gradient = jax.grad(lambda p: rnn_jax.unroll(cell, p, xs)[1].sum())(p)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_jordan_trains_its_steps_apart_from_each_other():
    """With targets in place of what is fed back, time is a batch axis: its docstring's claim."""
    cell = cells.jordan(H, 2, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), I)
    before, xs = normal(1, T, 3, 2), normal(2, T, 3, I)
    together = cell.step(params, before, xs)[1]
    for t in range(T):
        np.testing.assert_allclose(together[t], cell.step(params, before[t], xs[t])[1], rtol=1e-12)
