"""A monitored step trains as a plain one does, and what it measures is what is there."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, gradients, losses
from rnn_jax.training import (
    Telemetry,
    batch_mesh,
    create_monitored_train_state,
    make_monitored_train_step,
    over_ensemble,
)
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE, user_cell
from tests.training.monitored import ELMAN, OPTIMIZER, B, T, batch_at, loss_of, programs

pytestmark = pytest.mark.usefixtures("optax_promotes")

LENGTHS = jnp.array([6, 3, 1, 5])
of_readout = lambda leaf: lambda p, s: leaf(s) @ p.V.T + p.c
CASES = {
    "elman": (ELMAN, of_readout(lambda h: h), {}),
    "elman, pre-activation": (
        cells.readout(cells.elman_preactivation(5, dtype=jnp.float64), 2),
        of_readout(jnp.tanh),
        {},
    ),
    "lstm, lengths": (
        cells.readout(cells.lstm(5, dtype=jnp.float64), 2),
        of_readout(lambda s: s.h),
        {"lengths": LENGTHS},
    ),
    "user's": (user_cell(), lambda p, s: s["trace"] * p["scale"], {}),
    "stack": (
        cells.stack(cells.gru(5, dtype=jnp.float64), user_cell()),
        lambda p, s: s[1]["trace"] * p[1]["scale"],
        {},
    ),
}
"""By name: a cell, what its y_t is of the state that the step hands on, options of unroll."""


@pytest.mark.parametrize("case", CASES)
def test_a_monitored_step_trains_as_a_plain_one(case):
    """And ∂L/∂h_t is that of the loss of a sequence that starts again at h_t."""
    cell, read, options = CASES[case]
    monitored, state, plain, plain_state = programs(cell, options, clip_norm=0.5)
    batch = batch_at(0, outputs=read(state.params, cell.initial_state(state.params)).shape[-1])
    start, clipped = state, []
    for _ in range(4):
        state, metrics = monitored(state, batch)
        plain_state, plain_metrics = plain(plain_state, batch)
        clipped.append(metrics["grad_norm"] > 0.5)
        chex.assert_trees_all_close(
            {name: metrics[name] for name in plain_metrics}, plain_metrics, rtol=1e-12
        )
        assert metrics["clipped"] == clipped[-1]
    chex.assert_trees_all_close(state.params, plain_state.params, rtol=1e-10, atol=1e-13)
    assert any(clipped)

    metrics = monitored(start, batch)[1]
    at, back = jax.jit(lambda p: restarted(cell, p, batch, read, options.get("lengths")))(
        start.params
    )
    profile = np.log(np.sqrt(np.sum(np.square(at), 1)))
    np.testing.assert_allclose(metrics["state_log_norms"], profile, rtol=1e-10)
    counts = (at > 0) & (back > 0)
    r = np.where(counts, back, 1) / np.where(counts, at, 1)
    decay_rate = np.log(r).sum() / counts.sum()
    np.testing.assert_allclose(metrics["decay_rate"], decay_rate, rtol=1e-9)
    horizon = -1 / decay_rate if decay_rate < 0 else np.inf
    np.testing.assert_allclose(metrics["horizon"], horizon, rtol=1e-9)
    omega = np.square(r - 1).sum(0).mean()
    np.testing.assert_allclose(metrics["omega"], omega, rtol=1e-9)
    E = lambda ys: losses.per_step(losses.squared_error, ys, batch[1]).mean()
    theirs = gradients.omega(cell, start.params, batch[0], E, **options)
    np.testing.assert_allclose(metrics["omega"], theirs, rtol=1e-9)


def restarted(cell, params, batch, read, lengths):
    """‖∂L/∂h_t‖ and ‖(∂L/∂h_t) (∂h_t/∂h_{t-1})‖, `[T, B]`, example by example, no scan."""
    xs, targets = batch
    lengths = jnp.full(B, T) if lengths is None else lengths

    def of_example(xs, targets, length):
        E = lambda state, t: losses.squared_error(read(params, state), targets[t]) / (T * B)

        def after(state, t):
            """The losses behind time t, from the state at t on."""
            total = jnp.zeros(())
            for s in range(t + 1, T):
                state = cell.step(params, state, xs[s])[0]
                total += jnp.where(s < length, E(state, s), 0)
            return total

        state, at, back = cell.initial_state(params), [], []
        for t in range(T):
            # What comes back to the state before step t is all that lies behind it.
            back.append(jnp.where(t < length, norm(jax.grad(after)(state, t - 1)), 0))
            state = cell.step(params, state, xs[t])[0]
            whole = jax.grad(lambda state, t=t: E(state, t) + after(state, t))(state)
            at.append(jnp.where(t < length, norm(whole), 0))
        return jnp.stack(at), jnp.stack(back)

    return jax.vmap(of_example, (1, 1, 0), (1, 1))(xs, targets, lengths)


norm = optax.tree.norm


def test_matrices_are_followed():
    """ρ(W) and ‖W‖₂ of LAPACK, while W moves, and where the largest eigenvalues are not alone."""
    Q, R = np.linalg.qr(normal(5, 6, 6))
    S = Q * np.array([1.5, -1.2, 1, 0.5, 0.2, 0.1]) @ Q.T
    fixed = {
        "orthogonal": 0.9 * Q,
        "symmetric": S,
        "defective": np.array([[1.0, 1.0], [0.0, 1.0]]),
        "wide": R[:3],
        "nilpotent": np.array([[0.0, 3.0], [0.0, 0.0]]),
        "zero": np.zeros((3, 3)),
    }
    fixed = {name: jnp.asarray(W) for name, W in fixed.items()}
    own = lambda params: fixed | {"moving": params.cell.W}
    monitored, state, _, _ = programs(ELMAN, matrices=own, optimizer=optax.adam(1e-3))
    for step in range(60):
        followed = own(state.params)
        state, metrics = monitored(state, batch_at(step % 5))
    found = lambda kind: {n: metrics[f"{kind}/{n}"] for n in followed if n != "wide"}
    assert "spectral_radius/wide" not in metrics
    for name, W in followed.items():
        sigma = np.linalg.norm(W, 2)
        assert metrics[f"spectral_norm/{name}"] <= sigma * (1 + 1e-12)
        np.testing.assert_allclose(metrics[f"spectral_norm/{name}"], sigma, rtol=1e-4)
    exact = {"orthogonal": 0.9, "symmetric": 1.5}
    for name, rho in exact.items():
        np.testing.assert_allclose(metrics[f"spectral_radius/{name}"], rho, rtol=1e-6)
    rho = found("spectral_radius")
    np.testing.assert_allclose(rho["defective"], 1, rtol=1e-2)  # ‖Wⁿ w‖ grows as n
    np.testing.assert_allclose(
        rho["moving"], np.abs(np.linalg.eigvals(followed["moving"])).max(), rtol=0.03
    )
    assert rho["nilpotent"] < 1e-6
    assert rho["zero"] < 1e-6

    gates = cells.readout(cells.lstm(4, dtype=jnp.float64), 2)
    monitored, state, _, _ = programs(gates)
    blocks = np.asarray(state.params.cell.W).reshape(4, 4, 4)
    metrics = monitored(state, batch_at(0))[1]
    expected = np.linalg.norm(blocks, 2, (1, 2))
    np.testing.assert_allclose(metrics["spectral_norm/W"], expected, rtol=1e-4)
    expected = np.abs(np.linalg.eigvals(blocks)).max(1)
    np.testing.assert_allclose(metrics["spectral_radius/W"], expected, rtol=0.05)
    assert not any("/" in name for name in programs_metrics(user_cell()))


def programs_metrics(cell):
    monitored, state, _, _ = programs(cell)
    return jax.eval_shape(monitored, state, batch_at(0, outputs=6))[1]


def test_every_third_step_measures():
    monitored, state, plain, plain_state = programs(ELMAN, every=3)
    always, always_state, _, _ = programs(ELMAN)
    gradients_own = ("state_log_norms", "decay_rate", "horizon", "omega", "blocked")
    for step in range(7):
        state, metrics = monitored(state, batch_at(step))
        always_state, all_metrics = always(always_state, batch_at(step))
        plain_state, _ = plain(plain_state, batch_at(step))
        for name in metrics:
            measured = name not in gradients_own or step % 3 == 0
            expected = all_metrics[name] if measured else np.full_like(all_metrics[name], np.nan)
            np.testing.assert_allclose(metrics[name], expected, rtol=1e-8)
    chex.assert_trees_all_close(state.params, plain_state.params, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("every", [1, 3])
def test_devices_that_share_a_batch_measure_as_one(every):
    mesh = batch_mesh()
    assert mesh.size == 2
    ends = []
    for shared in ({}, {"mesh": mesh}):
        telemetry = Telemetry(ELMAN, every=every)
        step = make_monitored_train_step(
            loss_of(ELMAN), OPTIMIZER, telemetry, clip_norm=0.5, **shared
        )
        params = ELMAN.init(jax.random.key(0), INPUT_SIZE)
        state, step = create_monitored_train_state(params, OPTIMIZER, telemetry), jax.jit(step)
        for i in range(3):
            state, metrics = step(state, batch_at(i))
        ends.append((state, metrics))
    chex.assert_trees_all_close(*ends, rtol=1e-9, atol=1e-13)


def test_an_ensemble_measures_each_member():
    telemetry = Telemetry(ELMAN)
    step = make_monitored_train_step(loss_of(ELMAN), OPTIMIZER, telemetry, clip_norm=0.5)
    keys = jax.random.split(jax.random.key(3), 2)

    def start(key):
        return create_monitored_train_state(ELMAN.init(key, INPUT_SIZE), OPTIMIZER, telemetry)

    together = jax.jit(jax.vmap(start))(keys)
    batch = jax.tree.map(lambda a, b: jnp.stack([a, b]), batch_at(0), batch_at(1))
    after = over_ensemble(step, 2)(together, batch)
    alone = jax.jit(step)
    for i in range(2):
        member = lambda tree, i=i: jax.tree.map(lambda leaf: leaf[i], tree)
        expected = alone(member(together), member(batch))
        chex.assert_trees_all_close(member(after), expected, rtol=1e-9, atol=1e-13)


def test_vanishing_norms_in_float32():
    """∂L/∂h_t = 0.1^(T−1−t): its square, 1e-70, is no number of float32."""
    cell = cells.elman_preactivation(3, activation="identity", dtype=jnp.float32)
    params = cell.init(jax.random.key(0), 2)
    params = params.replace(W=0.1 * jnp.eye(3, dtype=jnp.float32))

    def loss(params, xs, unroll=rnn_jax.unroll):
        return unroll(cell, params, xs)[1][-1, :, 0].mean()

    telemetry = Telemetry(cell)
    step = jax.jit(make_monitored_train_step(loss, optax.sgd(0.1), telemetry))
    state = create_monitored_train_state(params, optax.sgd(0.1), telemetry)
    metrics = step(state, normal(0, 36, 1, 2, dtype=jnp.float32))[1]
    assert all(value.dtype == jnp.float32 for value in metrics.values())
    lag = 35 - np.arange(36)
    np.testing.assert_allclose(metrics["state_log_norms"], lag * np.log(0.1), rtol=1e-5)
    np.testing.assert_allclose(metrics["decay_rate"], np.log(0.1), rtol=1e-5)
    np.testing.assert_allclose(metrics["horizon"], -1 / np.log(0.1), rtol=1e-5)
    np.testing.assert_allclose(metrics["spectral_radius/W"], 0.1, rtol=1e-5)


@pytest.mark.parametrize("calls", [0, 2])
def test_a_loss_that_does_not_call_unroll_once_is_refused(calls):
    def loss(params, batch, unroll):
        ys = rnn_jax.unroll(ELMAN, params, batch[0])[1]
        for _ in range(calls):
            ys += unroll(ELMAN, params, batch[0])[1]
        return ys.mean()

    telemetry = Telemetry(ELMAN)
    step = make_monitored_train_step(loss, OPTIMIZER, telemetry)
    params = ELMAN.init(jax.random.key(0), INPUT_SIZE)
    state = create_monitored_train_state(params, OPTIMIZER, telemetry)
    with pytest.raises(ValueError, match=rf"loss: got .* {calls} times; expected one call"):
        step(state, batch_at(0))
    for argument in ("every", "iterations"):
        with pytest.raises(ValueError, match=rf"{argument}: got int 0; expected"):
            Telemetry(ELMAN, **{argument: 0})


OMEGA_CASES = {
    "relu, some steps off": (lambda p: p.replace(b=-jnp.ones_like(p.b)), "relu", 1.0),
    "tanh, L times 1e-25": (lambda p: p, "tanh", 1e-25),
    "tanh, L times 1e20": (lambda p: p, "tanh", 1e20),
    "doubling beyond squares": (
        lambda p: p.replace(W=2 * jnp.eye(4, dtype=p.W.dtype), U=0 * p.U),
        "identity",
        1.0,
    ),
    "NaN": (lambda p: p.replace(b=p.b.at[1].set(jnp.nan)), "relu", 1.0),
}


@pytest.mark.parametrize("case", OMEGA_CASES)
def test_omega_is_that_of_gradients_at_every_scale_in_float32(case):
    """And so is `blocked`, the share of relu's steps at which all units are off."""
    change, activation, scale = OMEGA_CASES[case]
    cell = cells.elman(4, activation, dtype=jnp.float32)
    params = change(cell.init(jax.random.key(0), INPUT_SIZE))
    xs = 2 * normal(1, 80, 2, INPUT_SIZE, dtype=jnp.float32)
    last = lambda ys: jnp.float32(scale / 2) * jnp.square(ys[-1] + 1).sum()
    every = lambda ys: jnp.float32(scale / 2) * jnp.square(ys).sum()
    objective = last if activation == "identity" else every

    def loss(params, xs, unroll=rnn_jax.unroll):
        return objective(unroll(cell, params, xs)[1])

    sgd, telemetry = optax.sgd(0.1), Telemetry(cell)
    step = jax.jit(make_monitored_train_step(loss, sgd, telemetry))
    metrics = step(create_monitored_train_state(params, sgd, telemetry), xs)[1]
    theirs = jax.jit(lambda p: gradients.omega(cell, p, xs, objective))(params)
    if case == "NaN":
        assert all(jnp.isnan(metrics[name]).all() for name in ("omega", "decay_rate", "blocked"))
        assert jnp.isnan(theirs)
        return
    np.testing.assert_allclose(metrics["omega"], theirs, rtol=1e-4)
    if case == "doubling beyond squares":
        np.testing.assert_allclose(theirs, 80, rtol=1e-6)
    states = np.asarray(rnn_jax.trajectory(cell, params, xs))
    off = (states[1:] <= 0).all(-1) if activation == "relu" else np.zeros((80, 2), bool)
    assert (metrics["blocked"] > 0) == off.any()
