r"""
A network that writes
=====================

A GRU learns to predict the next character of the Python language reference, which every CPython
carries, and then reads what it has written itself.
"""

import jax
import numpy as np
import optax

from rnn_jax import cells, tasks, topologies, training
from rnn_jax.topologies import sample_one_hot

text = tasks.load_text()
task = tasks.next_character(text, T=48, batch_size=32)
net = cells.readout(cells.gru(96), task.output_size)
adam = optax.adam(optax.cosine_decay_schedule(1e-2, 300))
step = jax.jit(training.make_task_train_step(net, task, adam, clip_norm=1.0))
key = jax.random.key(0)
start = training.create_train_state(net.init(key, task.input_size), adam)
state, record = training.fit(step, start, lambda i: key, 300, progress=False)

# %%
# Bits per character: of letters drawn at their frequencies, and of the network.
shares = np.bincount(text.train) / len(text.train)
shares = shares[shares > 0]
alone, learned = -(shares * np.log2(shares)).sum(), record["loss"][-30:].mean() / np.log(2)
print(f"frequencies alone {alone:.2f}, network {learned:.2f} bits per character")
assert learned < 0.8 * alone


# %%
# At temperature 0 it takes the likeliest character, and soon repeats itself; at 1 it draws from
# what it believes.
def write(prompt, temperature, length=160):
    """Return what the network writes after a prompt."""
    symbols = np.array([text.vocabulary.index(character) for character in prompt])
    xs = jax.nn.one_hot(symbols, task.input_size)
    feed = sample_one_hot(temperature)
    said = topologies.generate(net, state.params, xs, length, jax.random.key(1), feed=feed)
    return "".join(text.vocabulary[n] for n in np.asarray(said.xs).argmax(-1))


for temperature in (0, 0.5, 1.0):
    written = write("The statement ", temperature)
    print(f"--- temperature {temperature}\nThe statement {written}")
    assert len(written) == 160
