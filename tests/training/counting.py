"""Runs of `fit` that cost nothing to compile, and a disk that is full."""

import resource

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.training import fit


def counting(state, batch):
    """A train step that costs nothing to compile: metrics of other names, dtypes, nested."""
    after = {"n": state["n"] + 1, "key": jax.random.split(state["key"])[0]}
    halves = (after["n"] / 2).astype(jnp.bfloat16)
    return after, {"mse": batch * jnp.ones(2), "parts": {"n": after["n"], "half": [halves]}}


START = {"n": jnp.zeros((), jnp.int32), "key": jax.random.key(7)}


def count(folder, steps, batch_at=float, **how):
    how = {"checkpoint_every": 4, "progress": False, **how}
    return fit(counting, START, batch_at, steps, checkpoint_dir=folder, **how)


def assert_counted(returned, steps):
    """The state and the metrics of a run of `counting`."""
    state, metrics = returned
    assert state["n"] == steps
    key = START["key"]
    for _ in range(steps):
        key = jax.random.split(key)[0]
    assert (jax.random.key_data(state["key"]) == jax.random.key_data(key)).all()
    np.testing.assert_array_equal(metrics["mse"], np.repeat(np.arange(steps)[:, None], 2, 1))
    np.testing.assert_array_equal(metrics["parts"]["n"], np.arange(1, steps + 1))
    halves = metrics["parts"]["half"][0]
    assert halves.dtype == jnp.bfloat16
    np.testing.assert_array_equal(halves.astype(float), np.arange(1, steps + 1) / 2)


class FullDisk:
    """No file may grow beyond `size` bytes."""

    def __init__(self, size):
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._size = size

    def __enter__(self):
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._limits[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)
