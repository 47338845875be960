"""`rnn-jax-study` runs the studies of a clone and of a wheel, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rnn_jax
from rnn_jax.study_command import MISTAKE, studies_folder

ROOT = Path(rnn_jax.__file__).parents[1]
CALL = "from rnn_jax.study_command import study_command; study_command()"
MINE = "from rnn_jax import cells\n\n\ndef mine(hidden_size):\n    return cells.gru(hidden_size)\n"


def command(*arguments, cwd, **environment):
    """Call it in a folder of one's own, as a console script does: that folder is on no path."""
    kept = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    line = [sys.executable, "-P", "-c", CALL, *arguments]
    return subprocess.run(line, cwd=cwd, env=kept, capture_output=True, text=True)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder with packages of the names of ours, and a cell of its owner's."""
    for name in ("experiments", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not this one')")
    (tmp_path / "my_cells.py").write_text(MINE)
    return tmp_path


def test_without_a_name_it_lists_the_studies(elsewhere):
    for arguments in ([], ["--help"]):
        end = command(*arguments, cwd=elsewhere)
        assert end.returncode == 0, end.stderr
        assert "gradient_decay   about four minutes" in end.stdout


@pytest.mark.parametrize("name", ["common", "__main__", "../setup"])
def test_a_name_that_is_no_study_ends_in_a_sentence(name, elsewhere):
    end = command(name, cwd=elsewhere)
    assert end.returncode == MISTAKE
    (said,) = end.stderr.splitlines()
    assert said.startswith(f"study: got str {name!r}; expected one of adding, ")


def test_it_runs_a_study_of_a_cell_of_that_folder(elsewhere):
    end = command("computational_graph", "--cell", "my_cells:mine", "--steps", "1", cwd=elsewhere)
    assert end.returncode == 0, end.stderr
    assert (elsewhere / "runs" / "computational_graph" / "figures" / "folded.png").exists()
    assert command("computational_graph", "--steps", "0", cwd=elsewhere).returncode == 2


def test_what_a_study_starts_finds_the_studies_too(elsewhere):
    """`reproduce` runs each study in a process of its own."""
    arguments = ["--only", "turing", "--seeds", "0", "--out", "runs", "--page", "PAGE.md"]
    end = command("reproduce", *arguments, "--keep", "kept", "--setting", "tiny", cwd=elsewhere)
    assert end.returncode == 2
    assert "tiny" in end.stderr
    code = "import os, sys, subprocess; sys.argv[1:] = ['computational_graph', '--steps', '0']\n"
    code += f"try:\n {CALL}\nexcept SystemExit: pass\n"
    code += "line = [sys.executable, '-m', 'experiments.computational_graph', '--help']\n"
    code += "sys.exit(subprocess.run(line).returncode)"
    kept = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    line = [sys.executable, "-P", "-c", code]
    end = subprocess.run(line, cwd=elsewhere, env=kept, capture_output=True, text=True)
    assert "The computational graph of a cell" in end.stdout, end.stderr


def test_the_studies_of_a_wheel_are_in_a_folder_of_rnn_jax(tmp_path, monkeypatch):
    assert studies_folder() == ROOT
    package = tmp_path / "rnn_jax"
    (package / "_studies" / "experiments").mkdir(parents=True)
    monkeypatch.setattr("rnn_jax.study_command.__file__", str(package / "study_command.py"))
    assert studies_folder() == package / "_studies"
