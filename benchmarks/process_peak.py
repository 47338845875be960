"""Peak resident memory of one library's gradient, in a process of its own.

    python -m benchmarks.process_peak LIBRARY CELL B T I H

Prints by how many MiB three calls raise the resident memory at its peak. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def peak_of(library: str, cell: str, *shape: int) -> float:
    """Return MiB, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.process_peak", library, cell, *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(done.stdout)


def _mib(field: str) -> float:
    """Return a field of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main(library: str, cell: str, B: int, T: int, I: int, H: int) -> None:
    if library == "torch.nn":
        from benchmarks.peers import torch_calls

        call = torch_calls(cell, B, T, I, H, threads=2)["gradient"]
    else:
        import jax

        from benchmarks.layers import gradient_program

        program, arguments = gradient_program(library, cell, (B, T, I, H))
        call = lambda: jax.block_until_ready(program(*arguments))
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far, compilation's, is forgotten
    before = _mib("VmRSS")
    for _ in range(3):
        call()
    print(_mib("VmHWM") - before)


if __name__ == "__main__":
    library, cell, *shape = sys.argv[1:]
    main(library, cell, *map(int, shape))
