r"""
Telemetry while training
========================

An Elman network of gain 2 learns to predict a text. At first its gradients explode, and every
step is clipped; soon training has brought it to where they fall on their way back, by e in some
ten steps. What is measured comes from the backward pass that training takes anyway.

``python examples/telemetry.py --out docs/telemetry.png`` writes the figure.
"""

import argparse

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

import rnn_jax
from rnn_jax import cells, losses, plotting, tasks, training
from rnn_jax.cells import initializers

arguments = argparse.ArgumentParser()
arguments.add_argument("--out", help="file of the figure")
given = arguments.parse_args()

task = tasks.next_character(tasks.load_text(), T=64, batch_size=8)
net = cells.readout(cells.elman(64, recurrent_init=initializers.orthogonal(2.0)), task.output_size)
adam, telemetry = optax.adam(4e-3), training.Telemetry(net)


def loss(params, batch, unroll=rnn_jax.unroll):
    """Return the mean loss in nats per character; telemetry replaces unroll."""
    return losses.per_step(task.loss, unroll(net, params, batch[0])[1], batch[1]).mean()


# %%
# A monitored step takes the same updates as one without telemetry, and returns more metrics.
step = jax.jit(training.make_monitored_train_step(loss, adam, telemetry, clip_norm=1.0))
params = net.init(jax.random.key(0), task.input_size)
start = training.create_monitored_train_state(params, adam, telemetry)
batch_at = jax.jit(lambda i: task.batch(jax.random.key(1), i))
state, record = training.fit(step, start, batch_at, 600, progress=False)

first, last = (np.median(part) for part in np.array_split(record["grad_norm"], 6)[::5])
print(f"loss {record['loss'][0]:.2f} to {record['loss'][-1]:.2f} nats per character")
print(f"median gradient norm {first:.3g} in the first sixth of training, {last:.3g} in the last")
print(f"clipped: {record['clipped'].mean():.0%} of the steps")
assert last < 0.05 * first
assert np.median(record["horizon"][:50]) == np.inf  # it does not fall
assert np.median(record["horizon"][-50:]) < 64
assert abs(record["spectral_norm/W"][0] - 2) < 0.02  # where an orthogonal W of gain 2 begins

# %%
figure = plotting.telemetry(record, clip_norm=1.0)
if given.out:
    figure.savefig(given.out, dpi=110)
plt.figure(figure)
plt.show()
