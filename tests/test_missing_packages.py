"""Where a package is missing, one sentence says which, and the command that installs it."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rnn_jax import cells

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

WITHOUT = """
import sys

class Without:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {packages!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Without())
"""
SENTENCE = "{}: got no such package; expected an installed package. Install it: pip install {}, or"

# By package: how it is installed, the extra that has it, and what needs it.
NEEDED = {
    "matplotlib": (
        ("matplotlib", "experiments"),
        "import rnn_jax.plotting",
        "import rnn_jax.graph.drawing",
        "import jax; from rnn_jax import tasks; tasks.parity(T=3).show(jax.random.key(0))",
    ),
    "tensorboardX": (
        ("tensorboardX", "telemetry"),
        "import numpy as np; from rnn_jax import training;"
        "training.to_tensorboard(sys.argv[1])(0, {'loss': np.ones(2)})",
    ),
    "haiku": (("dm-haiku", "bench"), "from rnn_jax import interop; interop.from_haiku(len)"),
    "equinox": (
        ("equinox", "bench"),
        "from rnn_jax import interop; interop.from_equinox(len)",
        "import jax; from rnn_jax import cells, interop;"
        "interop.export_weights('equinox', 'gru', cells.gru(2).init(jax.random.key(0), 2))",
    ),
    "sklearn": (
        ("scikit-learn", "data"),
        "from rnn_jax import tasks; tasks.sequential_digits()",
    ),
    "aeon": (("aeon", "data"), "from rnn_jax import tasks; tasks.japanese_vowels()"),
    "music21": (("music21", "data"), "from rnn_jax import tasks; tasks.bach_chorales()"),
    "submitit": (
        ("submitit", "experiments"),
        "from experiments.common.jobs import run_jobs; next(run_jobs(len, [], None, None))",
    ),
    "torch": (("torch", "bench"), "from benchmarks.lyapunov import *; compare(Config(), 2, 2)"),
}
CALLS = [(package, call) for package, (_, *calls) in NEEDED.items() for call in calls]


def without(packages, code, *arguments, cwd=ROOT):
    """Run code in a process that has none of these packages, and return how it ended."""
    command = [sys.executable, "-c", WITHOUT.format(packages=packages) + code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("package", "call"), CALLS, ids=[f"{p}-{c[-30:]}" for p, c in CALLS])
def test_a_sentence_names_package_command_and_extra(package, call, tmp_path):
    (install, extra), *_ = NEEDED[package]
    end = without([package], call, str(tmp_path))
    assert end.returncode == 1
    *_, last = end.stderr.strip().splitlines()
    assert last == f"ImportError: {SENTENCE.format(package, install)} the extra [{extra}]."
    assert any(each.startswith(install) for each in EXTRAS[extra])


def test_the_library_needs_none_of_them():
    code = "import rnn_jax; from rnn_jax import cells; print(len(cells.CELLS))"
    end = without([*NEEDED, "tyro", "tabulate", "plotly", "scipy"], code)
    assert end.stderr == ""
    assert int(end.stdout) == len(cells.CELLS)


def test_a_study_of_a_data_set_ends_in_the_sentence(tmp_path):
    """On the command line without a traceback, before anything is trained."""
    code = "import runpy; sys.argv[0] = 'vowels';"
    code += "runpy.run_module('experiments.vowels', run_name='__main__', alter_sys=True)"
    end = without(["aeon"], code, "--out", str(tmp_path / "run"))
    assert end.returncode == 2
    assert end.stderr.strip() == f"{SENTENCE.format('aeon', 'aeon')} the extra [data]."
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("module", "extra"),
    [("experiments.gradient_decay", "experiments"), ("benchmarks.fit", "bench")],
)
def test_a_command_names_all_that_it_misses(module, extra):
    code = "sys.argv = ['-m']; import runpy; import importlib.util as u; found = u.find_spec;"
    code += "u.find_spec = lambda n, *a: None if n in ('tabulate', 'tyro') else found(n, *a);"
    end = without([], code + f"runpy.run_module({module!r}, run_name='__main__')")
    assert end.returncode == 1
    (said,) = end.stderr.splitlines()
    assert said.startswith(f"{module.partition('.')[0]}: got no tabulate, tyro; expected ")
    assert f"the extra [{extra}]" in said
    assert said.endswith("Install them: pip install tabulate tyro")


def test_a_package_whose_own_package_is_missing_is_not_said_to_be_missing():
    end = without(["joblib"], "from rnn_jax import tasks; tasks.sequential_digits()")
    *_, last = end.stderr.strip().splitlines()
    assert last.startswith(
        "ImportError: sklearn: got no joblib, which it imports; expected an inst"
    )
