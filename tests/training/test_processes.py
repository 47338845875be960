"""The script of docs/cluster.md: alone, and as two processes of Slurm with two devices each."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rnn_jax.training import read_record
from tests.examples import document_examples

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "cluster.md"

ENSEMBLE = """
import os, sys
import jax
if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
    jax.distributed.initialize()
import jax.numpy as jnp
import optax
from pathlib import Path
from rnn_jax import cells, tasks, training

task = tasks.adding(T=6, batch_size=4)
cell = cells.readout(cells.elman(5), task.output_size)
optimizer = optax.adam(3e-3)
members = 8
step = training.over_ensemble(training.make_task_train_step(cell, task, optimizer), members)
keys = jax.random.split(jax.random.key(0), members)
init = lambda key: training.create_train_state(cell.init(key, task.input_size), optimizer)
loss = lambda params, key: {"loss": training.evaluate(cell, params, task, key=key).loss}
losses = training.over_ensemble(loss, members)
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
held_out = training.HeldOut(lambda state: losses(state.params, keys), every=20)
training.fit(step, jax.jit(jax.vmap(init))(keys), lambda i: keys, steps, held_out=held_out,
             checkpoint_dir=folder / "checkpoints", checkpoint_every=10,
             recorders=[training.to_disk(folder / "record", steps)])
"""


@pytest.fixture(scope="module", params=["shared batch", "ensemble"])
def script(request, tmp_path_factory):
    """The document's script, or one of an ensemble."""
    path = tmp_path_factory.mktemp("scripts") / "train_on_cluster.py"
    (block,) = document_examples(DOCUMENT)
    path.write_text(block.code if request.param == "shared batch" else ENSEMBLE)
    return path


def free_job():
    """A job's number whose coordinator's port, as JAX derives it from that, is free."""
    for job in range(4096):
        with socket.socket() as attempt:
            try:
                attempt.bind(("localhost", 61440 + job))
            except OSError:
                continue
        return job
    raise RuntimeError("no port is free")


def start(script, folder, steps, processes, devices, rank=0, job=None):
    slurm = {
        "SLURM_JOB_ID": str(job), "SLURM_NTASKS": str(processes), "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank), "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": str(processes),
    }  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    environment |= slurm if processes > 1 else {}
    environment |= {
        "PYTHONPATH": str(ROOT), "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(steps)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=script.parent,
    )  # fmt: skip


def run(script, folder, steps, processes, devices):
    """Run to the end; return what the first process said."""
    job = free_job() if processes > 1 else None
    begun = [start(script, folder, steps, processes, devices, r, job) for r in range(processes)]
    try:
        said = [process.communicate(timeout=120)[0] for process in begun]
    finally:
        for process in begun:
            process.kill()
    assert [process.returncode for process in begun] == [0] * processes, said
    return said


def test_two_processes_are_one(script, tmp_path):
    """To rounding; and a run that two began goes on in one."""
    said = run(script, tmp_path / "two", 40, 2, 2)
    assert "40 of 40" in said[0]
    assert "of 40" not in said[1]  # the first process alone says how far the run is
    run(script, tmp_path / "one", 40, 1, 1)
    run(script, tmp_path / "mixed", 20, 2, 2)
    run(script, tmp_path / "mixed", 40, 1, 2)
    one = read_record(tmp_path / "one" / "record")
    for name in ("two", "mixed"):
        other = read_record(tmp_path / name / "record")
        assert other.keys() == one.keys()
        for metric in one:
            np.testing.assert_allclose(other[metric], one[metric], rtol=2e-3, atol=2e-5)


def test_the_scripts_are_those_of_the_document(script, tmp_path):
    """What Slurm would run is what the tests run; what stands there for one machine runs."""
    by_hand, job = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert "srun python train_on_cluster.py runs/adding 2000" in job
    assert subprocess.run(["bash", "-n"], input=job, text=True, check=False).returncode == 0
    for old, new in (("JOB_ID=1 ", f"JOB_ID={free_job()} "), ("2000", "20"),
                     ("python", sys.executable), (script.name, str(script))):  # fmt: skip
        assert old in by_hand
        by_hand = by_hand.replace(old, new)
    both = subprocess.Popen(
        ["bash", "-c", f"{by_hand}\nwait"], text=True, stderr=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    try:
        said = both.communicate(timeout=120)[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(both.pid, signal.SIGKILL)
    assert said.count("20 of 20") == 1
    assert len(read_record(tmp_path / "runs" / "adding" / "record")["loss"]) == 20
