r"""
A task, from the first look to solved
=====================================

What the task is, what is possible without memory, and a network that trains until it solves 99 %
of the sequences that it is held against.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, plotting, tasks, training

task = tasks.temporal_order(T=40, batch_size=64)
print(f"{task.name}: without memory a loss of {task.chance_loss:.3f} nats")
plt.figure(task.show(jax.random.key(3)))
plt.show()

# %%
net = cells.readout(cells.lstm(32), task.output_size)
adam = optax.adam(1e-2)
step = jax.jit(training.make_task_train_step(net, task, adam, clip_norm=1.0))
key, held_out_key = jax.random.split(jax.random.key(0))
held_out = training.HeldOut(
    lambda state: training.evaluate(net, state.params, task, key=held_out_key, batches=4),
    every=25,
    stop_when=lambda metrics: metrics["solved"] >= 0.99,
)
start = training.create_train_state(net.init(key, task.input_size), adam)
state, record = training.fit(step, start, lambda i: key, 800, held_out=held_out, progress=False)
steps, solved = record["held_out"]["step"][-1], record["held_out"]["solved"][-1]
print(f"after {steps} steps {solved:.1%} of held-out sequences are solved")
assert solved >= 0.99
assert record["held_out"]["loss"][-1] < 0.1 * task.chance_loss

# %%
# At lengths that it has not been trained on:
longer = training.evaluate_lengths(net, state.params, task, (40, 60, 80), key=held_out_key)
print("solved at T = 40, 60, 80:", np.round(longer.solved, 2).tolist())

evaluations = record["held_out"]["step"], record["held_out"]["loss"][:, None]
figure = plotting.learning_curves(
    {"temporal order, T = 40": {"LSTM": record["loss"][:, None]}},
    held_out={"temporal order, T = 40": {"LSTM": evaluations}},
    baseline=task.chance_loss,
    unit="nats",
    smooth=5,
)
plt.figure(figure)
plt.show()
