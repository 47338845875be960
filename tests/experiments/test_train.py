"""Training from the command line: what a run leaves, in one process and as members of a sweep."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments import train
from experiments.common.run_folder import RunFolder
from experiments.common.task_ensemble import held_out_key
from rnn_jax import tasks
from rnn_jax.training import evaluate, restore

SMALL = {
    "task": "parity",
    "T": 4,
    "cell": "elman",
    "hidden_size": 4,
    "seeds": 2,
    "steps": 60,
    "evaluate_every": 20,
    "held_out_batches": 2,
    "solved": None,
}


@pytest.fixture(autouse=True, scope="module")
def as_on_the_command_line(optax_promotes):
    """Single precision."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory, as_on_the_command_line):
    """A run with telemetry, its config and its result."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = train.Config(out=out, telemetry=True, learning_rate=0.03, **SMALL)
    return config, train.main(config)


def test_a_run_leaves_curves_networks_and_what_training_did_to_gradients(run):
    config, result = run
    metrics, held_out = result["metrics"], result["metrics"]["held_out"]
    assert metrics["loss"].shape == (60, 2)
    assert metrics["state_log_norms"].shape == (60, 2, 4)
    np.testing.assert_array_equal(held_out["step"], [0, 20, 40, 60])
    assert held_out["loss"].shape == (4, 2)
    np.testing.assert_allclose(result["chance_loss"], np.log(2), rtol=1e-6)
    for phase in ("first", "best", "last"):
        assert all(values.shape == (2,) for values in result["laboratory"][phase].values())
        assert np.isfinite(result["laboratory"][phase]["largest_exponent"]).all()
    figures = {path.stem for path in (config.out / "figures").iterdir()}
    assert figures == {"learning_curves", "solved", "gradient_norms", "task", "telemetry"}
    assert [*(config.out / "tensorboard").iterdir()]
    assert not (config.out / "checkpoints").exists()
    summary = (config.out / "summary.md").read_text()
    assert "# elman on parity, T = 4" in summary
    assert "| λ₁" in summary


def test_the_best_network_is_the_one_of_the_best_evaluation(run):
    """Its held-out loss, computed anew, is the lowest of the curve."""
    config, result = run
    _, plan = train.prepare(config)
    like = jax.eval_shape(
        jax.vmap(lambda key: plan.cell.init(key, plan.task.input_size)),
        jax.random.split(jax.random.key(0), 2),
    )
    for name, losses in (
        ("best", result["metrics"]["held_out"]["loss"].min(0)),
        ("first", result["metrics"]["held_out"]["loss"][0]),
        ("last", result["metrics"]["held_out"]["loss"][-1]),
    ):
        params = restore(config.out / "networks" / f"{name}.npz", like)
        of_one = lambda p: evaluate(
            plan.cell, p, plan.held_out, key=held_out_key(), batches=config.held_out_batches
        )
        np.testing.assert_allclose(jax.vmap(of_one)(params).loss, losses, rtol=1e-5)


def test_members_of_one_program_are_the_runs_by_themselves(run, tmp_path):
    """Seeds, rates and levels of their own; to rounding."""
    config, alone = run
    seeds = [
        replace(config, out=tmp_path / str(n), seed=n, seeds=1, telemetry=False) for n in range(2)
    ]
    other = replace(seeds[1], out=tmp_path / "other", learning_rate=1e-4, clip_norm=None)
    train.STUDY.main_together([*seeds, other], tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()
    for n, one in enumerate(seeds):
        _, result = RunFolder(one.out).read()
        for metric in ("loss", "grad_norm"):
            got, expected = result["metrics"][metric][:, 0], alone["metrics"][metric][:, n]
            np.testing.assert_allclose(got, expected, rtol=1e-3)
        assert result["metrics"]["learning_rate"][0, 0] == np.float32(0.03)
    _, result = RunFolder(other.out).read()
    assert result["metrics"]["learning_rate"][0, 0] == np.float32(1e-4)
    assert result["metrics"]["clipped"].sum() == 0
    table = {(metric, step): value for metric, step, value in train.rows(result)}
    assert table["held_out_loss", 60] == result["metrics"]["held_out"]["loss"][-1, 0]
    np.testing.assert_allclose(table["loss", 20], result["metrics"]["loss"][:20].mean(), rtol=1e-6)


def test_data_sets_are_evaluated_on_their_test_part():
    _, plan = train.prepare(train.Config(task="sequential_digits"))
    key = jax.random.key(0)
    kept = tasks.sequential_digits(split="test", batch_size=32).batch(key, 3)
    for got, expected in zip(plan.held_out.batch(key, 3), kept, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"task": "nothing"}, "task"),
        ({"cell": "nothing"}, "cell"),
        ({"accumulate": 3}, "accumulate"),
        ({"solved": 1.5}, "solved"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"T": 0}, "T"),
    ],
)
def test_what_does_not_fit_is_named_before_a_folder_is_made(settings, named, tmp_path):
    with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
        train.main(train.Config(out=tmp_path / "run", **settings))
    assert not (tmp_path / "run").exists()
