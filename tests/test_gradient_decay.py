"""The study end to end at toy size: what it leaves, that it redraws, that it resumes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import gradient_decay
from experiments.common.command_line import command_line
from experiments.gradient_decay import Config, main
from rnn_jax import cells, plotting
from rnn_jax.tasks import load_text
from rnn_jax.training import restore

# One worker, so that the toy study runs once.
pytestmark = [pytest.mark.usefixtures("optax_promotes"), pytest.mark.xdist_group("study")]

TOY = {"hidden_size": 6, "seeds": 2, "T": 8, "batch_size": 4, "steps": 12, "gains": (0.5, 1.5)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, optax_promotes):
    out = tmp_path_factory.mktemp("runs") / "toy"
    return out, main(Config(out=out, **TOY))


def test_the_run_folder(finished):
    out, result = finished
    record = json.loads((out / "config.json").read_text())
    assert record["config"]["hidden_size"] == 6
    assert record["inputs"]["characters"] > 400_000
    assert len(record["inputs"]["sha256"]) == 64
    summary = (out / "summary.md").read_text()
    for label in ("Elman, gain 0.5", "Elman, gain 1.5", "LSTM"):
        assert label in summary
        assert result[f"{label}/after training/measured"].shape == (2, 9, 9)
        assert np.isfinite(result[f"{label}/clipped/bits_per_character"]).all()
        assert (result[f"{label}/after training/product_bound_violations"] == 0).all()
    assert (result["Elman, gain 1.5/after training/power_bound_violations"] == 0).all()
    assert "LSTM/after training/power_bound" not in result
    assert not (out / "checkpoints").exists()
    assert max(map(len, summary.splitlines())) <= 100
    # Which state it is: an LSTM's is c and h together.
    assert str(result["LSTM/state"]) == "(c, h)"
    assert str(result["Elman, gain 0.5/state"]) == "h"
    names = {"decay", "loss_to_state", "learning_curves", "gradient_norms"}
    for name in names:
        for suffix in ("png", "svg"):
            assert (out / "figures" / f"{name}.{suffix}").stat().st_size > 5000


def test_plot_redraws_from_the_folder_alone(finished, monkeypatch):
    out, _ = finished
    figure = out / "figures" / "decay.png"
    drawn = figure.read_bytes()
    figure.unlink()
    monkeypatch.setattr("sys.argv", ["gradient_decay", "plot", str(out)])
    command_line(Config, main, gradient_decay.plot, "The study.")
    assert figure.read_bytes() == drawn


def test_a_killed_study_resumes(finished, tmp_path, monkeypatch):
    _, expected = finished

    def killed(*_):
        raise KeyboardInterrupt

    config = Config(out=tmp_path, **TOY)
    with monkeypatch.context() as patch:
        patch.setattr(gradient_decay, "_measure", killed)
        with pytest.raises(KeyboardInterrupt):
            main(config)
    assert (tmp_path / "checkpoints").exists()
    result = main(config)
    assert result.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(result[name], values, err_msg=name)


def test_bands_by_lag():
    table = np.full((3, 5, 5), -np.inf)
    for seed in range(3):
        for t in range(5):
            for k in range(t + 1):
                table[seed, t, k] = seed - 2.0 * (t - k)
    np.testing.assert_array_equal(
        plotting.band_by_lag(table, (0, 50, 100)),
        np.array([0, 1, 2])[None, :] - 2.0 * np.arange(5)[:, None],
    )


def minimal_cell(hidden_size):
    """A user's factory: a plain function of one step, and how its parameters start."""

    def step(p, h, x):
        h = 0.5 * h + 0.5 * jnp.tanh(p["W"] @ h + p["U"] @ x)
        return h, h

    def init(key, input_size):
        W, U = (jax.random.normal(k, (hidden_size, hidden_size)) / 4 for k in jax.random.split(key))
        return {"W": W, "U": jnp.resize(U, (hidden_size, input_size))}

    return cells.from_function(step, jnp.zeros(hidden_size), init)


def test_trained_networks_are_kept(finished):
    """What was trained is restored, and is as good as it was said to be."""
    out, result = finished
    text = load_text()
    (cell,) = gradient_decay.groups(Config(out=out, **TOY), len(text.vocabulary))[1].cells
    init = lambda key: cell.init(key, len(text.vocabulary))
    like = jax.vmap(init)(jax.random.split(jax.random.key(0), TOY["seeds"]))
    bits = jax.jit(jax.vmap(lambda p: gradient_decay._bits_per_character(cell, text, p)))
    for arm in gradient_decay.ARMS:
        params = restore(out / "networks" / f"LSTM, {arm}.npz", like)
        expected = result[f"LSTM/{arm}/bits_per_character"]
        np.testing.assert_allclose(bits(params), expected, rtol=1e-5)


@pytest.mark.parametrize("cell", ["antisymmetric", f"{__name__}:minimal_cell"])
def test_a_cell_of_ones_own_is_studied(cell, tmp_path):
    with jax.enable_x64(False):
        result = main(Config(cell=cell, out=tmp_path, **{**TOY, "gains": None}))
    assert list(result["labels"]) == [cell]
    assert result[f"{cell}/after training/measured"].shape == (2, 9, 9)
    assert (result[f"{cell}/after training/product_bound_violations"] == 0).all()
    assert np.isfinite(result[f"{cell}/clipped/bits_per_character"]).all()
    assert (tmp_path / "figures" / "decay.png").stat().st_size > 5000


def test_a_cell_that_is_not_there_stops_the_study_before_it_begins(tmp_path):
    with pytest.raises(ValueError, match=r"^cell: got .*; expected .+\. [A-Z]"):
        main(Config(cell="lsmt", out=tmp_path / "run", **{**TOY, "gains": None}))
    assert not (tmp_path / "run").exists()
