"""Real processes, killed by SIGKILL in the middle of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = os.environ.get("RNN_JAX_KILLS", "6")
"""SIGKILLs on each number of devices; 100 take some minutes."""


@pytest.mark.parametrize("devices", [1, 2])
def test_killed_processes_resume_to_the_same_bits(devices, tmp_path):
    """An ensemble and a shared batch, with their records, on one device and on two."""
    script = ROOT / "tests" / "training" / "killed_run.py"
    command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
    command += [str(devices), KILLS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[0]) >= int(KILLS)
