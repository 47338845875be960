"""Every example of the gallery runs as it stands, and leaves nothing behind."""

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
WITHOUT_FIGURE = {"flax_cell", "generate_text", "torch_weights", "two_devices"}
matplotlib.use("Agg")


COMMAND = ROOT / "examples/telemetry.py"
"""Run as a command, and so not with the others."""


@pytest.fixture(params=[path for path in EXAMPLES if path != COMMAND], ids=lambda path: path.stem)
def example(request, tmp_path, monkeypatch):
    """An example, in a folder of its own, as the command line would run it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(request.param)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(plt, "show", lambda: None)  # warns where there is a screen
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield request.param
    plt.close("all")


def test_an_example_runs(example, tmp_path, capsys):
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out  # numbers
    assert bool(plt.get_fignums()) == (example.stem not in WITHOUT_FIGURE)
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    assert not list(tmp_path.iterdir())


def test_there_is_one_for_each_topic_and_each_is_short():
    assert len(EXAMPLES) == 21
    for path in EXAMPLES:
        source = path.read_text()
        lines = source.splitlines()
        assert 15 <= len(lines) <= 90, path
        assert re.match(r'r"""\n.+\n=+\n\n', source), path  # a title, for sphinx-gallery
        assert len(lines[1]) == len(lines[2]), path
        assert "# %%" in source, path
        assert "assert" in source, path


def test_an_example_runs_from_any_folder_as_a_command(tmp_path):
    command = [sys.executable, "-W", "error", str(COMMAND), "--out", "telemetry.png"]
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    environment.pop("DISPLAY", None)
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "telemetry.png").read_bytes().startswith(b"\x89PNG")


def test_without_torch_its_example_says_so(monkeypatch, capsys):
    if find_spec("torch") is not None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    runpy.run_path(str(ROOT / "examples/torch_weights.py"))
    assert "not installed" in capsys.readouterr().out
