"""The network whose truncated gradient points the wrong way: to rounding, and as a study."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.run_folder import redraw
from experiments.influence_balancing import (
    Config,
    influence_balancing,
    main,
    plot,
)
from rnn_jax.gradients import truncated_gradient
from rnn_jax.losses import squared_error


def test_influence_balancing_to_rounding():
    """ORACLES: s_1* = −6θ, θ* = −1/6, and a one-step gradient that points the wrong way."""
    cell, influences = influence_balancing()
    np.testing.assert_allclose(influences.sum(), -6, rtol=1e-12)
    assert influences[0] == 1
    A = 0.5 * (np.eye(23) + np.eye(23, k=1))
    v = np.array([1.0] * 10 + [-1.0] * 13)
    per_theta = np.linalg.solve(np.eye(23) - A, v)
    np.testing.assert_allclose(per_theta[0], -6, rtol=1e-12)

    T, theta = 120, 0.25
    xs, targets, params = jnp.zeros((T, 0)), jnp.ones((T, 1)), {"theta": jnp.array(theta)}
    rest = jnp.asarray(theta * per_theta)
    for k2 in (1, 10, 60, T):
        cut = functools.partial(truncated_gradient, k1=1, k2=k2, strategy="scan")
        run = jax.jit(lambda p: cut(cell, p, xs, targets, squared_error, rest))
        value, gradient, state = run(params)
        np.testing.assert_allclose(state, rest, rtol=1e-12)
        np.testing.assert_allclose(value, T * 0.5 * (-6 * theta - 1) ** 2, rtol=1e-12)
        reach = [influences[: min(t + 1, k2)].sum() for t in range(T)]
        np.testing.assert_allclose(gradient["theta"], (-6 * theta - 1) * sum(reach), rtol=1e-10)
        # dE/dθ at rest, Σ (s_1 − 1)(−6), is above zero: θ must fall to reach −1/6.
        assert (gradient["theta"] > 0) == (k2 >= 60)


def test_descents_do_what_the_influences_say(tmp_path):
    result = main(Config(out=tmp_path, k2s=(1, 10), T=250, descents=40))
    theta = result["theta"]
    distance = np.abs(theta + 1 / 6)
    assert (np.diff(theta[0]) > 0).all()  # one step: away from θ*, faster and faster
    assert distance[0, -1] > 1.5 * distance[0, 0]
    assert distance[1, -1] > 100 * distance[1, 0]
    assert distance[2, -1] < 0.2 * distance[2, 0]  # full BPTT
    assert list(result["factor"] > 1) == [True, True, False]
    rates = np.log(distance[:, -1] / distance[:, 20]) / 20
    np.testing.assert_allclose(rates, np.log(result["factor"]), rtol=0.15)
    figure = tmp_path / "figures" / "influence_balancing.png"
    drawn = figure.read_bytes()
    figure.unlink()
    redraw(plot, tmp_path)
    assert figure.read_bytes() == drawn
