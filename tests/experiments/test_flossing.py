"""The flossing experiment end to end at toy size, and the task that it sets."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flossing
from experiments.common.command_line import command_line
from experiments.flossing import ARMS, Config, main

pytestmark = [pytest.mark.usefixtures("optax_promotes"), pytest.mark.xdist_group("flossing")]

TOY = Config(
    delay=4,
    T=10,
    units=6,
    seeds=2,
    batch_size=4,
    steps=8,
    rounds=2,
    num_exponents=5,
    floss_steps=10,
    floss_every=1,
    learning_rate=0.01,
    tested=8,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    # The experiment runs in float32.
    with jax.enable_x64(False):
        return out, main(dataclasses.replace(TOY, out=out))


def test_the_run_folder(finished):
    out, result = finished
    assert json.loads((out / "config.json").read_text())["config"]["delay"] == 4
    summary = (out / "summary.md").read_text()
    for arm in ARMS:
        assert f"| {arm}" in summary
        assert result[arm]["loss"].shape == (3, 2)
        assert result[arm]["after"].shape == (6, 2)
        assert np.isfinite(result[arm]["loss"]).all()
    assert result["steps"].tolist() == [0, 4, 8]
    for suffix in ("png", "svg"):
        assert (out / "figures" / f"flossing.{suffix}").stat().st_size > 5000


def test_arms_differ_in_what_they_are_said_to_differ_in(finished):
    """The same start and sequences; flossing brings Σ λ² of the K largest down."""
    _, result = finished
    unflossed = ("nothing", "Ω", "orthogonality")
    for arm in unflossed:
        np.testing.assert_array_equal(result[arm]["loss"][0], result["nothing"]["loss"][0])
        np.testing.assert_array_equal(result[arm]["before"], result["nothing"]["before"])
    once, again = "flossed before", "flossed before and during"
    np.testing.assert_array_equal(result[once]["loss"][:2], result[again]["loss"][:2])
    finals = {float(result[arm]["loss"][-1, 0]) for arm in ARMS}
    assert len(finals) == len(ARMS)
    squares = lambda exponents: np.square(exponents[: TOY.num_exponents]).mean(0)
    before, flossed = result["nothing"]["before"], result[once]["before"]
    assert (squares(flossed) < 0.9 * squares(before)).all()


def test_plot_redraws_from_the_folder_alone(finished, monkeypatch):
    out, _ = finished
    figure = out / "figures" / "flossing.png"
    drawn = figure.read_bytes()
    figure.unlink()
    monkeypatch.setattr("sys.argv", ["flossing", "plot", str(out)])
    command_line(Config, main, flossing.plot, "Flossing.")
    assert figure.read_bytes() == drawn


def test_the_task():
    """x_{t−d}, and the exclusive or of x_{t−d/2} and x_{t−d}: nothing else of it is read."""
    d = TOY.delay
    xs, targets = flossing.bits(TOY, jax.random.key(0), 50)
    np.testing.assert_array_equal(targets[d:], xs[:-d])
    assert 0.4 < xs.mean() < 0.6
    xs, targets = flossing.bits(dataclasses.replace(TOY, task="xor"), jax.random.key(0), 50)
    np.testing.assert_array_equal(targets[d:], xs[d // 2 : -d // 2] != xs[:-d])
    silent = jnp.zeros_like(xs)  # logits of a network that knows nothing
    loss = flossing.task_loss(TOY, silent, targets)
    np.testing.assert_allclose(loss, flossing.MEMORYLESS, rtol=1e-6)
    with pytest.raises(ValueError, match=r"task: got str 'sum'; expected one of copy, xor"):
        main(dataclasses.replace(TOY, task="sum"))
