"""What tests set up before JAX: flags beside those that are set, a cache that processes share."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest
import yaml

from tests import FLAGS

ROOT = Path(__file__).parents[1]


def in_a_process(code, **environment):
    """Start Python with no flags but these, and return what it prints."""
    kept = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | environment
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=kept, check=True, capture_output=True, text=True
    ).stdout.split("\n")


@pytest.mark.parametrize(
    "given", ["--xla_cpu_enable_fast_math=false", "--xla_force_host_platform_device_count=7"]
)
def test_flags_are_added_to_those_that_are_set(given):
    code = "import os, tests, jax; print(os.environ['XLA_FLAGS']); print(jax.device_count())"
    flags, devices, _ = in_a_process(code, XLA_FLAGS=given)
    assert flags.split() == [given, *FLAGS]
    assert devices == "2"
    assert jax.device_count() == 2


def test_the_repository_holds_nothing_that_a_run_has_left():
    """Of what git has: the folders and files of the plan, and no arrays or checkpoints."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"no list of git's: {listed.stderr}")
    files = list(filter(None, listed.stdout.split("\0")))
    planned = {".ci", ".gitignore", "LICENSE", "Makefile", "pyproject.toml", "requirements.txt"}
    planned |= {".github", ".pre-commit-config.yaml", "CITATION.cff", "MANIFEST.in", "setup.py"}
    planned |= {"README.md", "BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    planned |= {"REPRODUCTIONS.md", "rnn_jax", "experiments", "tests", "benchmarks", "docs"}
    planned |= {"examples"}
    assert {file.partition("/")[0] for file in files} == planned
    hosted = (".ci", ".github")
    kinds = {Path(file).suffix for file in files if "/" in file and not file.startswith(hosted)}
    assert kinds <= {".py", ".md", ".png", ".npz", ".json", ".typed", ".rst", ".css", ".html"}


def test_before_a_commit_runs_what_make_check_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"] for hook in repository["hooks"]]
    _, _, recipe = (ROOT / "Makefile").read_text().partition("\ncheck: ")
    lines = recipe.partition("\n\n")[0].splitlines()[1:]
    assert hooks == [line.strip().replace("$(RUN)", ".venv/bin/python") for line in lines]


def test_hosted_tests_run_on_every_python_that_the_package_names():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if ":: Python :: 3." in c]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    oldest, newest = jobs["jax"]["strategy"]["matrix"]["include"]
    assert oldest["jax"].removesuffix(".0") in [
        d.replace(">=", "==") for d in project["dependencies"]
    ]
    assert (oldest["python"], newest) == (named[0], {"python": named[-1], "jax": "jax"})
    assert jobs["wheel"]["strategy"]["matrix"]["python"] == [named[0], named[-1]]
    assert jobs["nightly"]["continue-on-error"] is True
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = {word for run in runs for word in re.findall(r"\bmake (\w+)", run)}
    assert targets == {"test", "docs"}
    extras = {each for run in runs for each in re.findall(r"\[([\w,]+)\]", run)}
    for name in ",".join(extras).split(","):
        assert name in project["optional-dependencies"]


COMPILE = """
import tests, jax, jax.numpy as jnp
found = [0]
listen = lambda event, **_: found.__setitem__(0, found[0] + event.endswith("cache_hits"))
jax.monitoring.register_event_listener(listen)
y = jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
print(found[0] > 0, y.sum())
"""


def test_a_process_finds_what_another_compiled(tmp_path):
    first, second = (in_a_process(COMPILE, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) for _ in "ab")
    assert first[0].split()[0] == "False"
    assert second[0].split()[0] == "True"
    assert first[0].split()[1] == second[0].split()[1]


def test_an_entry_that_is_half_written_is_compiled_again(tmp_path):
    in_a_process(COMPILE, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    for entry in tmp_path.iterdir():
        entry.write_bytes(entry.read_bytes()[:-20])
    code = "import warnings; warnings.simplefilter('ignore')" + COMPILE
    found, total = in_a_process(code, JAX_COMPILATION_CACHE_DIR=str(tmp_path))[0].split()
    assert (found, float(total)) == ("False", pytest.approx(9 * 3 * 0.8414709848))
