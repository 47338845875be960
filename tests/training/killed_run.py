"""Runs that are killed again and again, at random moments; `test_kills.py` starts this file.

usage: killed_run.py FOLDER DEVICES KILLS

Children are killed by SIGKILL a few steps on from where the one before came to, mostly while a
checkpoint is being written. This process then holds what every run ended with against a run that
nobody has disturbed: state, metrics, record and best state are the same to the last bit.
"""

import functools
import itertools
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

folder, devices, wanted = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.environ["XLA_FLAGS"] = (
    f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import orbax.checkpoint  # noqa: E402, F401 - once, before the forks

import rnn_jax  # noqa: E402
from rnn_jax import cells  # noqa: E402
from rnn_jax.training import (  # noqa: E402
    HeldOut,
    batch_mesh,
    create_train_state,
    fit,
    make_train_step,
    over_ensemble,
    read_record,
    restore,
    to_disk,
)

STEPS, EVERY, MEMBERS = 24, 3, 4
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


def initial(arm):
    lead = (MEMBERS,) if arm == "ensemble" else ()
    W = jnp.asarray(drawn(0, *lead, 3, 3))
    return create_train_state(W, OPTIMIZER).replace(step=jnp.asarray(np.zeros(lead, np.int32)))


def train(arm, into, hook=lambda step, state: None):
    lead = (MEMBERS,) if arm == "ensemble" else ()
    batches = lambda i: drawn(1 + i, *lead, 5, 4, 3)
    norms = jax.jit(lambda W: jnp.abs(jnp.linalg.norm(W, axis=(-2, -1)) - 1.6))
    return fit(
        step_of(arm),
        initial(arm),
        batches,
        STEPS,
        progress=False,
        held_out=HeldOut(lambda state: {"loss": norms(state.params)}, every=5),
        checkpoint_dir=into / "kept",
        checkpoint_every=EVERY,
        recorders=[to_disk(into / "record", STEPS)],
        hooks=[hook],
    )


def killed(arm, into, after, wait):
    """Train in a process that is killed; return whether it was before it had ended.

    Args:
      arm: what is trained.
      into: folder of the run.
      after: steps that it takes, if it has as many to take.
      wait: seconds after those.
    """
    read_end, write_end = os.pipe()
    child = os.fork()  # before JAX has begun any thread
    if child:
        os.close(write_end)
        os.read(read_end, 1)  # a dot, or nothing where it has ended
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
        os.close(read_end)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    taken = itertools.count(1)
    try:
        warnings.filterwarnings("ignore", "checkpoint_dir: cannot read .*half written")
        train(arm, into, lambda *_: next(taken) == after and os.write(write_end, b"."))
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


draw = random.Random(devices)
runs, kills = [], 0
while kills < wanted or len(runs) < len(ARMS):
    arm = ARMS[len(runs) % 2]
    into = folder / str(len(runs))
    runs.append((arm, into))
    while killed(arm, into, draw.randint(2, 12), draw.random() * 0.3):
        kills += 1
print(f"{kills} kills in {len(runs)} runs")

wholes = {arm: train(arm, folder / arm) for arm in ARMS}
for arm, into in runs:
    assert np.load(into / "record" / "loss.npy").shape[0] == STEPS
    resumed, whole = train(arm, into), wholes[arm]
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    records = [read_record(run / "record") for run in (into, folder / arm)]
    jax.tree.map(np.testing.assert_array_equal, *records)
    bests = [restore(run / "kept", initial(arm), best=True) for run in (into, folder / arm)]
    jax.tree.map(np.testing.assert_array_equal, *bests)
