r"""
Two devices
===========

A batch that devices share gives the numbers of one device. On a CPU, two devices with half of the
batch each are the fastest way to use two cores; on GPUs the script is the same.
"""

import os

flags = os.environ.get("XLA_FLAGS", "")
if "device_count" not in flags:  # read once, when JAX is imported
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=2".strip()

import time

import jax
import numpy as np
import optax

from rnn_jax import cells, tasks, training

task = tasks.adding(T=100, batch_size=64)
net = cells.readout(cells.lstm(64), task.output_size)
adam, key = optax.adam(1e-3), jax.random.key(0)
start = training.create_train_state(net.init(key, task.input_size), adam)
print(f"{jax.device_count()} devices, {os.cpu_count()} cores")

# %%
# The mesh is the only difference.
states = {}
for name, mesh in (("one", None), ("all", training.batch_mesh())):
    step = jax.jit(training.make_task_train_step(net, task, adam, clip_norm=1.0, mesh=mesh))
    state, _ = step(start, key)  # compiles
    seconds = []
    for _ in range(10):
        began = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, key))
        seconds.append(time.perf_counter() - began)
    states[name] = state, metrics
    print(f"{name}: loss {float(metrics['loss']):.6f}, {1000 * np.median(seconds):.0f} ms a step")

# %%
one, both = (jax.tree.leaves(state.params) for state, _ in states.values())
difference = max(
    float(abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(one, both, strict=True)
)
print("largest difference of a parameter after 11 steps:", difference)
assert difference < 1e-4
