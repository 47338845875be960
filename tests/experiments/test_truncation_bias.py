"""Truncation bias at toy size, and a study that redraws."""

import numpy as np
import pytest

from experiments import truncation_bias
from experiments.common.run_folder import redraw
from experiments.truncation_bias import Config, main, networks, plot, rates

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
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return out, main(Config(out=out, **TOY))


def test_what_is_measured_of_each_network(finished):
    out, result = finished
    labels = [label for kinds in networks(Config(**TOY), 3) for label in kinds]
    assert list(result["labels"]) == labels
    for label in labels:
        for phase in truncation_bias.PHASES:
            measured = result[label][phase]
            error = measured["error"]
            assert error.shape == (2, 7)
            assert (error[:, -1] < 1e-5).all()  # k2 = T is full BPTT
            np.testing.assert_allclose(measured["cosine"][:, -1], 1, atol=1e-5)
            assert (error[:, 0] > 1e-3).all()
            assert (measured["log_norm"][:, 0] == 0).all()
    contracting, _, chaotic, _ = (
        np.median(result[label]["before training"]["error"], 0) for label in labels
    )
    assert contracting[3] < 0.1 < 0.3 < chaotic[3]
    summary = (out / "summary.md").read_text()
    assert all(label.removeprefix("Elman, ") in summary for label in labels)
    assert max(map(len, summary.splitlines())) <= 100


def test_rates_are_taken_at_the_same_lags_above_rounding():
    k2s, lags = np.array([1, 2, 4, 8, 16, 30]), np.arange(33.0)
    log_error = np.where(k2s >= 2, -0.9 * k2s + 2, 99.0)
    result = {
        "k2s": k2s,
        "T": np.array(32),
        "x": {
            "after": {
                "error": np.exp(np.maximum(log_error, np.log(1e-7)))[None],
                "log_norm": np.where(lags <= 8, -0.7 * lags, 99.0)[None],
            }
        },
    }
    np.testing.assert_allclose(rates(result, "x", "after"), [-0.9, -0.7])


def test_plot_redraws_from_the_folder_alone(finished):
    out, _ = finished
    figure = out / "figures" / "truncation_bias.png"
    drawn = figure.read_bytes()
    figure.unlink()
    redraw(plot, out)
    assert figure.read_bytes() == drawn
