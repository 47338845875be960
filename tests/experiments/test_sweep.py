"""Sweeps: which runs there are, how they are grouped, what is left when some end badly."""

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from experiments import sweep
from experiments.common.checks import at_most
from experiments.common.grid import groups_of, runs_of
from experiments.common.settings import Positive, Seed, Settings, Size
from experiments.common.study import Study, Together
from experiments.figures.sweep import figure_of
from tests.experiments.test_figures import assert_all_is_inside

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Config(Settings):
    out: Path = Path("runs/fake")
    rate: Positive = 0.5
    kind: Literal["a", "b"] = "a"
    limit: Positive | None = None
    sizes: tuple[Size, ...] = (1, 2)
    fail: bool = False
    seed: Seed = 0


def numbers(config):
    if config.fail:
        raise RuntimeError("it broke")
    rate = config.rate * (2 if config.kind == "b" else 1) + config.seed
    return {"value": np.array(rate), "curve": rate / (1.0 + np.arange(3))}


TOGETHER = []


def measured_together(configs, checkpoints):
    TOGETHER.append([config.seed for config in configs])
    return [(numbers(config), {}) for config in configs]


def study(**how):
    return Study(
        "A study that costs nothing.",
        Config,
        numbers,
        lambda result: [at_most("the value", float(result["value"]), 1)],
        lambda result: "A table.",
        lambda result: {},
        **how,
    )


@pytest.fixture
def fake(monkeypatch):
    """Have `experiments.sweep` find this study."""
    found = {"study": study()}
    monkeypatch.setattr(sweep, "study_named", lambda name: found["study"])
    TOGETHER.clear()
    return found


def test_every_combination_is_a_run_with_a_name(tmp_path):
    values = {"rate": (0.1, 0.2), "kind": ("a",), "seed": (0, 1, 2)}
    runs = runs_of(Config(sizes=(7,)), values, tmp_path)
    names = [run.name for run in runs]
    assert names[:2] == ["rate=0.1,sizes=7", "rate=0.1,sizes=7,seed=1"]
    assert len({run.config.out for run in runs}) == 6
    assert all(run.config.sizes == (7,) for run in runs)
    groups = groups_of(runs, ("seed",), 2)
    assert [[run.config.seed for run in group] for group in groups] == [[0, 1], [2]] * 2
    assert all(len({run.config.rate for run in group}) == 1 for group in groups)
    assert [len(group) for group in groups_of(runs, (), 64)] == [1] * 6
    (alone,) = runs_of(Config(), {"rate": (0.1,)}, tmp_path)
    assert alone.name == "rate=0.1"
    assert runs_of(Config(), {}, tmp_path)[0].name == "defaults"
    assert runs_of(Config(out=tmp_path, kind="ü" * 99), {}, tmp_path)[0].name.isascii()
    long = [runs_of(Config(sizes=tuple(range(n))), {}, tmp_path)[0].name for n in (99, 100)]
    assert max(map(len, long)) == 150
    assert long[0] != long[1]
    with pytest.raises(ValueError, match=r"^rate: got .*; expected each value once"):
        runs_of(Config(), {"rate": (0.1, 0.1)}, tmp_path)


def test_the_table_has_a_row_for_each_number(fake, tmp_path, capsys):
    args = ["--rate", "0.1", "0.2", "--kind", "a", "b", "--limit", "None", "3", "--seeds", "2"]
    table = sweep.main("fake", [*args, "--sizes", "3", "4", "--out", str(tmp_path)])
    assert len(table["run"]) == 16
    for n in range(16):
        rate = table["rate"][n] * (2 if table["kind"][n] == "b" else 1) + table["seed"][n]
        assert table["value"][n] == rate
        assert table["metric"][n] == "the value"
        assert math.isnan(table["step"][n])
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == table["value"]
    with np.load(tmp_path / "table.npz") as arrays:
        assert arrays["value"].tolist() == table["value"]
        assert arrays["limit"].tolist() == [str(limit) for limit in table["limit"]]
    assert (tmp_path / "figures" / "sweep.png").exists()
    out = capsys.readouterr().out
    assert "16 runs: 0 finished, 16 left" in out
    assert "rate = 0.1, kind = a, limit = None" in out
    record = json.loads((tmp_path / "sweep.json").read_text())
    assert record["settings"]["sizes"] == [3, 4]
    assert record["settings"]["rate"] == [0.1, 0.2]


def test_runs_of_one_program_are_measured_together_and_more_seeds_join_them(fake, tmp_path):
    fake["study"] = study(together=Together(("seed", "rate"), measured_together))
    go = lambda *args: sweep.main("fake", [*args, "--out", str(tmp_path)])
    go("--kind", "a")
    TOGETHER.clear()
    table = go("--kind", "a", "b", "--seeds", "3")
    assert TOGETHER == [[1, 2], [0, 1, 2]]
    assert sorted(table["value"]) == [0.5, 1, 1.5, 2, 2.5, 3]
    table = go("--kind", "a", "b", "--seeds", "5", "--together", "2")
    assert TOGETHER[2:] == [[3, 4], [3, 4]]
    assert len(table["run"]) == 10
    again = go("--kind", "a", "b", "--seeds", "5")
    assert again["value"] == table["value"]
    assert len(TOGETHER) == 4


def test_other_values_join_the_runs_that_are_there(fake, tmp_path):
    """Whatever varied in the sweep before: the table is of all runs of the folder."""
    go = lambda *args: sweep.main("fake", [*args, "--out", str(tmp_path)])
    go("--rate", "0.1", "0.2")
    table = go("--rate", "0.2", "--seeds", "2")
    assert table["rate"] == [0.2, 0.2, 0.1]
    assert table["seed"] == [0, 1, 0]
    assert table["value"] == [0.2, 1.2, 0.1]
    table = go("--kind", "b")
    assert list(table) == ["run", "rate", "kind", "seed", "metric", "step", "value"]
    assert table["value"] == [1.0, 0.1, 0.2, 1.2]
    assert len(list((tmp_path / "runs").iterdir())) == 4
    with pytest.raises(ValueError, match=r"^out: got .*a sweep of fake; expected"):
        sweep.main("another", ["--out", str(tmp_path)])


def test_a_finished_run_of_other_settings_is_never_taken_for_this_sweeps(fake, tmp_path):
    """As after the experiment's defaults, which names leave out, have changed."""
    go = lambda: sweep.main("fake", ["--seed", "1", "2", "--out", str(tmp_path)])
    go()
    file = tmp_path / "runs" / "seed=1" / "config.json"
    record = json.loads(file.read_text())
    record["config"]["rate"] = 0.7
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"^out: got .*seed=1, a run with rate = 0.7; expected"):
        go()


def test_a_run_that_has_finished_meanwhile_is_left_as_it_is(fake, tmp_path):
    """As where a process has outlived the sweep that began it, and a second sweep has it listed."""
    sweep.main("fake", ["--seeds", "2", "--out", str(tmp_path)])
    group = runs_of(Config(), {"seed": (0, 1)}, tmp_path)
    before = (tmp_path / "runs" / "defaults" / "config.json").stat().st_mtime_ns
    sweep.run_group("fake", group[:1], tmp_path / "checkpoints")
    sweep.run_group("fake", group, tmp_path / "checkpoints")
    assert (tmp_path / "runs" / "defaults" / "config.json").stat().st_mtime_ns == before


def test_a_run_that_fails_ends_no_other(fake, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep.main("fake", ["--fail", "True", "False", "--seeds", "2", "--out", str(tmp_path)])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "fail=True,seed=1: it broke" in said.err
    assert "4 of 4 runs" in said.out
    with open(tmp_path / "table.csv", newline="") as file:
        assert [row["run"] for row in csv.DictReader(file)] == [
            "defaults",
            "seed=1",
        ]


def test_what_does_not_fit_is_named(fake, tmp_path):
    out = ["--out", str(tmp_path / "out")]
    for args, named in (
        (["--rate", "-1", "2"], "rate"),
        (["--rate"], "rate"),
        (["--seeds", "0"], "seeds"),
        (["--seeds", "2", "--seed", "1", "2"], "seeds"),
        (["--workers", "0"], "workers"),
    ):
        with pytest.raises(ValueError, match=rf"^{named}: got .*; expected"):
            sweep.main("fake", args + out)
    assert not (tmp_path / "out").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"^out: got .*notes.txt"):
        sweep.main("fake", ["--out", str(tmp_path / "other")])


def test_the_experiment_has_to_be_one():
    for name in ("nothing", "sweep", "common", "../train"):
        with pytest.raises(ValueError, match=rf"^experiment: got {name}; expected one of .*train"):
            sweep.study_named(name)
    assert sweep.study_named("train").together is not None


def test_every_study_can_be_swept():
    """Its settings can be read from a command line; the defaults are those of the study."""
    for name in sweep.names():
        found = sweep.study_named(name)
        _, base, values = sweep.parsed(found, [])
        defaults = dataclasses.asdict(found.config())
        assert {k: v[0] for k, v in values.items()}.items() <= defaults.items()
        assert dataclasses.asdict(base) == defaults
    _, base, values = sweep.parsed(sweep.study_named("gradient_decay"), ["--gains", "0.5", "2"])
    assert base.gains == (0.5, 2.0)
    assert "gains" not in values


def test_figures_of_curves_and_of_values():
    columns = {name: [] for name in ("run", "rate", "H", "seed", "metric", "step", "value")}
    for rate in (0.1, 0.2):
        for H in (8, 16, 32):
            for seed in range(3):
                for step in range(0, 50 - 10 * seed, 10):  # some end before others
                    row = (
                        f"{rate}{H}{seed}",
                        rate,
                        H,
                        seed,
                        "held_out_loss",
                        step,
                        rate / (1 + step),
                    )
                    for name, value in zip(columns, row, strict=True):
                        columns[name].append(value)
    curves = figure_of(columns, ["rate", "H", "seed"])
    assert [ax.get_title() for ax in curves.axes] == ["rate = 0.1", "rate = 0.2"]
    assert [len(ax.lines) for ax in curves.axes] == [3, 3]
    assert_all_is_inside(curves)
    dots = figure_of({**columns, "step": [math.nan] * len(columns["step"])}, ["rate", "H", "seed"])
    assert len(dots.axes) == 1
    assert_all_is_inside(dots)


def test_two_workers_killed_in_the_middle_lose_no_finished_run(tmp_path):
    """A real experiment in real processes: its table is that of one that ran them in a row."""
    command = [sys.executable, "-m", "experiments.sweep", "train", "--task", "parity", "--T", "4",
               "--cell", "elman", "--hidden-size", "3", "6", "--steps", "30", "--evaluate-every",
               "10", "--held-out-batches", "1", "--seeds", "2"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)

    def begin(out, *args):
        return subprocess.Popen(
            [*command, "--out", str(out), *args], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    alone = begin(tmp_path / "alone", "--together", "1")
    begun = begin(tmp_path / "out", "--workers", "2", "--together", "1")
    finished = lambda: list((tmp_path / "out").glob("runs/*/config.json"))
    deadline = time.monotonic() + 300
    while not finished() and begun.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.communicate()
    # Jobs are processes of their own, and outlive the one that began them.
    jobs = str(tmp_path / "out" / "jobs")
    while subprocess.run(["pkill", "-9", "-f", jobs], check=False).returncode == 0:
        time.sleep(0.2)
    kept = {file: file.stat().st_mtime_ns for file in finished()}
    assert kept
    again = begin(tmp_path / "out", "--workers", "2", "--together", "1")
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert f"4 runs: {len(kept)} finished" in said
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert len(list((tmp_path / "out" / "programs").glob("*/*-cache"))) > 20
    alone.communicate(timeout=300)
    tables = [np.load(tmp_path / name / "table.npz") for name in ("alone", "out")]
    for name in tables[0]:
        one, two = (table[name] for table in tables)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(one, two)
