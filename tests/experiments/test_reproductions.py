"""What studies of published results share: settings, arms, checks beside papers, the page."""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import adding, clipping, copying, reproduce, sweep, temporal_order, turing
from experiments.common import laboratory, programs
from experiments.common.arms import at_end, best, means_between, sequences_to_solve
from experiments.common.checks import at_most, checks_table, published
from experiments.common.collections import COLLECTIONS, PUBLISHED, THEORY
from experiments.common.command_line import command_line, defaults
from experiments.common.grid import runs_of
from experiments.common.norms import rate_of
from experiments.common.numbers import flatten, nest
from experiments.common.report import escaped
from experiments.common.run_folder import RunFolder
from experiments.common.settings import Reproduction
from rnn_jax import cells
from rnn_jax.gradients import (
    jacobian_log_norms,
    lyapunov_spectrum,
    product_bound,
    step_jacobians,
)

ROOT = Path(reproduce.__file__).parents[1]
REPRODUCTIONS = [
    name for name in PUBLISHED.studies if issubclass(reproduce.study_of(name).config, Reproduction)
]


@pytest.fixture(autouse=True, scope="module")
def as_on_the_command_line(optax_promotes):
    """Single precision."""
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_both_settings_are_whole_and_differ(name, monkeypatch):
    config = reproduce.study_of(name).config
    reduced, paper = (config(setting=setting) for setting in ("reduced", "paper"))
    for settings in (reduced, paper):
        settings.check()
    assert config() == reduced
    assert dataclasses.replace(paper, setting="reduced") != reduced
    # Options stand beside the setting's values, and go over them.
    monkeypatch.setattr("sys.argv", [name, "--setting", "paper", "--seed", "3"])
    assert defaults(config, sys.argv[1:]) == paper
    field = next(f.name for f in dataclasses.fields(config) if f.metadata)
    value = getattr(paper, field)
    assert getattr(config(**{field: value}), field) == value


RESULT = {
    "step": np.array([0, 10, 20, 30]),
    "batch_size": np.array(5),
    "held_out": {
        "loss": np.array(
            [[3.0, 3.0, 3.0], [2.0, np.nan, 2.0], [1.0, np.nan, 2.5], [1.5, 4.0, 3.0]]
        ),
        "solved": np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 1.0], [1.0, 0.0, 0.9], [0.8, 0.1, 0.2]]),
    },
}


def test_what_is_told_of_an_arm():
    """The first evaluation that solves; the least loss, NaN apart; the end."""
    np.testing.assert_array_equal(sequences_to_solve(RESULT, 0.99), [100, np.inf, 50])
    np.testing.assert_array_equal(best(RESULT, "loss"), [1.0, 3.0, 2.0])
    np.testing.assert_array_equal(best(RESULT, "solved"), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(at_end(RESULT, "solved"), [0.8, 0.1, 0.2])
    values = np.arange(12.0).reshape(6, 2)
    between = means_between(values, np.array([0, 2, 6]))
    np.testing.assert_array_equal(between, [values[:2].mean(0), values[2:].mean(0)])
    assert means_between(values[:0], np.array([0])).shape == (0, 2)


def test_a_published_number_beside_ours():
    """A verdict is about the median; networks that never got there count as infinitely late."""
    late = published("needed", [1e4, np.inf, 2e4], "74,000", "a paper", high=1e5)
    assert late.measured == 2e4
    assert late.holds
    never = published("needed", [np.inf, np.inf, 2e4], "74,000", "a paper", high=1e5)
    assert not never.holds
    assert not published("rate", [np.nan, 1.0], "1", "a paper", low=0).holds
    shown = checks_table([late, never, at_most("error", 0.1, 1)])
    assert "20,000 (10,000–inf)" in shown
    assert "| 74,000" in shown
    assert "≤ 100,000" in shown
    assert "2 of 3 hold." in shown
    exact = published("failures", 0, "0", "a paper", low=0, high=0)
    assert exact.holds
    assert "| 0 " in checks_table([exact])


@pytest.mark.parametrize("make", [cells.elman, cells.lstm, cells.lru])
def test_the_laboratory_says_what_its_parts_say(make):
    """Of products of Jacobians by way of a cell that has them, for any cell."""
    cell = cells.readout(make(5), 3)
    keys = jax.random.split(jax.random.key(0), 2)
    networks = jax.vmap(lambda key: cell.init(key, 4))(keys)
    xs = jax.random.normal(jax.random.key(1), (12, 3, 4))
    found = laboratory.measure(cell, {"now": networks}, xs, window=8, sequences=2)["now"]
    for n in range(2):
        p = jax.tree.map(lambda leaf, n=n: leaf[n], networks)
        tables = [jacobian_log_norms(cell, p, xs[:8, b]) for b in range(2)]
        rate = np.mean([rate_of(table) for table in tables])
        spectrum = lyapunov_spectrum(cell, p, xs[:, :2], num_exponents=1, interval=1)
        bounds = product_bound(step_jacobians(cell, p, xs[:8, :2]))[-1, 0] / 8
        # A slope over lags, of norms that are found to this much.
        np.testing.assert_allclose(found["decay_rate"][n], rate, atol=laboratory.NORM_RTOL / 2)
        expected = spectrum.exponents[0].mean()
        np.testing.assert_allclose(found["largest_exponent"][n], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found["bound_rate"][n], bounds.mean(), rtol=1e-4, atol=1e-6)
        assert found["bound_rate"][n] >= found["largest_exponent"][n] - 1
        rate = found["decay_rate"][n]
        horizon = np.inf if rate >= 0 else -1 / rate
        np.testing.assert_allclose(found["horizon"][n], horizon, rtol=1e-4)


def test_programs_are_kept_meanwhile_and_not_after(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    names = programs.SETTINGS
    before = [getattr(jax.config, name) for name in names]
    programs._use(None, 1.0)
    try:
        with programs.programs_kept(tmp_path / "programs"):
            jax.jit(lambda x: jnp.sin(x) * 3.25 - 7)(jnp.ones(3)).block_until_ready()
        assert list((tmp_path / "programs").glob("*/*-cache"))
        assert [getattr(jax.config, name) for name in names] == [None, 1.0]
        programs._use(str(tmp_path / "mine"), 0.0)
        with programs.programs_kept(tmp_path / "other"):
            assert getattr(jax.config, names[0]) == str(tmp_path / "mine")
    finally:
        programs._use(*before)


@pytest.fixture(scope="module")
def toy_study(tmp_path_factory, as_on_the_command_line):
    """The study of copying at toy size, of two cells: its config and result."""
    few = {name: copying.COMPARED[name] for name in ("Elman", "orthogonal", "LRU")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "COMPARED", few)
        out = tmp_path_factory.mktemp("runs") / "copying"
        sizes = {"seeds": 2, "lengths": (3,), "hidden_size": 4, "batch_size": 4}
        config = copying.Config(out=out, sequences=160, evaluations=2, **sizes)
        return config, copying.main(config)


def test_a_comparison_leaves_what_page_and_figures_need(toy_study):
    config, result = toy_study
    of = result["arms"]["copying"]
    assert list(of) == ["Elman", "orthogonal", "LRU"]
    for lengths in of.values():
        arm = lengths["T = 3"]
        np.testing.assert_array_equal(arm["step"], [0, 20, 40])
        assert arm["held_out"]["loss"].shape == (3, 2)
        assert arm["training"]["grad_norm"].shape == (2, 2)
        assert set(arm["laboratory"]) == {"first", "best"}
        np.testing.assert_allclose(arm["chance_loss"], 10 * np.log(8) / 23, rtol=1e-6)
    summary = (config.out / "summary.md").read_text()
    assert "Not judged without: 20,000 sequences." in summary
    assert max(map(len, summary.splitlines())) <= 100
    assert not (config.out / "checkpoints").exists()
    # As it is read again: every name in its place.
    _, again = RunFolder(config.out).read()
    assert checks_table(copying.checks(again)) in summary
    assert set(copying.plot(again)) == {"learning"}
    assert (config.out / "figures" / "learning.png").stat().st_size > 5000


def test_the_first_networks_of_an_arm_are_those_of_their_seeds(toy_study):
    """A seed has the same network whatever else is trained beside it."""
    config, result = toy_study
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "COMPARED", {"LRU": copying.COMPARED["LRU"]})
        patch.setattr(copying, "checks", lambda result: [])
        alone = dataclasses.replace(config, out=config.out / "alone", seeds=1, seed=1)
        study = dataclasses.replace(copying.STUDY, checks=lambda result: [])
        other = study.main(alone)
    one, both = (r["arms"]["copying"]["LRU"]["T = 3"]["held_out"] for r in (other, result))
    np.testing.assert_allclose(one["loss"][:, 0], both["loss"][:, 1], rtol=1e-4)


def test_temporal_order_is_drawn_as_in_the_paper():
    for start, std, radius in (("basic tanh", 0.1, None), ("smart tanh", 0.01, 0.95)):
        cell = temporal_order.cell_of(start, 50, 4)
        params = cell.init(jax.random.key(0), 8)
        W, U = np.asarray(params.cell.W), np.asarray(params.cell.U)
        np.testing.assert_allclose(U.std(), std, rtol=0.1)
        assert not np.asarray(params.cell.b).any()
        if radius is None:
            np.testing.assert_allclose(W.std(), std, rtol=0.1)
        else:
            assert ((W != 0).sum(1) == 15).all()
            np.testing.assert_allclose(np.abs(np.linalg.eigvals(W)).max(), radius, rtol=1e-4)


def test_the_runner_leaves_what_is_finished_and_names_what_fails(tmp_path, monkeypatch, capfd):
    small = {"longest": 16, "words": 4, "beaver_steps": 60}
    broken = {"resolution": -1}
    collection = PUBLISHED._replace(studies={"turing": small, "error_surface": broken})
    monkeypatch.setitem(COLLECTIONS, "published", collection)
    settings = reproduce.Reproduce(
        out=tmp_path / "runs",
        page=tmp_path / "PAGE.md",
        keep=tmp_path / "kept",
        only=("turing",),
        seeds=(0, 3),
    )
    assert reproduce.main(settings) == 0
    page = (tmp_path / "PAGE.md").read_text()
    kept = tmp_path / "kept"
    assert page == reproduce.page_kept(collection, kept, tmp_path)
    assert page.startswith("# Reproductions\n")
    assert "| claim | source | published | ours |" in page
    assert "python -m experiments.turing --longest 16 --words 4" in page
    # What is kept names no folder and no machine, and other base seeds stand beside.
    record = json.loads((kept / "turing" / "config.json").read_text())
    assert not {"command", "platform"} & set(record)
    assert str(tmp_path) not in json.dumps(record)
    there = tmp_path / "runs" / "seed 3" / "turing"
    _, other = RunFolder(there).read()
    assert RunFolder(there).record()["config"]["seed"] == 3
    assert "| base seeds 3 |" in page
    for check in turing.checks(other):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {check.claim} |"))
        assert row.endswith(f"| {check.measured:.4g}: {int(check.holds or 0)} of 1 |")
    figures = sorted((kept / "turing").glob("*.png"))
    assert figures
    for figure in figures:
        assert f"(kept/turing/{figure.name})" in page
    before = (tmp_path / "runs" / "turing" / "config.json").stat().st_mtime_ns
    assert reproduce.main(dataclasses.replace(settings, only=("turing", "error_surface"))) == 1
    assert (tmp_path / "runs" / "turing" / "config.json").stat().st_mtime_ns == before
    said = capfd.readouterr()
    assert "turing: finished" in said.out
    assert "Failed: error_surface" in said.err
    # A finished run of other settings is no run of these.
    monkeypatch.setitem(
        COLLECTIONS, "published", collection._replace(studies={"turing": {**small, "words": 5}})
    )
    with pytest.raises(ValueError, match=r"^out: got .*words = 4; expected"):
        reproduce.main(settings)
    assert (tmp_path / "PAGE.md").read_text() == page


def test_the_studies_of_theory_are_a_collection_of_their_own(tmp_path, monkeypatch):
    """Their page, of two at toy size; its numbers stand beside theory."""
    toy = {"memory_without_explosion": {"memories": 0.2}, "error_surface": {"resolution": 20}}
    monkeypatch.setitem(COLLECTIONS, "theory", THEORY._replace(studies=toy))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    settings = reproduce.defaults(["--studies", "theory"])
    settings.check()
    assert settings.only == tuple(toy)
    assert reproduce.main(settings) == 0
    page = Path("docs/studies.md").read_text()
    assert page.startswith("# Theory, measured\n")
    assert "in [studies](studies)" in page
    assert "| claim | source | theory | ours |" in page
    for name, sizes in toy.items():
        study = reproduce.study_of(name)
        _, result = RunFolder(Path("docs/studies") / name).read()
        for check in study.checks(result):
            assert f"| {escaped(check.claim)} | {check.source or 'theory'} |" in page
        ((field, value),) = sizes.items()
        assert f"python -m experiments.{name} --{field} {value}`" in page
        for figure in study.plot(result):
            assert f"(studies/{name}/{figure}.png)" in page
            assert (Path("docs/studies") / name / f"{figure}.png").exists()
    with pytest.raises(
        ValueError, match=r"^only: got str 'adding'; expected one of memory_without"
    ):
        dataclasses.replace(settings, only=("adding",)).check()


@pytest.mark.parametrize("studies", COLLECTIONS)
def test_the_options_of_a_collection_stand_beside_its_folders(studies):
    settings = reproduce.defaults(["--out", "x", "--studies", studies])
    collection = COLLECTIONS[studies]
    settings.check()
    assert (settings.out, settings.page, settings.keep) == collection[1:4]
    for name in settings.only:
        for config in reproduce.configs_of(settings, name):
            config.check()
    assert reproduce.defaults(["--studies", "practice"]) == reproduce.Reproduce()


def test_a_sweep_of_a_setting_has_the_sizes_of_that_setting(tmp_path):
    study = temporal_order.STUDY
    arguments = ["--setting", "paper", "--learning-rate", "0.01", "0.02", "--out", str(tmp_path)]
    _, base, values = sweep.parsed(study, arguments)
    runs = runs_of(base, values, tmp_path)
    assert len(runs) == 2
    paper = temporal_order.Config(setting="paper")
    for run, rate in zip(runs, (0.01, 0.02), strict=True):
        assert run.config == dataclasses.replace(paper, learning_rate=rate, out=run.config.out)


def test_a_setting_that_there_is_not_is_named(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["adding", "--setting", "large"])
    with pytest.raises(SystemExit):
        command_line(adding.Config, adding.main, adding.plot, "A study.")
    said = capsys.readouterr().err
    assert "large" in said
    assert "reduced" in said


def test_one_threshold_is_the_clipped_one(tmp_path):
    """The series beside the training without clipping are those of a threshold."""
    sizes = {"seeds": 2, "T": 10, "steps": 20, "hidden_size": 4, "batch_size": 4}
    config = clipping.Config(out=tmp_path / "run", norms=(0.5,), values=(0.01,), **sizes)
    result = clipping.main(config)
    assert result["by norm"]["series"]["clipped"]["threshold"] == 0.5
    assert result["by value"]["series"]["clipped"]["threshold"] == 0.01
    assert np.isinf(result["by norm"]["series"]["none"]["threshold"])
    failed = [check.claim for check in clipping.checks(result) if check.holds is False]
    assert failed == []
    # What clipping must do by its definition is judged at any size, and fails where it is not so.
    for way, key, claim in (
        ("by norm", "after", "largest norm after clipping / threshold"),
        ("by norm", "path", "path / (learning rate"),
        ("by value", "after", "by value / (threshold"),
        ("by value", "distance", "distance from the start / path"),
    ):
        numbers = flatten(result)
        wrong = nest(numbers | {f"{way}/{key}": 1e3 * np.asarray(numbers[f"{way}/{key}"])})
        broken = [check.claim for check in clipping.checks(wrong) if check.holds is False]
        assert any(claim in name for name in broken), (claim, broken)
