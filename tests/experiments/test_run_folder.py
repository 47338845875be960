"""Run folders: of one run at a time, whole or unfinished, and read back with suspicion."""

import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.common import provenance, report, run_folder, run_report
from experiments.common.checks import at_least
from experiments.common.command_line import MISTAKE, NOT_A_NUMBER, STOPPED, command_line
from experiments.common.folder_lock import locked
from experiments.common.numbers import flatten, nest
from experiments.common.run_folder import FINISHED, RunFolder, redraw
from experiments.common.settings import Settings, Size
from experiments.common.study import Study
from rnn_jax import training
from rnn_jax.reporting import Line, Lines
from rnn_jax.training import fit

FORM = r"^{}: got .*{}.*; expected .+\. [A-Z]"


@dataclass(frozen=True)
class Config(Settings):
    """A study of a number."""

    number: Size = 1
    """What is studied."""


def plot(result):
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot(result["numbers"])
    return {"figure": figure}


def prepare(config):
    return {"data": "none"}, "arm"


def measure(config, arm):
    (RunFolder(config.out).checkpoints / arm).mkdir(exist_ok=True)
    networks = {"a/b": {"W": jnp.full(2, config.number, jnp.bfloat16)}}
    return {"numbers": np.full(3, float(config.number))}, networks


def checks(result):
    return [at_least("the number", result["numbers"][0], 1)]


def summarize(result):
    return f"# Number {result['numbers'][0]:.0f}"


DOC = "A study.\n\nClaim: none.\n\nAbout no time."
STUDY = Study(DOC, Config, measure, checks, summarize, plot, prepare)
main = STUDY.main


def run(monkeypatch, *arguments):
    """The command; its exit status."""
    monkeypatch.setattr("sys.argv", ["study", *map(str, arguments)])
    try:
        STUDY.command_line()
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture
def out(tmp_path):
    main(Config(out=tmp_path / "run", number=1))
    return tmp_path / "run"


def test_the_report_is_written_at_the_end_and_by_plot(out, monkeypatch):
    """With the study's own panels before what any result shows."""
    first = (out / "report.html").read_text()
    assert "number.npz" not in first
    assert "Number 1" in first
    (out / "report.html").unlink()
    assert run(monkeypatch, "plot", out) == 0
    assert (out / "report.html").read_text() == first
    lines = Lines("Own", "x", "y", {"": [Line("a", [1.0, 2.0])]})
    redraw(plot, out, lambda result: [lines])
    assert '<h2 id="heading-2">Own</h2>' in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda patch: patch.setitem(sys.modules, "plotly.offline", None), "Install it: pip"),
        (lambda patch: patch.setattr(run_report, "page_of_run", lambda *_: 1 / 0), "ZeroDivision"),
    ],
)
def test_a_run_is_finished_without_its_report(tmp_path, monkeypatch, capsys, broken, said):
    """And says so in one line; `plot` says why."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        broken(patch)
        main(Config(out=out))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "report.html" in line]
        assert line.startswith("No report.html was written")
        assert said in line
        with pytest.raises((ImportError, ZeroDivisionError)):
            redraw(plot, out, lambda result: [])
    assert {entry.name for entry in out.iterdir()} == set(FINISHED) - {"report.html"}
    assert run(monkeypatch, "plot", out) == 0
    assert {entry.name for entry in out.iterdir()} == set(FINISHED)


def numbers_of(out):
    """Which run's files are in a folder."""
    found = set()
    if (out / "config.json").exists():
        found.add(json.loads((out / "config.json").read_text())["config"]["number"])
    if (out / "numbers.npz").exists():
        found.add(int(np.load(out / "numbers.npz")["numbers"][0]))
    if (out / "summary.md").exists():
        found.add(int((out / "summary.md").read_text().split()[2]))
    return found


def test_what_is_recorded(out):
    record, numbers = RunFolder(out).read()
    assert record["experiment"] == "test_run_folder"
    assert record["config"]["number"] == 1
    assert record["inputs"] == {"data": "none"}
    assert Path(sys.orig_argv[0]).name in record["command"]
    assert {"rnn_jax", "python", "jax"} <= record["versions"].keys()
    assert record["commit"] is None or len(record["commit"].removesuffix("-dirty")) == 40
    assert "cpu" in record["devices"]
    assert record["platform"] == platform.platform()
    assert record["begun"].startswith("20")
    assert 0 <= record["seconds"] < 100
    assert record["arrays"] == {"numbers": "float64[3]"}
    np.testing.assert_array_equal(numbers["numbers"], 1)
    assert {entry.name for entry in out.iterdir()} == set(FINISHED)
    like = {"W": jnp.zeros(2, jnp.bfloat16)}
    restored = training.restore(out / "networks" / "a_b.npz", like)["W"]
    assert restored.dtype == jnp.bfloat16
    assert (restored == 1).all()
    with pytest.raises(FileNotFoundError, match=FORM.format("path", "nothing")):
        training.restore(out / "networks" / "nothing", like)


def test_a_commit_says_whether_the_tree_was_clean(tmp_path):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        done = subprocess.run(
            ("git", *who, *arguments), cwd=tmp_path, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert provenance.commit(tmp_path) is None
    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD")
    assert len(head) == 40
    assert provenance.commit(tmp_path) == head
    (tmp_path / "code.py").write_text("2")
    assert provenance.commit(tmp_path) == f"{head}-dirty"
    # Installed within a repository of something else.
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "code.py").write_text("3")
    assert provenance.commit(tmp_path / "site-packages") is None


def test_a_result_is_nested_in_memory_and_flat_on_disk(tmp_path):
    """Also where a group has an array of its own name, whichever of them comes first."""
    sizes = {"entropy": np.ones(2), "": np.arange(2)}
    result = {"a": {"b": {"c": np.zeros(1)}, "d": np.ones(3)}, "sizes": sizes}
    flat = flatten(result)
    assert list(flat) == ["a/b/c", "a/d", "sizes/entropy", "sizes"]
    for order in (list(flat), list(flat)[::-1]):
        assert jax.tree.all(
            jax.tree.map(np.array_equal, nest({path: flat[path] for path in order}), result)
        )
    out = tmp_path / "run"
    with RunFolder(out).running(Config(), {}) as folder:
        folder.finish(result, "", {})
    assert np.load(out / "numbers.npz").files == list(flat)
    record, found = RunFolder(out).read()
    assert record["arrays"]["sizes"] == "int64[2]"
    assert jax.tree.all(jax.tree.map(np.array_equal, found, result))


def test_a_finished_run_is_replaced_only_when_asked(out, monkeypatch, capsys):
    assert run(monkeypatch, "--out", out, "--number", 2) == MISTAKE
    assert "finished run" in capsys.readouterr().err
    assert numbers_of(out) == {1}
    (out / "networks" / "old").mkdir()
    assert run(monkeypatch, "--out", out, "--number", 2, "--overwrite") == 0
    assert numbers_of(out) == {2}
    assert {entry.name for entry in (out / "networks").iterdir()} == {"a_b.npz"}


def test_an_unfinished_run_of_other_settings_is_not_mixed_in(tmp_path):
    out = tmp_path / "run"
    folder = RunFolder(out)
    with folder.running(Config(out=out), {}):
        (folder.checkpoints / "arm").mkdir()
    # Elsewhere and with --overwrite it is the same run.
    moved = out.rename(tmp_path / "moved")
    with RunFolder(moved).running(Config(out=moved, overwrite=True), {}) as folder:
        assert (folder.checkpoints / "arm").is_dir()
    for config, inputs in ((Config(out=moved, number=2), {}), (Config(out=moved), {"data": 1})):
        with (
            pytest.raises(ValueError, match=FORM.format("out", "unfinished run")),
            RunFolder(moved).running(config, inputs),
        ):
            pass
    with RunFolder(moved).running(Config(out=moved, number=2, overwrite=True), {}) as folder:
        assert not (folder.checkpoints / "arm").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "figures.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=FORM.format("out", r"figures\.txt")):
        main(Config(out=tmp_path, overwrite=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["figures.txt"]


def test_the_second_run_in_a_folder_is_refused(tmp_path):
    out, message = tmp_path / "run", FORM.format("out", "which a run is using")
    with RunFolder(out).running(Config(), {"data": "none"}):
        with pytest.raises(BlockingIOError, match=message):
            main(Config(out=out))
        # It still is after one was refused.
        with pytest.raises(BlockingIOError, match=message):
            main(Config(out=out))
    # What a killed process leaves behind is no lock.
    (out / ".lock").write_text("1\n")
    main(Config(out=out))
    with locked(out), pytest.raises(BlockingIOError), locked(out):
        pass


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_that_is_killed_while_it_writes_leaves_no_mixture(tmp_path, monkeypatch, overwrite):
    """At each of the operations on the disk, in a new folder and over a finished run."""
    died = 0
    # What git does takes long, and is not tested here.
    monkeypatch.setattr(run_folder, "save", lambda path, tree: path.mkdir(parents=True))
    monkeypatch.setattr(provenance, "commit", lambda: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: path.write_bytes(b""))
    for at in range(1, 100):
        out = tmp_path / f"run {at}"
        if overwrite:
            main(Config(out=out, number=1))
        with monkeypatch.context() as patch:
            operations = iter(range(1, 1000))

            def deadly(function, operations=operations, at=at):
                def operate(*args, **options):
                    if next(operations) == at:
                        raise KeyboardInterrupt
                    return function(*args, **options)

                return operate

            for owner, name in (
                (Path, "rename"),
                (np, "savez_compressed"),
                (run_folder, "save"),
                (run_folder, "_remove"),
                (run_folder, "_write_json"),
                (Figure, "savefig"),
            ):
                patch.setattr(owner, name, deadly(getattr(owner, name)))
            try:
                main(Config(out=out, number=2, overwrite=overwrite))
                break
            except KeyboardInterrupt:
                died += 1
        assert len(numbers_of(out)) <= 1
        if (out / "config.json").exists():
            RunFolder(out).read()
        # The same command ends it, or is told that it has ended.
        try:
            main(Config(out=out, number=2, overwrite=overwrite))
        except FileExistsError:
            assert not overwrite
        assert numbers_of(out) == {2}
        assert {entry.name for entry in out.iterdir()} == set(FINISHED)
        shutil.rmtree(out)
    assert died > 10


def test_ctrl_c_says_that_the_run_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", stopped)
        patch.setattr("experiments.common.command_line.os._exit", sys.exit)
        assert run(patch, "--out", tmp_path / "run") == STOPPED
    assert "same command goes on" in capsys.readouterr().err
    assert (tmp_path / "run" / "checkpoints" / "arm").is_dir()
    assert run(monkeypatch, "--out", tmp_path / "run") == 0


def damaged(out, how):
    file = out / "numbers.npz"
    contents = file.read_bytes()
    match how:
        case "truncated":
            file.write_bytes(contents[: len(contents) // 2])
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("numbers")
        case "flipped":  # inside the compressed data: zlib.error, or a wrong checksum
            at = contents.index(b"numbers.npy") + 40
            file.write_bytes(
                contents[:at] + bytes(b ^ 0xFF for b in contents[at : at + 8]) + contents[at + 8 :]
            )
        case "npy":
            with file.open("wb") as stream:
                np.save(stream, np.ones(3))
        case "pickled":
            np.savez(file, numbers=np.array([{}], dtype=object))
        case "renamed":
            np.savez(file, other=np.ones(3))
        case "another shape":
            np.savez(file, numbers=np.ones(4))
        case "a folder":
            file.unlink()
            file.mkdir()
        case "config":
            (out / "config.json").write_text('{"experiment": ')
        case "renamed, of old":  # without the list of arrays
            np.savez(file, other=np.ones(3))
            (out / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "broken"),
        ("empty", "broken"),
        ("text", "broken"),
        ("flipped", "broken"),
        ("npy", "broken"),
        ("pickled", "broken"),
        ("renamed", "nothing for 'numbers'"),
        ("another shape", r"float64\[4\] for 'numbers'"),
        ("a folder", "broken"),
        ("config", r"broken .*config\.json"),
        ("renamed, of old", "KeyError: 'numbers'"),
    ],
)
def test_plot_names_what_is_damaged(out, monkeypatch, capsys, how, said):
    damaged(out, how)
    kinds = (ValueError, FileNotFoundError)
    with pytest.raises(kinds, match=FORM.format("run folder", said)):
        redraw(plot, out)
    assert run(monkeypatch, "plot", out) == MISTAKE
    assert capsys.readouterr().err.count("\n") == 1


def test_plot_of_what_is_no_run_of_its_own(out, tmp_path):
    message = FORM.format("run folder", "no folder")
    with pytest.raises(FileNotFoundError, match=message):
        redraw(plot, tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=FORM.format("run folder", r"without config\.json")):
        redraw(plot, tmp_path / "empty")
    assert not list((tmp_path / "empty").iterdir())
    record = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(record | {"experiment": "error_surface"}))
    with pytest.raises(ValueError, match=FORM.format("run folder", "a run of error_surface")):
        redraw(plot, out)


def test_nan_in_a_summary_is_no_success(out, monkeypatch):
    for summary, status in (
        ("λ₁ nan | 1", NOT_A_NUMBER),
        ("a banana", 0),
        ("NaN (0–1)", NOT_A_NUMBER),
    ):
        (out / "summary.md").write_text(summary)
        monkeypatch.setattr("sys.argv", ["study", "--out", str(out)])
        try:
            command_line(Config, lambda config: None, plot, "A study.")
            found = 0
        except SystemExit as end:
            found = end.code
        assert found == status


def test_tables_fit_the_page():
    long = "a claim that goes on for much longer than a page of one hundred columns is wide, " * 3
    text = report.table(
        [[long, "a | b", *range(12)], ["package.module_" + 90 * "x", *[12 * "y"] * 13]],
        ["claim", "|x|", *(f"column {i}" for i in range(12))],
    )
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("claim") >= 3  # several tables, each with its first column
    for line in text.splitlines():
        bars = line.replace(r"\|", "").count("|")
        assert line == "" or bars >= 3
    assert r"a \| b" in text
    assert r"\|x\|" in text
    one = report.table([[long, long]], ["a", "b"])
    assert max(map(len, one.splitlines())) <= 100
    assert " ".join(one.replace("|", " ").split()).count("hundred") == 6


def test_progress_in_a_file_has_no_control_characters(monkeypatch, capsys, optax_promotes):
    import optax

    from experiments.common.progress import progress
    from rnn_jax.training import create_train_state, make_train_step

    assert list(progress([1, 2, 3], "counted")) == [1, 2, 3]
    optimizer = optax.sgd(0.1)
    step = make_train_step(lambda p, batch: jnp.square(p), optimizer)
    state = create_train_state(jnp.ones(()), optimizer)
    fit(step, state, lambda i: None, 25, label="trained")
    written = capsys.readouterr()
    assert written.out == ""
    assert "counted: 3 of 3, " in written.err
    assert "trained: 25 of 25, " in written.err
    assert " steps/s, loss " in written.err
    assert written.err.replace("\n", "").isprintable()
