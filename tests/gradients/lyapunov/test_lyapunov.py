"""Lyapunov spectra, covariant vectors and flossing against closed forms, NumPy and each other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnn_jax import cells, theory, trajectory
from rnn_jax.gradients import covariant_vectors, flossing, lyapunov_spectrum, step_jacobians
from rnn_jax.gradients.lyapunov.initial_frame import initial_frame
from tests.helpers import normal, positive_qr
from tests.lawful_cells import user_cell

LINEAR = cells.from_function(lambda W, h, x: (W @ h, h), lambda W: jnp.ones(len(W), W.dtype))
"""h ← W h."""
spectrum = jax.jit(
    lyapunov_spectrum,
    static_argnames=("cell", "num_exponents", "warmup", "interval", "blocks"),
)


def at_rest(T, dtype=jnp.float64):
    return jnp.zeros((T, 0), dtype)


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_scaled_orthogonal_map(dtype):
    """c·Q: every exponent ln c; entropy and dimension follow."""
    Q = jnp.linalg.qr(normal(0, 6, 6))[0].astype(dtype)
    for c in (0.8, 1.1):
        got = spectrum(LINEAR, jnp.asarray(c, dtype) * Q, at_rest(200, dtype))
        atol = 1e-12 if dtype == jnp.float64 else 1e-5
        np.testing.assert_allclose(got.exponents, np.log(c), atol=atol)
        np.testing.assert_allclose(got.standard_errors, 0, atol=atol)
        assert got.exponents.dtype == dtype
        assert got.trusted.all()
        assert got.degenerate.all()
        np.testing.assert_allclose(got.entropy, 6 * max(np.log(c), 0), atol=6 * atol)
        assert got.kaplan_yorke == (6 if c > 1 else 0)


def test_entropy_and_dimension_in_closed_form():
    """Exponents ½, 1/10, −3/10, −3/2 in axes that are not orthogonal: D = 3 + 0.3/1.5."""
    exponents = jnp.array([0.5, 0.1, -0.3, -1.5])
    X = normal(0, 4, 4)
    W = X @ jnp.diag(jnp.exp(exponents)) @ jnp.linalg.inv(X)
    get = lambda K: spectrum(LINEAR, W, at_rest(400), num_exponents=K, warmup=200)
    got = get(4)
    np.testing.assert_allclose(got.exponents, exponents, atol=1e-10)
    np.testing.assert_allclose(got.entropy, 0.6, atol=1e-9)
    np.testing.assert_allclose(got.kaplan_yorke, 3.2, atol=1e-9)
    assert got.trusted.all()
    assert not got.degenerate.any()
    two, three = get(2), get(3)
    np.testing.assert_allclose(three.exponents, exponents[:3], atol=1e-10)
    assert np.isnan(two.entropy)  # more may be positive
    np.testing.assert_allclose(three.entropy, 0.6, atol=1e-9)
    assert np.isnan(three.kaplan_yorke)  # the sum does not turn negative among these

    vectors = covariant_vectors(LINEAR, W, at_rest(400), warmup=150, cooldown=150)
    assert vectors.trusted.all()
    axes = X / jnp.linalg.norm(X, axis=0)
    cosines = jnp.einsum("tsk,sk->tk", vectors.vectors, axes)
    np.testing.assert_allclose(jnp.abs(cosines), 1, atol=1e-10)
    np.testing.assert_allclose(vectors.log_growth, jnp.broadcast_to(exponents, (100, 4)), atol=1e-8)


def test_covariant_vectors_stand_at_the_states():
    """And step i takes the vectors at state i to those at state i + 1, γ_i times as long."""
    cell = cell_named("lstm")
    params, xs = cell.init(jax.random.key(0), 2), normal(1, 60, 3, 2)
    got = covariant_vectors(cell, params, xs, warmup=20, cooldown=20)
    states = trajectory(cell, params, xs)
    flat = jnp.concatenate([states.c, states.h], -1)
    np.testing.assert_allclose(got.states, flat[20:41], atol=1e-12)
    J = step_jacobians(cell, params, xs)[20:40]
    grown = jnp.einsum("t...ij,t...jk->t...ik", J, got.vectors[:-1])
    expected = got.vectors[1:] * jnp.exp(got.log_growth)[..., None, :]
    np.testing.assert_allclose(jnp.abs(grown), jnp.abs(expected), atol=1e-9)


def test_gaussian_products():
    """Newman's exponents: all 32 within 4 standard errors, which are neither small nor large."""
    n, T = 32, 4000
    cell = cells.from_function(lambda p, h, x: (x.reshape(n, n) @ h, h[:1]), lambda p: jnp.ones(n))
    xs = normal(0, T, n * n) / np.sqrt(n)
    got = spectrum(cell, (), xs, warmup=100, blocks=40)
    expected = theory.gaussian_product_exponents(n)
    z = (got.exponents - expected) / got.standard_errors
    assert np.abs(z).max() < 4
    assert 0.7 < np.sqrt(np.mean(z**2)) < 1.4
    assert got.trusted.all()
    assert got.standard_errors[0] < 0.003


def cell_named(name):
    make = {"user's function": user_cell}.get(name) or (
        lambda dtype: cells.CELLS[name](4, dtype=dtype)
    )
    return make(jnp.float64)


@pytest.mark.parametrize("name", ["lstm", "user's function"])
def test_against_numpy(name):
    """QR at every step by LAPACK; Σ λ_i = ⟨ln |det J_t|⟩; any interval gives the same numbers."""
    cell, T = cell_named(name), 60
    params, xs = cell.init(jax.random.key(0), 2), normal(1, T, 2, 2)
    Js = np.asarray(step_jacobians(cell, params, xs))
    start = cell.initial_state(params, (2,))
    got = [spectrum(cell, params, xs, interval=interval) for interval in (1, None)]
    S = len(got[0].exponents)
    Q_0 = np.asarray(initial_frame(None, start, 1, S))
    for b in range(2):
        Q, total = Q_0[b], np.zeros(S)
        for J in Js[:, b]:
            Q, R = positive_qr(J @ Q)
            total += np.log(np.diagonal(R))
        for each in got:
            expected = np.sort(total / T)[::-1]
            np.testing.assert_allclose(each.exponents[:, b], expected, rtol=1e-6, atol=1e-8)
        log_det = np.linalg.slogdet(Js[:, b])[1].mean()
        # tr(J⁻¹ δJ) of a J that is rounded in another way than the one inside.
        rounding = S * np.finfo(float).eps * np.linalg.cond(Js[:, b]).mean()
        np.testing.assert_allclose(got[0].exponents[:, b].sum(), log_det, rtol=1e-10, atol=rounding)
    np.testing.assert_array_equal(got[0].trace[-1], got[0].exponents)
    np.testing.assert_array_equal(got[0].trace_steps, 3 * np.arange(1, 21))
    assert got[0].interval == 1
    assert got[1].interval > 1


def test_henon():
    """λ₁ = 0.4192, Σ λ = ln 0.3 exactly, D = 1.258 (Sprott 2003), by a function of one line."""

    def step(p, h, x):
        return jnp.stack([1 - 1.4 * h[0] ** 2 + h[1], 0.3 * h[0]]), h

    cell = cells.from_function(step, jnp.array([0.1, 0.1]))
    got = spectrum(cell, (), at_rest(20_000), warmup=1000)
    np.testing.assert_allclose(got.exponents[0], 0.4192, atol=4 * got.standard_errors[0])
    assert got.standard_errors[0] < 0.005
    np.testing.assert_allclose(got.exponents.sum(), np.log(0.3), atol=got.rounding.sum())
    assert got.rounding.max() < 2e-6
    np.testing.assert_allclose(got.kaplan_yorke, 1.258, atol=0.012)
    assert got.trusted.all()

    vectors = jax.jit(functools.partial(covariant_vectors, cell, (), warmup=100, cooldown=100))(
        at_rest(1200)
    )
    Js = step_jacobians(cell, (), at_rest(1200))[100:1100]
    v, growth = vectors.vectors, vectors.log_growth
    carried = jnp.einsum("tij,tjk->tik", Js, v[:-1])
    lengths = jnp.linalg.norm(carried, axis=1)
    # On the way back as on the way there: the last of them never saw a Jacobian's inverse.
    cosines = jnp.einsum("tik,tik->tk", carried, v[1:]) / lengths
    np.testing.assert_allclose(jnp.abs(cosines), 1, atol=1e-9)
    np.testing.assert_allclose(growth, jnp.log(lengths), atol=1e-8)
    short = spectrum(cell, (), at_rest(1100), warmup=100)
    np.testing.assert_allclose(vectors.exponents, short.exponents, atol=0.01)
    # Stable and unstable directions of the Hénon map are not orthogonal; frames always are.
    assert jnp.abs(jnp.einsum("ti,ti->t", v[..., 0], v[..., 1])).max() > 0.5


def wide(g, N, seed, dtype=jnp.float64):
    gaussian = cells.initializers.gaussian(g / np.sqrt(N))
    cell = cells.elman_preactivation(N, recurrent_init=gaussian, dtype=dtype)
    return cell, cell.init(jax.random.key(seed), 0)


def test_mean_field():
    """λ₁ of networks of 512 units, three for each gain of the oracles, in one float32 program."""
    gains, N = jnp.array([1.2, 1.5, 2, 3], jnp.float32), 512
    params = [wide(1.0, N, seed, jnp.float32)[1] for seed in range(3)]
    Ws = jnp.stack([p.W for p in params]).reshape(1, 3, N, N) * gains.reshape(4, 1, 1, 1)
    start = normal(1, N, dtype=jnp.float32)
    cell, xs = wide(1.0, N, 0, jnp.float32)[0], at_rest(800, jnp.float32)
    arguments = {"num_exponents": 2, "warmup": 200, "interval": 10}

    def spectrum_of(W):
        return lyapunov_spectrum(cell, params[0].replace(W=W), xs, start, **arguments)

    got = jax.jit(lambda Ws: jax.lax.map(spectrum_of, Ws))(Ws.reshape(12, N, N))
    largest = got.exponents[:, 0].reshape(4, 3)
    expected = theory.mean_field(gains.astype(float)).largest_exponent
    np.testing.assert_allclose(largest.mean(1), expected, atol=0.015)
    assert got.trusted.all()
    assert got.exponents.dtype == jnp.float32


def test_circular_law():
    """Below the transition: the eigenvalues of W, whose law is e^{2s}/g²."""
    g, N = 0.7, 150
    cell, params = wide(g, N, 0)
    got = spectrum(cell, params, at_rest(1500), warmup=500)
    eigenvalues = np.linalg.eigvals(params.W)
    expected = np.sort(np.log(np.abs(eigenvalues)))[::-1]
    np.testing.assert_allclose(got.exponents, expected, atol=0.01)
    s = np.log(g) + np.array([-1.5, -1, -0.5, -0.2])
    counted = (np.asarray(got.exponents)[:, None] < s).mean(0)
    np.testing.assert_allclose(theory.fraction_of_exponents_below(s, g), counted, atol=0.04)
    assert got.kaplan_yorke == 0
    assert got.entropy == 0


def test_what_cannot_be_trusted():
    cell = cells.elman(5, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 2)
    xs = normal(1, 80, 2, 2)
    got = spectrum(cell, params, xs.at[40, 1].set(jnp.nan))
    assert np.isfinite(got.exponents[:, 0]).all()
    assert got.trusted[:, 0].any()
    assert np.isnan(got.exponents[:, 1]).all()
    assert not got.trusted[:, 1].any()
    assert np.isnan(got.entropy[1])
    assert np.isnan(got.kaplan_yorke[1])

    # Two units that never fire: two exponents of −inf, and none the worse of the others.
    relu = cells.elman(5, "relu", dtype=jnp.float64)
    params = relu.init(jax.random.key(0), 2)
    dead = jnp.array([3.0, 3, 3, -50, -50])
    params = params.replace(b=dead, W=0.5 * params.W, U=0.1 * params.U)
    got = spectrum(relu, params, xs[:, 0], warmup=10)
    assert got.trusted[:3].all()
    assert not got.trusted[3:].any()
    assert (got.rounding[3:] > 0.01).all()
    alive = np.log(np.abs(np.linalg.eigvals(params.W[:3, :3]))).sum()
    np.testing.assert_allclose(got.exponents[:3].sum(), alive, atol=0.05)

    # A growth that drifts; a run too short to tell.
    drifting = cells.from_function(lambda p, h, x: (p * x * h, h), lambda p: jnp.ones(3))
    ramp = jnp.linspace(0.5, 1.5, 80)[:, None]
    assert not spectrum(drifting, jnp.ones(3), ramp).trusted.any()
    assert not spectrum(cell, cell.init(jax.random.key(0), 2), xs[:3, 0]).trusted.any()

    # Where exponents are equal, there are no vectors to tell apart.
    Q = jnp.linalg.qr(normal(0, 4, 4))[0]
    assert not covariant_vectors(LINEAR, Q, at_rest(60), warmup=20, cooldown=20).trusted.any()


def test_errors():
    cell = cells.elman(4, dtype=jnp.float64)
    params, xs = cell.init(jax.random.key(0), 2), normal(0, 10, 2)
    for argument, value in (
        ("num_exponents", 5),
        ("num_exponents", 0),
        ("warmup", 10),
        ("interval", 0),
        ("blocks", 0),
    ):
        with pytest.raises(ValueError, match=f"{argument}: got int {value}"):
            lyapunov_spectrum(cell, params, xs, **{argument: value})
    with pytest.raises(ValueError, match="num_exponents: got int 5"):
        flossing(cell, params, xs, num_exponents=5)
    with pytest.raises(ValueError, match="cooldown: got int 5; expected an integer from 0 to 4"):
        covariant_vectors(cell, params, xs, warmup=5, cooldown=5)


@pytest.mark.parametrize("factors", [(1, 0.1), (1, 10), (0.999, 0.5), (1e-30, 1e30)])
@pytest.mark.parametrize("interval", [None, 50])
def test_a_rate_that_jumps(factors, interval):
    """The frame would leave float32's range before the interval has followed."""
    cell = cells.from_function(lambda p, h, x: (x * h, h), jnp.zeros(1, jnp.float32))
    xs = jnp.repeat(jnp.array(factors, jnp.float32), 2000)[:, None]
    got = spectrum(cell, (), xs, interval=interval)
    np.testing.assert_allclose(got.exponents, np.log(factors).mean(), rtol=1e-4, atol=1e-4)


def test_all_directions_dead():
    cell = cells.elman(3, "relu", dtype=jnp.float64)
    params = cell.init(jax.random.key(0), 1)
    got = lyapunov_spectrum(cell, params.replace(b=-9 * jnp.ones(3)), jnp.zeros((20, 1)))
    assert np.isneginf(got.exponents).all()
    assert got.kaplan_yorke == 0


def test_few_blocks_tell_of_no_drift():
    got = spectrum(LINEAR, jnp.diag(jnp.array([0.9, 0.5])), at_rest(200), blocks=7)
    assert np.isfinite(got.exponents).all()
    assert not got.trusted.any()


@pytest.mark.parametrize("name", ["elman", "user's function"])
def test_gradient_of_flossing(name):
    """Against central differences along three directions, by vmap; its value by the spectrum."""
    cell = cell_named(name)
    params, xs = cell.init(jax.random.key(0), 2), normal(1, 12, 3, 2)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    arguments = {"num_exponents": 4, "interval": 3, "warmup": 2}
    penalty = lambda flat: flossing(cell, unravel(flat), xs, target=-0.1, **arguments)
    exponents = lyapunov_spectrum(cell, params, xs, **arguments).exponents
    expected = ((exponents + 0.1) ** 2).sum(0).mean()
    h, directions = 1e-5, normal(2, 3, flat.size)
    points = jnp.concatenate([flat + h * directions, flat - h * directions, flat[None]])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(penalty)))(points)
    np.testing.assert_allclose(values[-1], expected, rtol=1e-10)
    central = (values[:3] - values[3:6]) / (2 * h)
    np.testing.assert_allclose(directions @ gradients[-1], central, rtol=1e-6, atol=1e-7)


def test_flossing_drives_exponents_to_zero():
    """Where tangents shrink by e^{−0.7} a step, 200 steps of Adam on the penalty alone undo it."""
    cell, K = cells.elman(12), 4
    params = cell.init(jax.random.key(0), 2)
    params = params.replace(W=0.5 * params.W)
    xs = 0.1 * normal(1, 30, 4, 2, dtype=jnp.float32)
    optimizer = optax.adam(0.02)

    @jax.jit
    def train(params):
        def update(carry, _):
            params, state = carry
            penalty = lambda params: flossing(cell, params, xs, num_exponents=K, interval=5)
            value, gradient = jax.value_and_grad(penalty)(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(update, (params, optimizer.init(params)), length=200)

    (trained, _), values = train(params)
    measure = lambda params: spectrum(cell, params, xs, num_exponents=K).exponents
    before, after = measure(params), measure(trained)
    assert (before < -0.5).all()
    assert jnp.abs(after).max() < 0.03
    assert values[-1] < 1e-3 * values[0]
