"""Build the sdist and the wheel, and try them where nothing of the clone is at hand.

    python tests/release_check.py [--folder FOLDER]

Run by hand and by hosted CI before a release; pytest does not collect it. With the Python that runs
it, in environments of their own: both are built, the sdist holds what tests and documents need, the
wheel with the base dependencies alone gives the library and a console command that says which
packages are missing, and with the extra [experiments] the command runs a study. Needs a package
index that pip reaches. About three minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_THE_SDIST = (
    *("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "requirements.txt"),
    *("setup.py", "tests/test_readme.py", "tests/public_calls/call.py", "docs/bounds.md"),
    *("tests/interop/data/torch_reference.npz", "docs/reproductions/adding/numbers.npz"),
    *(
        "experiments/adding.py",
        "benchmarks/report.py",
        "rnn_jax/py.typed",
        "docs/gradient_decay.png",
    ),
)
IN_THE_WHEEL = (
    *("rnn_jax/cells/__init__.py", "rnn_jax/py.typed", "rnn_jax/study_command.py"),
    *("rnn_jax/_studies/experiments/__main__.py", "rnn_jax/_studies/experiments/common/study.py"),
    *(
        "rnn_jax/_studies/experiments/figures/arms.py",
        "rnn_jax/_studies/experiments/tables/arms.py",
    ),
)
LIBRARY = """
import jax, rnn_jax
from rnn_jax import cells, gradients, losses

assert "site-packages" in rnn_jax.__file__, rnn_jax.__file__
cell = cells.readout(cells.elman(16), 3)
params = cell.init(jax.random.key(0), 4)
xs = jax.random.normal(jax.random.key(1), (20, 2, 4))
targets = jax.random.normal(jax.random.key(2), (20, 2, 3))
E = lambda p: losses.per_step(losses.squared_error, rnn_jax.unroll(cell, p, xs)[1], targets).sum()
gradient = jax.grad(E)(params)
assert all(bool(abs(leaf).max() > 0) for leaf in jax.tree.leaves(gradient))
norms = gradients.jacobian_log_norms(cell, params, xs[:, 0])
bound = gradients.power_bound(*gradients.norm_bound(cell, params), T=20)
check = gradients.check_bound(norms, bound, state_size=16)
assert int(check.violations) == 0
print("BPTT;", int(check.violations), "violations of the bound;", "jax", jax.__version__)
"""
TINY = ("--resolution", "20", "--finer", "1", "--starts", "2")
"""Sizes of `error_surface` for a few seconds."""


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Run a command that must end with `status`; return what it said on both streams."""
    # Nothing of the clone, and no user's packages.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    environment = kept | {"PYTHONNOUSERSITE": "1", "JAX_PLATFORMS": "cpu"}
    end = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if end.returncode != status:
        sys.exit(f"{command}: status {end.returncode}, expected {status}\n{end.stdout}")
    return end.stdout


def require(condition: bool, said: str) -> None:
    """End with an error unless the condition holds; say it otherwise."""
    if not condition:
        sys.exit(f"NOT SO: {said}")
    print(f"ok: {said}", flush=True)


def environment(folder: Path) -> Path:
    """Make a virtual environment, and return its folder of programs."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin"


def built(work: Path) -> tuple[Path, Path]:
    """Build from a copy of what git has, and return the sdist and the wheel made of it."""
    programs = environment(work / "build")
    run(programs / "python", "-m", "pip", "install", "-q", "build", cwd=work)
    clone = work / "clone"
    tracked = subprocess.run(
        ("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / name).write_bytes((ROOT / name).read_bytes())
    run(programs / "python", "-m", "build", "--outdir", work / "dist", clone, cwd=work)
    (sdist,), (wheel,) = (list((work / "dist").glob(each)) for each in ("*.tar.gz", "*.whl"))
    return sdist, wheel


def check_contents(sdist: Path, wheel: Path) -> None:
    """Look at the names of the files in both."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in IN_THE_SDIST if name not in names]
    require(not missing, f"{sdist.name} holds what tests and documents need {missing or ''}")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [name for name in IN_THE_WHEEL if name not in names]
    require(not missing, f"{wheel.name} holds library and studies {missing or ''}")
    tops = {name.partition("/")[0] for name in names}
    others = [top for top in tops if top != "rnn_jax" and not top.endswith(".dist-info")]
    require(not others, f"nothing but rnn_jax is put into site-packages {others or ''}")


def check_installed(work: Path, wheel: Path) -> None:
    """Install the wheel without extras and then with one, and use it from another folder."""
    programs, elsewhere = environment(work / "user"), work / "elsewhere"
    (elsewhere / "experiments").mkdir(parents=True)
    (elsewhere / "experiments" / "__init__.py").write_text("raise RuntimeError('not this one')")
    pip = (programs / "python", "-m", "pip", "install", "-q")
    run(*pip, wheel, cwd=elsewhere)
    print(run(programs / "python", "-W", "error", "-c", LIBRARY, cwd=elsewhere).strip())
    require(True, "base dependencies alone give the library")
    said = run(programs / "rnn-jax-study", "error_surface", cwd=elsewhere, status=1)
    require(
        len(said.splitlines()) == 1 and "Install them: pip install matplotlib" in said,
        f"a study without its extra ends in: {said.strip()}",
    )
    run(*pip, f"{wheel}[experiments]", cwd=elsewhere)
    listed = run(programs / "rnn-jax-study", cwd=elsewhere)
    require("gradient_decay   about four minutes" in listed, "rnn-jax-study lists the studies")
    run(programs / "rnn-jax-study", "error_surface", *TINY, "--out", "runs/tiny", cwd=elsewhere)
    figures = sorted(path.name for path in (elsewhere / "runs/tiny/figures").glob("*.png"))
    require(bool(figures), f"rnn-jax-study error_surface wrote {', '.join(figures)}")
    arguments = ("reproduce", "--studies", "theory", "--only", "eigenvalue_myth")
    run(programs / "rnn-jax-study", *arguments, cwd=elsewhere)
    page = (elsewhere / "docs" / "studies.md").read_text()
    require("## eigenvalue_myth" in page, "rnn-jax-study reproduce wrote a page, by a process more")


def main() -> None:
    """Check all of it in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--folder", type=Path, help="keep sdist, wheel and environments there")
    folder = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as temporary:
        work = (folder or Path(temporary)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        print(f"Python {sys.version.split()[0]}, in {work}", flush=True)
        sdist, wheel = built(work)
        check_contents(sdist, wheel)
        check_installed(work, wheel)
    print(f"All of it holds on Python {sys.version.split()[0]}.")


if __name__ == "__main__":
    main()
