r"""
How fast gradients vanish
=========================

The spectral norms of :math:`\partial h_t / \partial h_k` of one Elman network, for all pairs
:math:`(t, k)`, by their lag. Norms are natural logarithms, so that nothing underflows.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients, plotting

T = 80
cell = cells.elman(64)  # h = tanh(b + W h + U x), W orthogonal
params = cell.init(jax.random.key(0), 8)
xs = jax.random.normal(jax.random.key(1), (T, 8))
log_norms = gradients.jacobian_log_norms(cell, params, xs)  # [T + 1, T + 1] at [t, k]

# %%
# One number for the rate, by least squares over all pairs, and one for how long a gradient lasts:
# the lag at which it has fallen by e.
rate = float(gradients.decay_rate(log_norms))
horizon = float(gradients.effective_horizon(gradients.by_lag(log_norms)))
print(f"{rate:.3f} nats per step; a factor e after {horizon:.1f} steps")
assert rate < 0  # every singular value of W is 1, and tanh takes off what there is

# %%
# The logarithm falls on a straight line: an exponential, with little spread between pairs.
low, middle, high = plotting.band_by_lag(np.asarray(log_norms)).T / np.log(10)
lag = np.arange(T + 1)
figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.fill_between(lag, low, high, alpha=0.3, label="10–90 % of the pairs")
ax.plot(lag, middle, label="median")
line = rate * (lag - lag.mean()) / np.log(10) + middle.mean()
ax.plot(lag, line, "k:", label=f"{rate:.3f} nats per step")
ax.set(xlabel="lag t − k", ylabel=r"$\log_{10} \|\partial h_t / \partial h_k\|$")
ax.legend(frameon=False)
plt.show()
