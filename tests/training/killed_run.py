"""A run that is killed in the middle and started again; `test_kills.py` starts this file.

usage: killed_run.py FOLDER DEVICES

Children are killed by SIGKILL once they have kept two states and gone a few steps on. This process
then resumes them, trains undisturbed for comparison, and ends with 0 where all is the same to the
last bit.
"""

import functools
import os
import signal
import sys
import time
from pathlib import Path

folder, devices = Path(sys.argv[1]), int(sys.argv[2])
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import rnn_jax  # noqa: E402
from rnn_jax import cells  # noqa: E402
from rnn_jax.training import (  # noqa: E402
    batch_mesh,
    create_train_state,
    fit,
    make_train_step,
    over_ensemble,
    read_record,
    to_disk,
)

STEPS, EVERY, KILLED_AT, MEMBERS = 24, 5, 13, 4
ARMS = ("ensemble", "shared")
CELL = cells.from_function(lambda W, h, x: (jnp.tanh(W @ h + x),) * 2, lambda W: jnp.zeros(3))
OPTIMIZER = optax.trace(decay=0.9)  # a state, and little to compile


def loss(params, batch):
    return jnp.square(rnn_jax.unroll(CELL, params, batch)[1] - 0.5).mean()


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def step_of(arm):
    """An ensemble over the devices, or one network whose batches they share."""
    assert len(jax.local_devices()) == devices
    if arm == "ensemble":
        return over_ensemble(make_train_step(loss, OPTIMIZER, clip_norm=0.5), MEMBERS)
    mesh = batch_mesh()
    return jax.jit(make_train_step(loss, OPTIMIZER, clip_norm=0.5, mesh=mesh))


def train(arm, into, hook=lambda i: None):
    lead = (MEMBERS,) if arm == "ensemble" else ()
    W = jnp.asarray(drawn(0, *lead, 3, 3))
    state = create_train_state(W, OPTIMIZER).replace(step=jnp.asarray(np.zeros(lead, np.int32)))

    def batches(i):
        hook(i)
        return drawn(1 + i, *lead, 5, 4, 3)

    kept = {} if into is None else {
        "checkpoint_dir": into / arm / "kept",
        "recorders": [to_disk(into / arm / "record", STEPS)],
    }  # fmt: skip
    return fit(
        step_of(arm), state, batches, STEPS, progress=False, checkpoint_every=EVERY, **kept
    )  # fmt: skip


def begin_child(arm):
    """Return the process that trains, and a pipe on which it says that it is in the middle."""
    read_end, write_end = os.pipe()
    child = os.fork()  # before JAX has begun any thread
    if child:
        return child, read_end

    def hook(i):
        if i == KILLED_AT:
            os.write(write_end, b".")
            time.sleep(100)

    train(arm, folder, hook)
    os._exit(1)


for child, pipe in [begin_child(arm) for arm in ARMS]:
    assert os.read(pipe, 1) == b"."
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])

for arm in ARMS:
    kept = {path.name for path in (folder / arm / "kept").iterdir() if path.is_dir()}
    assert kept == {"5", "10"}, kept
    resumed, whole = train(arm, folder), train(arm, None)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    jax.tree.map(np.testing.assert_array_equal, read_record(folder / arm / "record"), whole[1])
