"""Real processes, killed by SIGKILL in the middle of a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("devices", [1, 2])
def test_a_killed_process_resumes_to_the_same_bits(devices, tmp_path):
    """An ensemble and a shared batch, with their records, on one device and on two."""
    script = ROOT / "tests" / "training" / "killed_run.py"
    command = [sys.executable, "-W", "error", str(script), str(tmp_path), str(devices)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
