r"""
An ensemble over learning rates
===============================

Sixteen networks that differ in learning rate and seed, trained in one program: the networks are
one more axis of every array, and devices share them.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, tasks, training

RATES, SEEDS, STEPS = 10.0 ** np.arange(-4, 0, 0.5), 2, 250
task = tasks.adding(T=12, batch_size=32)
net = cells.readout(cells.gru(16), task.output_size)
adam = optax.inject_hyperparams(optax.adam)(learning_rate=1e-3)
train_step = training.make_task_train_step(net, task, adam, clip_norm=1.0)
rates = jnp.repeat(jnp.asarray(RATES, jnp.float32), SEEDS)
keys = jnp.tile(jax.random.split(jax.random.key(0), SEEDS), len(RATES))


@jax.vmap
def create(key, rate):
    """Return the start of one member, with a learning rate of its own."""
    state = training.create_train_state(net.init(key, task.input_size), adam)
    state.opt_state.hyperparams["learning_rate"] = rate
    return state


# %%
# ``over_ensemble`` maps the step over all members; ``fit`` takes it like any other.
step = training.over_ensemble(train_step, len(rates))
state, record = training.fit(step, create(keys, rates), lambda i: keys, STEPS, progress=False)
final = record["loss"][-50:].mean(0).reshape(len(RATES), SEEDS)  # metrics are [steps, members]
for rate, losses in zip(RATES, final, strict=True):
    print(f"learning rate {rate:.0e}: loss {losses.round(4).tolist()}")
print(f"without memory: {task.chance_loss:.4f}")

# %%
# Too small a rate learns nothing in this time, and the largest one is not the best.
best = int(final.mean(1).argmin())
assert final[0].mean() > 0.8 * task.chance_loss
assert best not in (0, len(RATES) - 1)
assert final[best].mean() < 0.5 * task.chance_loss

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.loglog(RATES, final, "o-", color="C0")
ax.axhline(task.chance_loss, color="0.5", ls=":", label="without memory")
ax.set(xlabel="learning rate", ylabel=f"loss after {STEPS} steps")
ax.legend(frameon=False)
plt.show()
