"""Gradients at the states on the way, and Ω: against loops and differences."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from tests.gradients.step.test_perturbations import CASES
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

T = 5
PAPER = cells.readout(cells.elman_preactivation(4, dtype=jnp.float64), 2)
"""Pascanu's network, x_{k+1} = W tanh(x_k) + U u_{k+1} + b, and E of V tanh(x) + c."""


def omega_by_hand(params, xs, targets, mask):
    """Ω of one example in NumPy, and its gradient by W with x_k and ∂E/∂x_{k+1} held: equation 11.

    E = Σ_t mask_t ½ ‖V tanh(x_t) + c − target_t‖².
    """
    W, U, b, V, c = (
        np.asarray(a) for a in (params.cell.W, params.cell.U, params.cell.b, params.V, params.c)
    )
    x = [np.zeros(4)]
    for u in np.asarray(xs):
        x.append(W @ np.tanh(x[-1]) + U @ u + b)
    slope = lambda x: 1 - np.tanh(x) ** 2
    value, gradient, passed = 0.0, np.zeros_like(W), np.zeros(4)
    for k in reversed(range(len(xs))):
        error = mask[k] * (V @ np.tanh(x[k + 1]) + c - np.asarray(targets)[k])
        g = slope(x[k + 1]) * (V.T @ error) + passed
        passed = (g @ W) * slope(x[k])
        if g @ g < 1e-20:
            continue
        before, after = np.linalg.norm(g), np.linalg.norm(passed)
        value += (after / before - 1) ** 2
        # ∂⁺‖g W diag(φ')‖/∂W_ij = g_i passed_j φ'_j / ‖passed‖
        by_W = np.outer(g, passed * slope(x[k])) / (after * before)
        gradient += 2 * (after / before - 1) * by_W
    return value, gradient


def objective_of(targets, mask):
    return lambda ys: losses.per_step(losses.squared_error, ys, targets).T @ mask


def paper_problem(gain=1.5):
    params = PAPER.init(jax.random.key(0), INPUT_SIZE)
    params = params.replace(
        cell=params.cell.replace(W=gain * normal(1, 4, 4) / 2, b=0.3 * normal(2, 4))
    )
    return params, normal(3, 7, 3, INPUT_SIZE), normal(4, 7, 3, 2)


@pytest.mark.parametrize(
    ("gain", "mask"),
    [(1.5, np.ones(7)), (1e-4, np.eye(7)[6]), (1.5, np.eye(7)[3])],
    ids=["every step's loss", "below 1e-20", "a loss in the middle"],
)
def test_omega_and_its_immediate_derivative(gain, mask):
    """By explicit loops to 1e-10; steps that nothing, or next to nothing, comes back to are out."""
    params, xs, targets = paper_problem(gain)
    objective = objective_of(targets, jnp.asarray(mask))

    @jax.jit
    def measured(params):
        return jax.value_and_grad(lambda p: gradients.omega(PAPER, p, xs, objective))(params)

    value, gradient = measured(params)
    by_hand = [omega_by_hand(params, xs[:, b], targets[:, b], mask) for b in range(3)]
    np.testing.assert_allclose(value, np.mean([v for v, _ in by_hand]), rtol=1e-10)
    expected = jax.tree.map(jnp.zeros_like, params)
    expected = expected.replace(
        cell=expected.cell.replace(W=np.mean([g for _, g in by_hand], axis=0))
    )
    chex.assert_trees_all_close(gradient, expected, rtol=1e-10, atol=1e-12)
    assert jnp.abs(gradient.cell.W).max() > 1e-3
    if gain < 1:  # three steps count, nearly all is lost in each, and ‖∂E/∂x‖² is 1e-24 then
        assert value == pytest.approx(3, abs=0.01)


@pytest.mark.parametrize("name", ["elman", "lstm", "user's function"])
def test_both_derivatives_of_omega_for_any_cell(name):
    """Full: central differences. Immediate: of Jacobians at states and ∂E/∂h that are numbers."""
    cell = CASES[name][0]
    params = jax.tree.map(lambda p: 1.3 * p, cell.init(jax.random.key(0), INPUT_SIZE))
    xs = normal(1, T, 2, INPUT_SIZE)
    objective = lambda ys: jnp.square(ys - 0.5).sum((0, 2))
    omega = functools.partial(gradients.omega, cell, xs=xs, objective=objective)

    along = jax.tree.map(lambda p: normal(p.size, *p.shape), params)
    shifted = lambda e: jax.tree.map(lambda p, d: p + e * d, params, along)

    @jax.jit
    def measured(params):
        full = jax.value_and_grad(lambda p: omega(params=p, derivative="full"))(params)
        central = (omega(params=shifted(1e-5)) - omega(params=shifted(-1e-5))) / 2e-5
        return full, jax.value_and_grad(lambda p: omega(params=p))(params), central

    (value, full), (same, immediate), central = measured(params)
    slope = sum(map(jnp.vdot, *map(jax.tree.leaves, (full, along))))
    np.testing.assert_allclose(slope, central, rtol=1e-7)
    values = [
        jax.jit(functools.partial(omega, derivative=d))(params) for d in ("immediate", "full")
    ]
    assert values[0] == values[1]
    # Beside its derivative a value may be rounded in another way.
    np.testing.assert_allclose([value, same], values, rtol=1e-14)

    E = lambda n: objective(gradients.unroll_nudged(cell, params, xs, n, strategy="scan")[1]).sum()
    received = jax.jit(jax.grad(E))(gradients.zero_nudges(cell, params, xs)).read
    states = jax.jit(lambda: rnn_jax.trajectory(cell, params, xs))()
    flat = lambda tree: jax.vmap(jax.vmap(lambda s: jax.flatten_util.ravel_pytree(s)[0]))(tree)
    g, h = flat(received), flat(states)[:-1]
    unravel = jax.flatten_util.ravel_pytree(cell.initial_state(params))[1]

    @jax.jit
    def with_constants(params):
        def ratio(g, h, x):
            step = lambda h: jax.flatten_util.ravel_pytree(cell.step(params, unravel(h), x)[0])[0]
            return jnp.linalg.norm(g @ jax.jacfwd(step)(h)) / jnp.linalg.norm(g)

        return jnp.square(jax.vmap(jax.vmap(ratio))(g, h, xs) - 1).sum(0).mean()

    expected_value, expected = jax.value_and_grad(with_constants)(params)
    np.testing.assert_allclose(value, expected_value, rtol=1e-12)
    chex.assert_trees_all_close(immediate, expected, rtol=1e-10, atol=1e-12)


def test_omega_with_lengths_is_that_of_the_shorter_sequences():
    params, xs, _ = paper_problem()
    lengths = jnp.array([7, 4, 1])
    valid = (jnp.arange(7)[:, None] < lengths)[..., None]
    objective = lambda ys: jnp.square(ys - 1).sum((0, 2))
    masked = lambda ys: jnp.square(jnp.where(valid, ys - 1, 0)).sum((0, 2))
    of_all = jax.value_and_grad(
        lambda p: gradients.omega(
            PAPER, p, jnp.where(valid, xs, jnp.nan), masked, lengths=lengths, derivative="full"
        )
    )
    one_by_one = jax.value_and_grad(
        lambda p: (
            sum(
                gradients.omega(
                    PAPER, p, xs[:n, b], lambda ys: objective(ys[:, None]), derivative="full"
                )
                for b, n in enumerate(lengths.tolist())
            )
            / 3
        )
    )
    got, expected = jax.jit(of_all)(params), jax.jit(one_by_one)(params)
    chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("optax_promotes")
def test_omega_in_a_loss_in_optax_in_an_ensemble_and_in_float32():
    """One training step of three networks, by E + 4 Ω and by `add_penalty`, is the same step."""
    _, xs, targets = paper_problem()
    objective = objective_of(targets, jnp.ones(7))
    E = lambda p: objective(rnn_jax.unroll(PAPER, p, xs)[1]).mean()
    omega = lambda p: gradients.omega(PAPER, p, xs, objective, derivative="full")
    ensemble = jax.vmap(lambda key: PAPER.init(key, INPUT_SIZE))(
        jax.random.split(jax.random.key(5), 3)
    )

    def step(loss, optimizer):
        def one_step(params):
            updates, _ = optimizer.update(jax.grad(loss)(params), optimizer.init(params), params)
            return optax.apply_updates(params, updates)

        return jax.jit(jax.vmap(one_step))(ensemble)

    sum_of_both = step(lambda p: E(p) + 4 * omega(p), optax.sgd(0.1))
    chained = step(E, optax.chain(gradients.add_penalty(omega, 4), optax.sgd(0.1)))
    chex.assert_trees_all_close(chained, sum_of_both, rtol=1e-12, atol=1e-13)
    with pytest.raises(ValueError, match="params: got None"):
        gradients.add_penalty(omega, 4).update(ensemble, optax.EmptyState())

    single = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)
    params, *rest = paper_problem()
    in_float32 = jax.jit(
        jax.value_and_grad(
            lambda p, xs, targets: gradients.omega(
                PAPER, p, xs, objective_of(targets, jnp.ones(7, targets.dtype))
            )
        )
    )
    got = in_float32(single(params), *single(rest))
    chex.assert_type(jax.tree.leaves(got), jnp.float32)
    chex.assert_trees_all_close(got, single(in_float32(params, *rest)), rtol=2e-4, atol=2e-5)
    with pytest.raises(ValueError, match=r"derivative: got .* expected one of immediate, full"):
        gradients.omega(PAPER, params, xs, objective, derivative="both")


def test_no_factor_of_e_changes_omega():
    """Nor, in float32, the size of what it is made of; and a step's ratio may be as it likes."""
    cell = cells.elman(4, dtype=jnp.float32)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, 9, 2, INPUT_SIZE, dtype=jnp.float32)

    @jax.jit
    def measured(params, scale):
        objective = lambda ys: scale * jnp.square(ys - 1).sum((0, 2))
        omega = lambda p, how: gradients.omega(cell, p, xs, objective, derivative=how)
        return [jax.value_and_grad(omega)(params, how) for how in ("immediate", "full")]

    expected = measured(params, jnp.float32(1))
    assert expected[0][0] > 0.1
    for exponent in (-120, -60, 60, 120):
        got = measured(params, jnp.float32(2.0**exponent))
        chex.assert_trees_all_close(got[0], expected[0], rtol=1e-4, atol=3e-5)
        if abs(exponent) < 100:  # the full one has products of two gradients in it
            chex.assert_trees_all_close(got[1], expected[1], rtol=1e-4, atol=3e-5)

    half = cells.elman(4, dtype=jnp.float16)
    to_half = lambda tree: jax.tree.map(lambda leaf: leaf.astype(jnp.float16), tree)
    small = lambda ys: jnp.float16(2.0**-12) * jnp.square(ys - 1).sum((0, 2))
    got = gradients.omega(half, to_half(params), to_half(xs), small)
    assert got.dtype == jnp.float16
    assert float(got) == pytest.approx(float(expected[0][0]), rel=0.01)


@pytest.mark.parametrize("factor", [1e-18, 0.5, 2.0, 1e18])
def test_omega_of_a_known_ratio(factor):
    """h ← c h: (c − 1)² for each step that counts, those above 1e-10 of the last one."""
    cell = cells.elman_preactivation(3, "identity", dtype=jnp.float32)
    params = cell.init(jax.random.key(0), 1)
    params = params.replace(W=jnp.float32(factor) * jnp.eye(3, dtype=jnp.float32))
    steps = {1e-18: 40, 0.5: 120, 2.0: 120, 1e18: 2}[factor]
    xs = jnp.zeros((steps, 1), jnp.float32)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda p: gradients.omega(cell, p, xs, lambda ys: ys[-1].sum()))
    )(params)
    count = {1e-18: 1, 0.5: 34, 2.0: 120, 1e18: 2}[factor]
    np.testing.assert_allclose(value, count * (factor - 1) ** 2, rtol=1e-5)
    # ∂‖g W‖/∂W_ij = g_i (g W)_j / (‖g‖ ‖g W‖), and all entries of g are alike.
    np.testing.assert_allclose(gradient.W, count * 2 * (factor - 1) / 3, rtol=1e-5)


def test_omega_of_what_is_not_a_number_is_not_one():
    """A relu's slope is zero at NaN, so that nothing of it is left in ∂E/∂h."""
    cell = cells.elman(3, "relu", dtype=jnp.float32)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    params = params.replace(U=jnp.abs(params.U), b=params.b + 1)
    xs = normal(0, 8, 2, INPUT_SIZE, dtype=jnp.float32)
    lengths = jnp.array([8, 5])

    @jax.jit
    def measured(params, xs, target):
        objective = lambda ys: jnp.square(ys - target).sum((0, 2))
        return gradients.omega(cell, params, xs, objective, lengths=lengths)

    one = jnp.float32(1)
    assert jnp.isfinite(measured(params, xs.at[6, 1].set(jnp.nan), one))  # in the padding
    nan = lambda leaf: leaf.at[0].set(jnp.nan)
    explodes = params.replace(W=jnp.float32(1e20) * jnp.ones((3, 3), jnp.float32))
    for broken in (
        measured(params, xs.at[6, 0, 0].set(jnp.nan), one),
        measured(params, xs.at[0, 1, 0].set(jnp.inf), one),
        measured(params, xs, jnp.float32(jnp.nan)),
        measured(explodes, xs, one),
        *(measured(params.replace(**{f: nan(getattr(params, f))}), xs, one) for f in ("W", "b")),
    ):
        assert jnp.isnan(broken)


def test_an_objective_of_another_shape_is_refused():
    cell = cells.elman(3)
    params = cell.init(jax.random.key(0), 2)
    xs = normal(0, 5, 4, 2, dtype=jnp.float32)
    for objective in (lambda ys: ys, lambda ys: (ys > 0).sum(), lambda ys: 1):
        with pytest.raises(ValueError, match="objective: got one that returns"):
            jax.eval_shape(lambda o=objective: gradients.omega(cell, params, xs, o))

    @jax.jit
    def with_start(params):
        start = lambda p: jnp.tile(p.b + 1, (4, 1))
        of = lambda start: gradients.omega(cell, params, xs, jnp.sum, start)
        return of(start), of(start(params))

    assert with_start(params)[0] == with_start(params)[1]
