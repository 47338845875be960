r"""
A data set of your own
======================

Sequences of different lengths in one array, a class for each. What stands in the padding reaches
neither the loss nor a gradient, whatever it is; here it is NaN.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, tasks, training

# %%
# Two sensors, and the question which of them is ahead of the other: 600 sequences of 20 to 60
# steps.
random = np.random.default_rng(0)
N, T = 600, 60
lengths = random.integers(20, T + 1, N)
classes = random.integers(0, 2, N)
time, phase = np.arange(T)[:, None], random.uniform(0, 2 * np.pi, N)
period = random.uniform(8, 16, N)
ahead = np.where(classes == 1, 1, -1) * np.pi / 4
waves = [np.sin(2 * np.pi * time / period + phase + shift) for shift in (0, ahead)]
xs = (np.stack(waves, -1) + 0.3 * random.normal(size=(T, N, 2))).astype(np.float32)  # [T, N, I]
xs[time >= lengths] = np.nan

part = lambda where: tasks.from_arrays(
    xs[:, where], classes[where], lengths=lengths[where], batch_size=50, output_size=2
)
train, test = part(np.s_[:500]), part(np.s_[500:])

# %%
net = cells.readout(cells.gru(16), train.output_size)
adam = optax.adam(1e-2)
step = jax.jit(training.make_task_train_step(net, train, adam, clip_norm=1.0))
key, test_key = jax.random.split(jax.random.key(0))
held_out = training.HeldOut(
    lambda state: training.evaluate(net, state.params, test, key=test_key, batches=2), every=20
)
start = training.create_train_state(net.init(key, train.input_size), adam)
state, record = training.fit(step, start, lambda i: key, 160, held_out=held_out, progress=False)

answered = record["held_out"]["solved"]
print("answered rightly, of sequences never seen:", answered.round(2).tolist())
assert answered[0] < 0.75
assert answered[-1] > 0.9
assert np.isfinite(record["loss"]).all()

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot(record["loss"], lw=0.8, label="training loss")
ax.plot(record["held_out"]["step"], record["held_out"]["loss"], "o-", label="held out")
ax.axhline(np.log(2), color="0.5", ls=":", label="a guess, ln 2")
ax.set(xlabel="training step", ylabel="nats per sequence")
ax.legend(frameon=False)
plt.show()
