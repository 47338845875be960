r"""
A run that is killed, and goes on
=================================

With a ``checkpoint_dir``, a run that ended in whatever way goes on from its last checkpoint, to
the same bits as if it had never stopped: a batch is a pure function of the key and the step.
"""

import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, tasks, training

STEPS = 120
task = tasks.adding(T=12, batch_size=32)
net = cells.readout(cells.gru(16), task.output_size)
adam, key = optax.adam(1e-2), jax.random.key(0)
step = jax.jit(training.make_task_train_step(net, task, adam, clip_norm=1.0))
start = training.create_train_state(net.init(key, task.input_size), adam)
run = lambda **options: training.fit(step, start, lambda i: key, STEPS, progress=False, **options)
whole, record = run()

# %%
# A power cut after 70 steps; checkpoints every 20, and the last complete step is kept besides.
folder = tempfile.TemporaryDirectory()
checkpoints = Path(folder.name, "checkpoints")


def power_cut(step, state):
    """Raise an error after 70 steps."""
    if step == 70:
        raise RuntimeError("power cut")


try:
    run(checkpoint_dir=checkpoints, checkpoint_every=20, hooks=[power_cut])
except RuntimeError as error:
    kept = training.restore(checkpoints, start)
    print(f"{error}; kept: the state after step {int(kept.step)}")

# %%
# The same call again.
resumed, second = run(checkpoint_dir=checkpoints, checkpoint_every=20)
same = map(np.array_equal, jax.tree.leaves(whole), jax.tree.leaves(resumed))
assert all(same)  # bit for bit
assert np.array_equal(record["loss"], second["loss"])  # of all steps, those before the cut too
print("resumed to step", int(resumed.step), "with the bits of the run that never stopped")

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(record["loss"], lw=4, alpha=0.3, label="never stopped")
ax.plot(second["loss"], lw=1, label="killed and resumed")
ax.axvline(int(kept.step), color="0.5", ls=":")
ax.set(xlabel="training step", ylabel="loss")
ax.legend(frameon=False, loc=(0.1, 0.78))
plt.show()
folder.cleanup()
