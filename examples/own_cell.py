r"""
A cell of your own
==================

One function of one step on one example becomes a cell, and every tool works on it. This one has a
state of two parts, position and velocity: a network of driven oscillators.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import rnn_jax
from rnn_jax import cells, gradients, losses

H, I, T = 12, 3, 60


def step(p, state, x):
    """Take one step of y'' = tanh(W y + U x) − y − damping · y'."""
    force = jnp.tanh(p["W"] @ state["y"] + p["U"] @ x) - state["y"] - p["damping"] * state["v"]
    v = state["v"] + 0.2 * force
    y = state["y"] + 0.2 * v
    return {"v": v, "y": y}, y


def init(key, input_size):
    """Return parameters, in a pytree of any kind."""
    W_key, U_key = jax.random.split(key)
    W = jax.random.normal(W_key, (H, H)) / jnp.sqrt(H)
    U = jax.random.normal(U_key, (H, input_size)) / jnp.sqrt(input_size)
    return {"W": 0.5 * W, "U": U, "damping": jnp.array(0.5)}


cell = cells.from_function(step, state={"v": jnp.zeros(H), "y": jnp.zeros(H)}, init=init)
net = cells.readout(cell, 2)  # wrappers, too
params = net.init(jax.random.key(0), I)
xs = jax.random.normal(jax.random.key(1), (T, I))
targets = jax.random.normal(jax.random.key(2), (T, 2))


# %%
# The laws of the laboratory hold for it: the (t, k) terms add up to the gradient.
def E(params):
    """Return Σ_t E_t."""
    ys = rnn_jax.unroll(net, params, xs)[1]
    return losses.per_step(losses.squared_error, ys, targets).sum()


terms = gradients.decompose_terms(net, params, xs, targets, losses.squared_error)
for whole, parts in zip(jax.tree.leaves(jax.grad(E)(params)), jax.tree.leaves(terms), strict=True):
    error = np.linalg.norm(parts.sum((0, 1)) - whole) / np.linalg.norm(whole)
    assert error < 1e-4

# %%
# Damping sets how long gradients last, and parts of the state can be looked at by name.
figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for damping in (0.1, 0.5, 2.0):
    own = {**params.cell, "damping": jnp.array(damping)}
    norms = gradients.jacobian_log_norms(cell, own, xs, block=("y", "y"))
    print(f"damping {damping}: {float(gradients.decay_rate(norms)):+.3f} nats per step")
    ax.plot(gradients.by_lag(norms) / np.log(10), label=f"damping {damping}")
ax.set(xlabel="lag t − k", ylabel=r"$\log_{10} \|\partial y_t / \partial y_k\|$")
ax.legend(frameon=False)
plt.show()
