"""Truncation bias at toy size: influence balancing to rounding, and a study that redraws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import truncation_bias
from experiments.run_folder import redraw
from experiments.truncation_bias import (
    Config,
    influence_balancing,
    main,
    networks,
    one_half_square,
    plot,
    rates,
)
from rnn_jax.gradients import truncated_gradient

# One worker, so that the toy study runs once.
pytestmark = [pytest.mark.usefixtures("optax_promotes"), pytest.mark.xdist_group("truncation")]

TOY = {
    "hidden_size": 8,
    "seeds": 2,
    "T": 16,
    "k2s": (1, 2, 4, 6, 8, 12, 16),
    "windows": 2,
    "batch_size": 4,
    "steps": 4,
    "balance_k2s": (1, 10),
    "balance_T": 250,
    "descents": 40,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return out, main(Config(out=out, **TOY))


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
        run = jax.jit(lambda p: cut(cell, p, xs, targets, one_half_square, rest))
        value, gradient, state = run(params)
        np.testing.assert_allclose(state, rest, rtol=1e-12)
        np.testing.assert_allclose(value, T * 0.5 * (-6 * theta - 1) ** 2, rtol=1e-12)
        reach = [influences[: min(t + 1, k2)].sum() for t in range(T)]
        np.testing.assert_allclose(gradient["theta"], (-6 * theta - 1) * sum(reach), rtol=1e-10)
        # dE/dθ at rest, Σ (s_1 − 1)(−6), is above zero: θ must fall to reach −1/6.
        assert (gradient["theta"] > 0) == (k2 >= 60)


def test_descents_do_what_the_influences_say(finished):
    _, result = finished
    theta = result["balance/theta"]
    distance = np.abs(theta + 1 / 6)
    assert (np.diff(theta[0]) > 0).all()  # one step: away from θ*, faster and faster
    assert distance[0, -1] > 1.5 * distance[0, 0]
    assert distance[1, -1] > 100 * distance[1, 0]
    assert distance[2, -1] < 0.2 * distance[2, 0]  # full BPTT
    assert list(result["balance/factor"] > 1) == [True, True, False]
    rates = np.log(distance[:, -1] / distance[:, 20]) / 20
    np.testing.assert_allclose(rates, np.log(result["balance/factor"]), rtol=0.15)


def test_what_is_measured_of_each_network(finished):
    out, result = finished
    labels = [label for kinds in networks(Config(**TOY), 3) for label in kinds]
    assert list(result["labels"]) == labels
    for label in labels:
        for phase in truncation_bias.PHASES:
            error = result[f"{label}/{phase}/error"]
            assert error.shape == (2, 7)
            assert (error[:, -1] < 1e-5).all()  # k2 = T is full BPTT
            np.testing.assert_allclose(result[f"{label}/{phase}/cosine"][:, -1], 1, atol=1e-5)
            assert (error[:, 0] > 1e-3).all()
            assert (result[f"{label}/{phase}/log_norm"][:, 0] == 0).all()
    contracting, _, chaotic, _ = (
        np.median(result[f"{x}/before training/error"], 0) for x in labels
    )
    assert contracting[3] < 0.1 < 0.3 < chaotic[3]
    summary = (out / "summary.md").read_text()
    assert all(label in summary for label in labels)


def test_rates_are_taken_at_the_same_lags_above_rounding():
    k2s, lags = np.array([1, 2, 4, 8, 16, 30]), np.arange(33.0)
    log_error = np.where(k2s >= 2, -0.9 * k2s + 2, 99.0)
    result = {
        "k2s": k2s,
        "T": np.array(32),
        "x/error": np.exp(np.maximum(log_error, np.log(1e-7)))[None],
        "x/log_norm": np.where(lags <= 8, -0.7 * lags, 99.0)[None],
    }
    np.testing.assert_allclose(rates(result, "x"), [-0.9, -0.7])


def test_plot_redraws_from_the_folder_alone(finished):
    out, _ = finished
    figure = out / "figures" / "truncation_bias.png"
    drawn = figure.read_bytes()
    figure.unlink()
    redraw(plot, out)
    assert figure.read_bytes() == drawn
