r"""
Pascanu's Ω
===========

Ω asks of the one gradient that there is to keep its norm on its way back, :math:`\| (\partial E /
\partial h_{t+1}) (\partial h_{t+1} / \partial h_t) \| \approx \| \partial E / \partial h_{t+1}
\|`. Here it is all that is descended on, in a network of small W whose gradient vanishes at
first.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, gradients, losses, training
from rnn_jax.cells import initializers

T, H = 30, 24
cell = cells.readout(cells.elman_preactivation(H, recurrent_init=initializers.orthogonal(0.6)), 1)
last = jnp.zeros(T).at[-1].set(1.0)  # the loss counts at the last step alone
at_last = lambda y, target: target[1] * losses.squared_error(y, target[:1])


def batch_at(i):
    """Return inputs [T, 16, 2] and targets, with the weight of each step beside them."""
    xs = jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (T, 16, 2))
    return xs, jnp.stack([jnp.ones((T, 16)), jnp.broadcast_to(last[:, None], (T, 16))], -1)


def omega(params, batch):
    """Return Ω of one batch, by the immediate derivative of the paper."""
    xs, targets = batch
    E = lambda ys: jnp.sum(last[:, None] * losses.squared_error(ys, targets[..., :1]), 0)
    return gradients.omega(cell, params, xs, E)


adam = optax.adam(2e-3)
start = training.create_train_state(cell.init(jax.random.key(0), 2), adam)
step = jax.jit(training.make_train_step(omega, adam))
state, record = training.fit(step, start, batch_at, 300, progress=False)
print(f"Ω: {record['loss'][0]:.2f} to {record['loss'][-1]:.2f}")

# %%
# The gradient's profile over the sequence, medians over fresh examples:
xs, targets = batch_at(10_000)
profiles = {}
for name, params in (("before", start.params), ("after", state.params)):
    found = jax.vmap(
        lambda xs, targets, params=params: gradients.decompose(
            cell, params, xs, targets, at_last
        ).state_log_norms[-1],
        in_axes=1,
    )(xs, targets)
    profiles[name] = np.median(found, 0)[1:] / np.log(10)
    print(f"{name}: ‖∂E/∂h_1‖ / ‖∂E/∂h_T‖ = 10^{profiles[name][0] - profiles[name][-1]:.1f}")
assert record["loss"][-1] < 0.5 * record["loss"][0]
assert np.ptp(profiles["after"]) < 0.5 * np.ptp(profiles["before"])

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, profile in profiles.items():
    ax.plot(range(1, T + 1), profile, label=name)
ax.set(xlabel="state t", ylabel=r"$\log_{10} \|\partial E / \partial h_t\|$")
ax.legend(frameon=False)
plt.show()
