r"""
What truncation leaves out
==========================

Truncated backpropagation through time takes every loss back over its last :math:`k_2` steps.
Where products of Jacobians shrink, its error falls at their rate; in a chaotic network no
:math:`k_2` below T is enough.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients, losses

T, H = 64, 32
k2s = (1, 2, 4, 8, 16, 32, 48, T)
xs = jax.random.normal(jax.random.key(1), (T, 2))
targets = jax.random.normal(jax.random.key(2), (T, 1))
cell = cells.readout(cells.elman(H), 1)  # W is orthogonal at first
params = cell.init(jax.random.key(0), 2)
figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
errors = {}
for gain in (0.7, 1.0, 3.0):
    net = params.replace(cell=params.cell.replace(W=gain * params.cell.W))
    found = gradients.truncation_error(cell, net, xs, targets, losses.squared_error, k1=1, k2s=k2s)
    errors[gain] = np.asarray(found.param_relative_error.cell.W)
    rate = gradients.decay_rate(gradients.jacobian_log_norms(cell, net, xs))
    print(f"gain {gain}: {float(rate):+.3f} nats per step; errors", errors[gain].round(4).tolist())
    ax.semilogy(k2s[:-1], errors[gain][:-1], "o-", label=f"gain {gain}: {float(rate):+.2f} nats")

# %%
# At :math:`k_2 = T` it is the whole gradient, whatever the network. At half of T it is all but
# right in the first network, and has little to do with the gradient in the last.
for error in errors.values():
    assert error[-1] < 1e-4
assert errors[0.7][k2s.index(32)] < 1e-4
assert errors[3.0][k2s.index(32)] > 0.5

ax.set(xlabel="stages $k_2$", ylabel="relative error of W's gradient")
ax.legend(frameon=False)
plt.show()
